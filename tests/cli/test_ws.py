"""kirsch ws and kirsch ws serve, as real processes."""

import base64
import contextlib
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from tests.cli.application import KIRSCH, Application
from tests.cli.screen import COLUMNS, Screen
from tests.cli.test_completion import bash, complete

from kirsch.install import pip_install
from kirsch.websocket import Closed, Limits, Policy
from kirsch.websocket.core.opening import ClientOptions
from kirsch.websocket.threaded import connect
from kirsch.websocket.threaded import serve as serve_here

PROVIDERS = ["asyncio", "threaded", "tornado", "gevent", "cherrypy", "wsgi"]
PATIENCE = 30
LARGE = ClientOptions(limits=Limits(message=64 << 20, queue=256 << 20), deflate=None)


def environment(**more: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("KIRSCH")} | more


def kirsch(*arguments: str, stdin: bytes = b"", **variables: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*KIRSCH, *arguments],
        input=stdin,
        env=environment(**variables),
        capture_output=True,
        timeout=60,
        start_new_session=True,
    )


def ok(*arguments: str, stdin: bytes = b"", **variables: str) -> bytes:
    done = kirsch(*arguments, stdin=stdin, **variables)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def fails(*arguments: str, status: int = 1, stdin: bytes = b"") -> str:
    """The one line it says on standard error."""
    done = kirsch(*arguments, stdin=stdin)
    assert done.returncode == status, done.stderr
    line, _, rest = done.stderr.decode().partition("\n")
    assert rest == ""
    assert line.startswith("kirsch: ")
    return line.removeprefix("kirsch: ").removesuffix(f" (see kirsch {' '.join(verb(arguments))} --help)")


def verb(arguments: tuple[str, ...]) -> tuple[str, ...]:
    return arguments[:2] if arguments[1] == "serve" else arguments[:1]


@contextlib.contextmanager
def serving(*options: str, log: str = "") -> Iterator[str]:
    """The URL of `kirsch ws serve`, which SIGTERM must end with status 0; `log` is all it may say."""
    process = subprocess.Popen(
        [*KIRSCH, "ws", "serve", *options],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        found = re.fullmatch(r"listening on (wss?(\+unix)?://\S+)\n", line)
        if found is None:
            process.kill()
            pytest.fail(line + process.communicate()[1])
        yield found[1]
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out) == (0, "")
        assert re.fullmatch(log, errors), errors
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    with serving("0") as url:
        yield url


# The contract of all of them is tested in kirsch-websocket; here that each is started.
@pytest.mark.parametrize(
    "provider",
    [
        provider if provider in ("asyncio", "cherrypy") else pytest.param(provider, marks=pytest.mark.soak)
        for provider in PROVIDERS
    ],
)
class TestEveryProvider:
    def test_echoes_as_it_came(self, provider):
        with serving("127.0.0.1:0", "--provider", provider) as url:
            lines = "Grüße\n\n世界 🌍\n".encode()
            assert ok("ws", url, "--timeout", "0.3", stdin=lines) == lines
            noise = os.urandom(100_000)
            assert ok("ws", url, "--binary", "-1", stdin=noise) == noise

    def test_a_hundred_messages_of_a_mebibyte_in_flight(self, provider):
        message = os.urandom(1 << 20)
        with serving("0", "--provider", provider) as url, connect(url, options=LARGE) as ws:
            sender = threading.Thread(target=lambda: [ws.send(message) for _ in range(100)])
            sender.start()
            sender.join()
            for _ in range(100):
                assert ws.recv(PATIENCE) == message

    @pytest.mark.slow
    def test_sigterm_says_goodbye(self, provider):
        with contextlib.ExitStack() as stack:
            with serving("0", "--provider", provider) as url:
                ws = stack.enter_context(connect(url))
                ws.send("hello")
                assert ws.recv(PATIENCE) == "hello"
            with pytest.raises(Closed) as closed:
                ws.recv(PATIENCE)
            assert closed.value.code == 1001

    @pytest.mark.slow
    def test_sizes_and_origins(self, provider):
        logged = r"127\.0\.0\.1:\d+: .*origin.*\n127\.0\.0\.1:\d+: .*1009.*\n"
        options = ("--provider", provider, "--max-size", "1K", "--origin", "https://example.com")
        with serving("0", *options, "--subprotocol", "chat", log=logged) as url:
            assert "403" in fails("ws", url, "--origin", "https://example.org")
            ours = ("--origin", "https://example.com", "-1")
            assert ok("ws", url, *ours, stdin=b"x" * 1024) == b"x" * 1024 + b"\n"
            assert "closed: 1009" in fails("ws", url, *ours, stdin=b"x" * 1025)

    def test_the_port_is_in_use(self, provider):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            line = fails("ws", "serve", str(port), "--provider", provider)
        assert line == f"cannot listen on 127.0.0.1:{port}: Address already in use"

    def test_there_is_no_such_address(self, provider):
        line = fails("ws", "serve", "192.0.2.1:0", "--provider", provider)
        assert line == "cannot listen on 192.0.2.1:0: Cannot assign requested address"

    @pytest.mark.slow
    def test_tls(self, provider, certificate):
        cert, key = str(certificate.file), str(certificate.key)
        tls = ("--ssl-cert", cert, "--ssl-key", key)
        with serving("localhost:0", "--provider", provider, *tls, log="(?s).*") as url:
            assert url.startswith("wss://")
            url = f"wss://localhost:{url.rpartition(':')[2]}"
            assert ok("ws", url, "-1", "--ca", cert, stdin=b"hello\n") == b"hello\n"
            assert ok("ws", url, "-1", "--insecure", stdin=b"hello\n") == b"hello\n"
            assert fails("ws", url).startswith("the certificate of localhost is not accepted")

    def test_a_unix_socket(self, provider, tmp_path):
        path = tmp_path / "socket"
        with serving("--unix", str(path), "--provider", provider) as url:
            assert url == f"ws+unix://{path}"
            assert path.stat().st_mode & 0o077 == 0
            assert ok("ws", url, "-1", stdin=b"hello\n") == b"hello\n"
        assert not path.exists()


APP = """
async def app(scope, receive, send):
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": f"{scope['path']} {event['text']}"})
"""


class TestASGI:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path, monkeypatch):
        (tmp_path / "asgi_application.py").write_text(APP)
        monkeypatch.chdir(tmp_path)

    @pytest.mark.slow
    def test_an_application_is_served(self, certificate, tmp_path):
        application = ("--asgi", "asgi_application:app")
        logged = r"127\.0\.0\.1:\d+: .*1009.*\n"
        with serving("0", *application, "--max-size", "1K", log=logged) as url:
            assert ok("ws", f"{url}there", "-1", stdin=b"hello\n") == b"/there hello\n"
            assert "closed: 1009" in fails("ws", url, "-1", stdin=b"x" * 1025)
        with serving("--unix", str(tmp_path / "socket"), *application) as url:
            assert ok("ws", url, "-1", stdin=b"hello\n") == b"/ hello\n"
        assert not (tmp_path / "socket").exists()
        cert, key = str(certificate.file), str(certificate.key)
        with serving("0", *application, "--ssl-cert", cert, "--ssl-key", key) as url:
            assert ok("ws", url, "-1", "--insecure", stdin=b"hello\n") == b"/ hello\n"

    def test_what_cannot_be_served(self):
        line = fails("ws", "serve", "0", "--asgi", "asgi_application:none")
        assert line == 'Attribute "none" not found in module "asgi_application".'
        line = fails("ws", "serve", "0", "--asgi", "nowhere:app")
        assert line == 'Could not import module "nowhere".'
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            line = fails("ws", "serve", str(port), "--asgi", "asgi_application:app")
        assert line == f"cannot listen on 127.0.0.1:{port}: Address already in use"


@pytest.mark.parametrize("provider", ["asyncio", "tornado"])
def test_uvloop(provider):
    pytest.importorskip("uvloop")
    with serving("0", "--loop", "uvloop", "--provider", provider) as url:
        assert ok("ws", url, "-1", stdin=b"hello\n") == b"hello\n"


@pytest.mark.parametrize(
    ("module", "provider", "extra"),
    [("tornado", "tornado", "tornado"), ("gevent", "gevent", "gevent"), ("cherrypy", "cherrypy", "cherrypy")],
)
def test_a_provider_that_is_not_installed(module, provider, extra):
    script = f"import sys; sys.modules[{module!r}] = None; from kirsch.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", script, "ws", "serve", "0", "--provider", provider]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    line = rf"kirsch: .*{module}.*: {re.escape(pip_install(f'kirsch-websocket[{extra}]'))}\n"
    assert re.fullmatch(line, done.stderr, re.IGNORECASE)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "say where: [HOST:]PORT or --unix PATH"),
        (("70000",), "argument [HOST:]PORT: port 70000 is above 65535"),
        (
            ("::1:80",),
            "argument [HOST:]PORT: '::1:80' is not [HOST:]PORT: write 8080, 0.0.0.0:8080 or [::1]:8080",
        ),
        (("0", "--ssl-key", "/key"), "--ssl-key goes with --ssl-cert"),
        (("0", "--threads", "2"), "--threads is for threaded, cherrypy, wsgi"),
        (("0", "--provider", "gevent", "--loop", "uvloop"), "--loop is for asyncio, tornado"),
        (
            ("0", "--asgi", "a:b", "--origin", "x"),
            "--origin does not go with --asgi: the application decides",
        ),
        (
            ("0", "--asgi", "a:b", "--provider", "gevent"),
            "--provider does not go with --asgi: uvicorn serves the application",
        ),
        (("0", "--subprotocol", ","), "',' is no subprotocol's name"),
    ],
)
def test_wrong_usage_of_serve(arguments, line):
    assert fails("ws", "serve", *arguments, status=2) == line


def test_certificates_that_are_none(certificate):
    key = str(certificate.key)
    assert fails("ws", "serve", "0", "--ssl-cert", "/none") == "/none: No such file or directory"
    line = fails("ws", "serve", "0", "--ssl-cert", key)
    assert line == f"{key}: holds no certificate with its private key (PEM)"
    assert fails("ws", "ws://x", "--ca", key) == f"{key}: holds no certificates (PEM)"


class TestPipes:
    def test_lines(self, echo):
        numbers = b"".join(b"%d\n" % number for number in range(20_000))
        assert ok("ws", echo, stdin=numbers) == numbers
        # The last line need not end.
        assert ok("ws", echo, "--exit-after", "2", stdin=b"one\ntwo") == b"one\ntwo\n"
        assert ok("ws", echo.removeprefix("ws://"), "-1", stdin=b"one\ntwo\n") == b"one\n"

    def test_json(self, echo):
        lines = ok("ws", echo, "--json", "--timeout", "0.3", stdin="ä\nb\n".encode()).decode().splitlines()
        closed = {"closed": {"code": 1000, "reason": ""}}
        assert [json.loads(line) for line in lines] == [{"text": "ä"}, {"text": "b"}, closed]
        lines = ok("ws", echo, "--json", "--binary", "-1", stdin=b"\0\xff").splitlines()
        assert json.loads(lines[0]) == {"binary": "00ff"}

    def test_a_file_is_sent_as_one_binary_message(self, echo, tmp_path):
        data = os.urandom(3 << 20)
        (tmp_path / "data").write_bytes(data)
        with (tmp_path / "data").open() as file:
            done = subprocess.run([*KIRSCH, "ws", echo, "--binary", "-1"], stdin=file, capture_output=True)
        assert (done.returncode, done.stdout == data) == (0, True)

    def test_too_few_messages(self, echo):
        line = fails("ws", echo, "--exit-after", "3", "--timeout", "0.2", stdin=b"one\n")
        assert line == "1 of 3 messages came within 0.2 s"

    def test_what_is_not_utf_8(self, echo):
        line = fails("ws", echo, stdin=b"good\n\xff\n")
        assert line == "line 2 of standard input is not UTF-8: --binary sends bytes"

    def test_listen_goes_on_until_the_peer_closes(self):
        def feed(ws):
            ws.send("first")
            ws.send(b"\x00\x01")
            ws.send("last")

        with serve_here(feed) as server:
            assert ok("ws", server.url, "--listen") == b"first\n0001\nlast\n"

    def test_the_peer_closes_with_an_error(self):
        with serve_here(lambda ws: ws.close(4001, "enough")) as server:
            assert fails("ws", server.url, "--listen") == "the connection was closed: 4001 enough"
        # What the peer says moves no cursor, and begins no line.
        with serve_here(lambda ws: ws.close(4001, "so\n\x1b[2Jlong")) as server:
            for how in ("--listen", "--bench"):
                line = fails("ws", server.url, how)
                assert line == r"the connection was closed: 4001 so\n\x1b[2Jlong"
        with serve_here(lambda ws: ws.close(4001)) as server:
            assert fails("ws", server.url, "--listen") == "the connection was closed: 4001"

    def test_the_reader_goes_away(self, echo):
        ends = []

        def feed(ws):
            with contextlib.suppress(Closed):
                while True:
                    ws.send("line")
                    ws.drain()
            ws.wait_closed()
            ends.append(ws.close_received.code)

        with serve_here(feed) as server:
            command = [*KIRSCH, "ws", server.url, "--listen"]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            assert process.stdout
            assert process.stdout.readline() == b"line\n"
            process.stdout.close()
            assert process.wait(PATIENCE) == 0
        assert ends == [1000]

    def test_ctrl_c_closes(self):
        codes = queue.SimpleQueue()

        def note(ws):
            ws.send("hello")
            for _ in ws:
                pass
            codes.put(ws.close_received.code)

        with serve_here(note) as server:
            pipe = subprocess.PIPE
            process = subprocess.Popen([*KIRSCH, "ws", server.url], stdin=pipe, stdout=pipe, stderr=pipe)
            assert process.stdout
            assert process.stdout.readline() == b"hello\n"
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=PATIENCE) == (b"", b"")
            assert (process.returncode, codes.get(timeout=PATIENCE)) == (130, 1000)


class TestHowItConnects:
    def test_what_is_sent(self):
        asked = []

        def note(ws):
            asked.append(ws.request)
            ws.send(ws.subprotocol)

        policy = Policy(subprotocols=("two",), origins=("*",))
        with serve_here(note, policy=policy) as server:
            out = ok(
                *(
                    "ws",
                    f"{server.url}chat?room=1",
                    "--listen",
                    "--subprotocol",
                    "one",
                    "--subprotocol",
                    "two",
                ),
                *("--origin", "https://example.com", "--header", "X-Token: a b", "--no-compress"),
                *("--user", "mary"),
                KIRSCH_WS_PASSWORD="s3cret:ü",
            )
        request = asked[0]
        assert out == b"two\n"
        assert request.target == "/chat?room=1"
        assert request.headers.get("Origin") == "https://example.com"
        assert request.headers.get("X-Token") == "a b"
        assert request.headers.get("Sec-WebSocket-Extensions") is None
        expected = base64.b64encode("mary:s3cret:ü".encode()).decode()
        assert request.headers.get("Authorization") == f"Basic {expected}"

    def test_the_password_is_asked_for(self):
        asked = []

        def note(ws):
            asked.append(ws.request.headers.get("Authorization"))

        with serve_here(note) as server:
            url = server.url.replace("://", "://mary@")
            with Screen([*KIRSCH, "ws", url, "--listen"], environment()) as screen:
                screen.shows("Password of mary:")
                screen.type("secret\n")
                assert screen.status() == 0
                assert "secret" not in "".join(screen.seen)
        assert asked == ["Basic " + base64.b64encode(b"mary:secret").decode()]

    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            (("http://x/",), "http:// is not a WebSocket's scheme: write ws://"),
            (
                ("ws://u:p@x/",),
                "others can see a password in a URL: use --user, "
                "and KIRSCH_WS_PASSWORD where nobody can type",
            ),
            (("x", "--ping", "--bench"), "--ping or --bench, not both"),
            (("x", "--size", "3"), "--size goes with --ping or --bench"),
            (("x", "--ping", "--size", "126"), "a ping carries 125 bytes at most (RFC 6455, 5.5)"),
            (("x", "-1", "--exit-after", "3"), "--exit-after does not go with --one, --ping or --bench"),
            (("x", "--header", "x"), "argument --header: 'x' is not a header field: write 'NAME: VALUE'"),
            (("x", "--header", "Upgrade: x"), "Upgrade is a header field that the handshake writes itself"),
            (("x", "--exit-after", "0"), "argument --exit-after: '0' is not a whole number above 0"),
            (("x", "--ping=0"), "argument --ping: '0' is not a whole number above 0"),
            (("x", "--ping", "0"), "argument --ping: '0' is not a whole number above 0"),
            (("--bench", "0", "x"), "argument --bench: '0' is not a number of seconds above 0"),
            (
                ("x", "--user", "mary"),
                "there is no terminal to ask for mary's password: set KIRSCH_WS_PASSWORD",
            ),
            (
                ("x", "--proxy", "http://a:b@c"),
                "others can see a password in --proxy: set http_proxy or https_proxy",
            ),
        ],
    )
    def test_wrong_usage(self, arguments, line):
        assert fails("ws", *arguments, status=2) == line

    def test_nobody_listens(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        assert fails("ws", f"127.0.0.1:{port}") == f"nothing listens on 127.0.0.1:{port}"
        assert fails("ws", "ws+unix:///none") == "there is no socket /none"

    def test_it_is_no_websocket(self):
        with serve_here({"/chat": lambda ws: None}) as server:
            assert "404" in fails("ws", server.url)

    def test_nobody_answers(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            place = f"127.0.0.1:{silent.getsockname()[1]}"
            line = fails("ws", place, "--timeout", "0.3")
        assert line == f"{place} did not answer within 0.3 seconds"


class TestMeasures:
    def test_ping(self, echo):
        out = ok("ws", "--ping", "3", "--interval", "0.01", echo).decode().splitlines()
        place = echo.removeprefix("ws://").removesuffix("/")
        assert out[0] == f"PING {echo}: 8 bytes"
        for number in (1, 2, 3):
            assert re.fullmatch(rf"8 bytes from {place}: seq={number} time=[\d.]+ ms", out[number])
        assert out[5] == f"--- {echo} ping statistics ---"
        assert re.fullmatch(r"3 pings, 3 pongs, 0% lost, time \d+ ms", out[6])
        times = re.fullmatch(r"rtt min/avg/max/mdev = ([\d.]+)/([\d.]+)/([\d.]+)/[\d.]+ ms", out[7])
        assert times
        assert 0 < float(times[1]) <= float(times[2]) <= float(times[3])

    def test_json(self, echo):
        lines = ok("ws", echo, "--ping=2", "--interval", "0.01", "--size", "125", "--json").splitlines()
        one, two, sums = map(json.loads, lines)
        assert (one["seq"], two["seq"]) == (1, 2)
        assert (sums["pings"], sums["pongs"]) == (2, 2)
        assert sums["min_ms"] == min(one["ms"], two["ms"])

    def test_ctrl_c_ends_pings_with_their_sum(self, echo):
        command = [*KIRSCH, "ws", "--ping", echo, "--interval", "0.05"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout
        for _ in range(3):
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, errors) == (0, "")
        assert re.search(r"\d pings, \d pongs, .*\nrtt", out)

    @pytest.mark.slow
    def test_a_peer_that_does_not_answer(self):
        server = subprocess.Popen([*KIRSCH, "ws", "serve", "0"], stdout=subprocess.PIPE, text=True)
        process = None
        try:
            assert server.stdout
            url = server.stdout.readline().split()[-1]
            options = ("--ping", "3", "--timeout", "0.3", "--interval", "0.1")
            process = subprocess.Popen([*KIRSCH, "ws", url, *options], stdout=subprocess.PIPE, text=True)
            assert process.stdout
            process.stdout.readline()
            assert "seq=1" in process.stdout.readline()
            server.send_signal(signal.SIGSTOP)
            assert "no pong: seq=" in process.stdout.read().rpartition("---\n")[0]
        finally:
            server.kill()
            server.communicate()
            if process:
                process.communicate(timeout=PATIENCE)

    def test_bench(self, echo):
        found = json.loads(ok("ws", echo, "--bench", "0.3", "--json"))
        assert found["messages"] >= found["in_flight"] == 100
        assert found["size"] == 64
        assert 0 < found["p50_ms"] <= found["p99_ms"]
        assert found["rate"] == pytest.approx(found["messages"] / found["seconds"], rel=0.01)
        options = ("--size", "256K", "--in-flight", "8", "--binary")
        out = ok("ws", "--bench", "0.2", echo, *options).decode()
        assert re.search(r"^\d+ messages of 262144 bytes came back in [\d.]+ s, 8 in flight\n", out)
        assert re.search(r"^[\d,]+/s \([\d,.]+ MB/s\), p50 [\d.]+ ms, p99 [\d.]+ ms\n\Z", out, re.MULTILINE)

    def test_a_bench_of_what_is_no_echo(self):
        def otherwise(ws):
            for message in ws:
                ws.send(message + "!")

        with serve_here(otherwise) as server:
            line = fails("ws", server.url, "--bench", "1")
            assert line == f"{server.url} is no echo: something else came back"
        with serve_here(lambda ws: list(ws)) as server:
            line = fails("ws", server.url, "--bench", "1", "--timeout", "0.3")
            assert line == f"{server.url} is no echo: nothing came back within 0.3 s"


class Chat:
    """A server in this process that a test speaks through, and a person on a terminal."""

    def __init__(self, server, screen):
        self.screen = screen
        self.got, self.codes = server.got, server.codes
        self.ws = server.connections[0]

    def type(self, text):
        self.screen.type(text)

    def push(self, message):
        self.ws.send(message)


@pytest.fixture
def chat() -> Iterator[Chat]:
    got, codes, came = [], queue.SimpleQueue(), threading.Event()

    def note(ws):
        came.set()
        with contextlib.suppress(Closed):
            for message in ws:
                got.append(message)  # noqa: PERF402 - those that came before the end count too
        codes.put(ws.close_received and (ws.close_received.code, ws.close_received.reason))

    with serve_here(note) as server:
        server.got, server.codes = got, codes
        with Screen([*KIRSCH, "ws", server.url], environment()) as screen:
            screen.wait(lambda: screen.seen[-1:] == [">"])
            assert came.wait(PATIENCE)
            assert screen.seen[0].startswith(f"connected to {server.url}")
            yield Chat(server, screen)


class TestTerminal:
    def test_lines_are_sent(self, chat):
        chat.type("hello\n")
        chat.type("//slash\n\n")
        chat.type("/binary 00 ff\n")
        chat.screen.shows("> hello", "> //slash", ">", "> /binary 00 ff", ">")
        chat.type("\x04")
        assert chat.screen.status() == 0
        assert chat.got == ["hello", "/slash", "", b"\x00\xff"]
        assert chat.screen.seen[-2:] == ["closed: 1000", ""]
        assert chat.codes.get(timeout=PATIENCE) == (1000, "")

    def test_messages_do_not_mangle_what_is_being_typed(self, chat):
        chat.type("half a li")
        chat.screen.shows("> half a li")
        chat.push("one")
        chat.screen.shows("< one", "> half a li")
        # The cursor stays where it was.
        chat.type("\x1b[D\x1b[D")
        chat.screen.has_cursor(0, 9)
        chat.push("two\nlines")
        chat.screen.shows("< one", "< two", "  lines", "> half a li")
        chat.screen.has_cursor(0, 9)
        chat.type("no")
        chat.screen.shows("> half a noli")
        chat.type("\n")
        chat.screen.shows("> half a noli", ">")
        # A line longer than the screen is wide.
        chat.type("y" * (COLUMNS + 10))
        chat.screen.shows("> " + "y" * (COLUMNS - 2), "y" * 12)
        chat.push("three")
        chat.screen.shows("> half a noli", "< three", "> " + "y" * (COLUMNS - 2), "y" * 12)
        chat.type("\n")
        chat.screen.shows("y" * 12, ">")
        chat.type("\x03")
        assert chat.screen.status() == 0
        assert chat.got == ["half a noli", "y" * (COLUMNS + 10)]
        assert chat.codes.get(timeout=PATIENCE) == (1000, "")

    def test_many_messages_at_once(self, chat):
        chat.type("typing")
        for number in range(500):
            chat.push(str(number))
        chat.screen.shows(*[f"< {number}" for number in range(500)], "> typing")

    def test_nothing_in_a_message_reaches_the_terminal(self, chat):
        chat.push("\x1b[2J\x07\u202e")
        chat.push(bytes(300))
        chat.screen.wait(lambda: "…" in chat.screen.seen[-2] and chat.screen.seen[-1] == ">")
        shown = "".join(chat.screen.seen)
        assert "< \\x1b[2J\\x07\\u202e< 300 bytes: 00 00" in shown

    def test_commands(self, chat):
        chat.type("/ping\n")
        chat.screen.wait(lambda: chat.screen.seen[-2].startswith("pong"))
        assert re.fullmatch(r"pong 1 in [\d.]+ ms", chat.screen.seen[-2])
        chat.type("/nosuch\n")
        chat.screen.wait(lambda: "no /nosuch" in "".join(chat.screen.seen))
        chat.type("/binary xyz\n")
        chat.screen.wait(lambda: "hexadecimal" in "".join(chat.screen.seen))
        chat.type("/close 999\n")
        chat.screen.wait(lambda: "cannot be sent" in "".join(chat.screen.seen))
        chat.type("/help\n")
        chat.screen.wait(lambda: "//TEXT" in "".join(chat.screen.seen))
        chat.type("/close 4001 so long\n")
        assert chat.screen.status() == 0
        assert chat.codes.get(timeout=PATIENCE) == (4001, "so long")

    @pytest.mark.parametrize("line", ["/quit\n", "/close\n", "/close enough of it\n"])
    def test_other_ways_to_end(self, chat, line):
        chat.type(line)
        assert chat.screen.status() == 0
        assert chat.codes.get(timeout=PATIENCE) == (1000, "enough of it" if "enough" in line else "")

    def test_the_peer_closes_while_somebody_types(self, chat):
        chat.type("half")
        chat.screen.shows("> half")
        chat.ws.close(4002, "we close")
        assert chat.screen.status() == 1
        assert chat.screen.seen[-2:] == ["kirsch: the connection was closed: 4002 we close", ""]


class TestCompletion:
    def test_what_can_follow(self):
        def words(*line: str) -> list[str]:
            return complete(line)[1]

        assert words("w") == ["ws", "why"] or words("w") == ["why", "ws"]
        assert words("ws", "") == words("help", "ws", "") == ["serve"]
        assert words("ws", "serve", "--provider", "") == PROVIDERS
        assert words("ws", "serve", "0", "--provider", "t") == ["threaded", "tornado"]
        assert words("--endpoint", "unix:///x", "ws", "serve", "--lo") == ["--loop"]
        assert words("ws", "--in") == ["--in-flight", "--interval", "--insecure"]
        assert words("ws", "ws://x", "") == []
        assert complete(("ws", "serve", "--ssl-cert", ""))[0] == "files"

    def test_bash(self, application: Application):
        assert bash(application, "kirsch ws s") == ["serve"]
        assert bash(application, "kirsch ws serve 0 --provider t") == ["threaded", "tornado"]
        assert bash(application, "kirsch ws ws://127.0.0.1:80 --no") == ["--no-compress"]
