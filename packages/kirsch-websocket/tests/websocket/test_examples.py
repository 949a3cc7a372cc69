"""examples/websocket, each run as a person runs it, talked to over real sockets; and what docs say."""

import contextlib
import dataclasses
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from tests.source import PYTHONPATH
from tests.websocket import wire
from tests.websocket.programs import ending, wait
from tests.websocket.snippets import SHOWN, blocks

from kirsch.websocket import Closed, HandshakeError, Limits
from kirsch.websocket.core.frame import BINARY, FIN, header
from kirsch.websocket.core.opening import ClientOptions
from kirsch.websocket.threaded import connect

ROOT = Path(__file__).parents[4]
EXAMPLES = ROOT / "examples" / "websocket"
DOCS = ROOT / "packages/kirsch-websocket/docs"
PATIENCE = 20


class Running:
    """An example that runs: its URL, and what it prints."""

    def __init__(self, process):
        self.process = process
        self.url = ""

    def line(self):
        return self.process.stdout.readline().rstrip("\n")

    def lines_until(self, pattern):
        """All lines up to the one that matches."""
        lines = [self.line()]
        while not re.fullmatch(pattern, lines[-1]):
            assert self.process.poll() is None or lines[-1], lines
            lines.append(self.line())
        return lines

    @property
    def websocket(self):
        return self.url.replace("http", "ws", 1)


def started(tmp_path, *command, path=PYTHONPATH):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("KIRSCH")}
    environment |= {"PYTHONPATH": str(path), "NO_PROXY": "*"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    )


@contextlib.contextmanager
def running(tmp_path, name, *arguments, serves=True):
    """An example, from its first line to Ctrl-C, which must end it quietly."""
    process = started(tmp_path, sys.executable, EXAMPLES / f"{name}.py", *map(str, arguments))
    # What hangs is a test that fails.
    timer = threading.Timer(PATIENCE * 3, process.kill)
    timer.start()
    example = Running(process)
    try:
        with ending(process):
            if serves:
                line = example.line()
                assert line.startswith("listening on "), line + process.stderr.read()
                example.url = line.removeprefix("listening on ")
            yield example
            process.send_signal(signal.SIGINT)
            wait(process, PATIENCE, f"{name} to end by Ctrl-C")
            assert "Traceback" not in process.stderr.read()
            assert process.returncode == 0
    finally:
        timer.cancel()
        process.stderr.close()


def options(**fields):
    return ClientOptions(headers=fields)


def http(url, **form):
    data = urllib.parse.urlencode(form).encode() if form else None
    with urllib.request.urlopen(url, data, timeout=PATIENCE) as response:
        return response.read().decode(), response.headers


def test_chat(tmp_path):
    with running(tmp_path, "chat", 0) as chat, connect(f"{chat.url}?name=ada") as ada:
        with connect(f"{chat.url}?name=bob") as bob:
            assert ada.recv(PATIENCE) == "* ada is here"
            assert ada.recv(PATIENCE) == "* bob is here"
            assert bob.recv(PATIENCE) == "* bob is here"
            bob.send("hello")
            assert ada.recv(PATIENCE) == "bob: hello"
            bob.send(b"\0")
            assert bob.recv(PATIENCE) == "bob: hello"
            with pytest.raises(Closed, match="1003 text, please"):
                bob.recv(PATIENCE)
        assert ada.recv(PATIENCE) == "* bob is gone"
        ada.send("x" * 5000)
        with pytest.raises(Closed, match="1009"):
            ada.recv(PATIENCE)


def test_ticker(tmp_path):
    with running(tmp_path, "ticker", 0) as ticker, connect(ticker.url) as ws:
        ws.send("nuts")
        assert ws.recv(PATIENCE) == "there are apples, cherries, pears"
        ws.send("pears")
        for _ in range(2):
            assert re.fullmatch(r"pears \d\.\d\d", ws.recv(PATIENCE))


def test_follow_connects_again(tmp_path):
    with running(tmp_path, "ticker", 0) as ticker:
        port = urllib.parse.urlsplit(ticker.url).port
        with running(tmp_path, "follow", ticker.url, "apples", serves=False) as follow:
            lines = follow.lines_until(r"apples \d\.\d\d")
            assert lines[:-1] == [f"connected to 127.0.0.1:{port}"]
            ticker.process.send_signal(signal.SIGINT)
            wait(ticker.process, PATIENCE, "the ticker to end")
            assert follow.lines_until("the server has closed")
            with running(tmp_path, "ticker", port) as again:
                assert follow.lines_until(r"connected to .*")
                assert follow.lines_until(r"apples \d\.\d\d")
                again.process.kill()
                assert follow.lines_until("lost: 1006")
                again.process.wait()
                again.process.send_signal = lambda signal: None
                again.process.returncode = 0


def test_follow_gives_up_where_no_time_heals(tmp_path):
    with running(tmp_path, "primes", 0) as elsewhere:
        process = started(
            tmp_path, sys.executable, EXAMPLES / "follow.py", elsewhere.url.replace("http", "ws")
        )
        out, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (1, "")
    assert re.fullmatch(r"the server refuses: 200 'OK' \(HTTP status 200\)\n", errors)


@pytest.mark.parametrize("size", [0, 10, 8 << 20])
def test_files_are_sent_and_received(tmp_path, size):
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    with running(tmp_path, "receive_files", 0, tmp_path / "there") as receiver:
        process = started(tmp_path, sys.executable, EXAMPLES / "send_file.py", receiver.url, "file")
        out, errors = process.communicate(timeout=PATIENCE)
    digest = hashlib.sha256(content).hexdigest()
    assert (process.returncode, out, errors) == (0, f"{size} bytes, {digest}\n", "")
    assert {path.name: path.read_bytes() for path in (tmp_path / "there").iterdir()} == {digest: content}


def test_half_a_file_is_not_kept(tmp_path):
    with running(tmp_path, "receive_files", 0, tmp_path / "there") as receiver:
        with wire.dial(("127.0.0.1", urllib.parse.urlsplit(receiver.url).port)) as peer:
            peer.sock.sendall(header(FIN | BINARY, 100_000, True) + b"\0\0\0\0" + b"x" * 50_000)
        with connect(receiver.url) as ws:
            ws.send("a text is a file too")
            assert ws.recv(PATIENCE).startswith("20 bytes, ")
    assert [path.stat().st_size for path in (tmp_path / "there").iterdir()] == [20]


def test_what_cannot_be_sent_is_said_in_a_line(tmp_path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{nobody.getsockname()[1]}/"
        process = started(tmp_path, sys.executable, EXAMPLES / "send_file.py", url, EXAMPLES / "chat.py")
        out, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (1, "")
    assert errors.startswith("nothing listens on 127.0.0.1:")
    assert errors.count("\n") == 1


def test_votes(tmp_path):
    pytest.importorskip("tornado")
    with running(tmp_path, "votes", 0) as votes:
        page, headers = http(votes.url)
        assert "new WebSocket" in page
        cookie = headers["Set-Cookie"].partition(";")[0]
        with pytest.raises(HandshakeError, match="403"):
            connect(f"{votes.websocket}live")
        with connect(f"{votes.websocket}live", options=options(Cookie=cookie)) as ws:
            assert ws.recv(PATIENCE) == "{}"
            ws.send("tea")
            assert ws.recv(PATIENCE) == '{"tea": 1}'
            ws.send("coffee")
            assert ws.recv(PATIENCE) == '{"coffee": 1}'


def test_notices(tmp_path):
    pytest.importorskip("cherrypy")
    with running(tmp_path, "notices", 0) as notices, connect(f"{notices.websocket}live") as ws:
        assert "new WebSocket" in http(f"{notices.url}pin", text="The kettle is on")[0]
        assert ws.recv(PATIENCE) == "The kettle is on"
        with connect(f"{notices.websocket}live") as late:
            assert late.recv(PATIENCE) == "The kettle is on"


def test_notices_says_why_it_does_not_listen():
    pytest.importorskip("cherrypy")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, EXAMPLES / "notices.py", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"notices: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_primes(tmp_path):
    with running(tmp_path, "primes", 0) as primes:
        assert "new WebSocket" in http(primes.url)[0]
        counted(f"{primes.websocket}count")


def test_primes_in_gunicorn(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = [
            "gunicorn",
            "--worker-class",
            "gthread",
            "--threads",
            "2",
            "--bind",
            f"fd://{listener.fileno()}",
        ]
        command += ["--chdir", str(EXAMPLES), "--no-control-socket", "primes:application"]
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=os.environ | {"PYTHONPATH": PYTHONPATH},
            pass_fds=[listener.fileno()],
            stderr=subprocess.DEVNULL,
            cwd=tmp_path,
        )
    with ending(process):
        assert "new WebSocket" in http(f"http://127.0.0.1:{port}/")[0]
        counted(f"ws://127.0.0.1:{port}/count")
        process.send_signal(signal.SIGTERM)
        wait(process, PATIENCE, "gunicorn to end")


def counted(url):
    with connect(url) as ws:
        ws.send("many")
        assert ws.recv(PATIENCE) == "a number up to a million, please"
        ws.send("30000")
        assert ws.recv(PATIENCE) == "20000 of 30000: 2262 so far"
        assert ws.recv(PATIENCE) == "3245 primes are below 30000"


def test_provider(tmp_path):
    with running(tmp_path, "provider", 0) as provider:
        large = os.urandom(1 << 20)
        limits = Limits(queue=8 << 20)
        with connect(provider.url, options=ClientOptions(limits=limits)) as ws:
            for message in ("hello", b"", large):
                ws.send(message)
                assert ws.recv(PATIENCE) == message
            ws.send(b"x" * (5 << 20))
            with pytest.raises(Closed, match="1009"):
                ws.recv(PATIENCE)
        with pytest.raises(HandshakeError, match="403"):
            connect(provider.url, options=ClientOptions(origin="https://example.com"))


PAGES = sorted(page for page in DOCS.glob("*.md") if "```python" in page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_show_the_examples_as_they_are(page):
    for line, text in blocks(page):
        if shown := SHOWN.match(text):
            assert text == shown[0] + (ROOT / shown[1]).read_text(), f"{page.name}:{line} is not {shown[1]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_pages_say_runs(page, tmp_path):
    process = started(tmp_path, sys.executable, "-m", "tests.websocket.snippets", page)
    out, errors = process.communicate(timeout=PATIENCE * 3)
    assert process.returncode == 0, errors
    assert int(out.splitlines()[-1]) == sum(not SHOWN.match(text) for _, text in blocks(page))


def test_every_example_has_a_page():
    shown = {SHOWN.match(text)[1] for page in PAGES for _, text in blocks(page) if SHOWN.match(text)}
    assert shown == {f"examples/websocket/{path.name}" for path in EXAMPLES.glob("*.py")}


def test_every_limit_is_told_of_with_its_default():
    page = (DOCS / "limits.md").read_text()
    for field in dataclasses.fields(Limits):
        row = re.search(rf"^\| `{field.name}` \| ([^|]+) \|", page, re.MULTILINE)
        assert row, field.name
        assert _value(row[1]) == field.default, field.name


def _value(text):
    """A number as the page writes it: 4 MiB, 131,072, 10 s, none."""
    if text == "none":
        return None
    number, _, unit = text.partition(" ")
    return float(number.replace(",", "")) * {"": 1, "s": 1, "KiB": 1 << 10, "MiB": 1 << 20}[unit]


@pytest.mark.parametrize(
    "page", ["README.md", *(f"packages/kirsch-websocket/docs/{page.name}" for page in DOCS.glob("*.md"))]
)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert ((ROOT / page).parent / target).exists(), target


def test_the_readmes_chat(tmp_path):
    (page,) = [text for _, text in blocks(ROOT / "README.md")]
    served = "serve(Chat, port=8765).serve_forever()\n"
    assert page.endswith(served)
    # As it stands there, but for the port.
    told = 'server = serve(Chat)\nprint("listening on", server.url, flush=True)\nserver.serve_forever()\n'
    (tmp_path / "chat.py").write_text(page.replace(served, told))
    process = started(tmp_path, sys.executable, "chat.py")
    with ending(process), process.stderr:
        url = Running(process).line().removeprefix("listening on ")
        with connect(url) as ada, connect(url) as bob:
            ada.send("hello")
            assert bob.recv(PATIENCE) == "hello"
            assert ada.recv(PATIENCE) == "hello"
