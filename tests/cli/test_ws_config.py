"""kirsch ws serve --config: what the file says holds, and a mistake in it is one line."""

import re
from pathlib import Path
from typing import Any

import pytest
from tests.cli.test_ws import PROVIDERS, fails, ok, serving

from kirsch.cli.errors import Failure
from kirsch.websocket import ClientOptions, Closed, HandshakeError, Limits
from kirsch.websocket.threaded import connect
from kirsch.websocket.verb.config import Wrong, load, parse

PATIENCE = 20

APPLICATIONS = """
from kirsch.websocket import WebSocket

class Shout(WebSocket):
    def received_message(self, message):
        self.send(message.upper())

def room(ws):
    for message in ws:
        ws.send(f"{ws.path_params['room']}: {message}")

async def awaited(ws):
    async for message in ws:
        ws.send(f"{ws.path_params['room']}: {message}")

number = 3
"""
FILE = """
listen = "127.0.0.1:0"
provider = "{provider}"

[routes]
"/shout" = "applications_of_a_file:Shout"
"/rooms/{{room}}" = "applications_of_a_file:{function}"

[policy]
origins = ["https://example.com"]
subprotocols = ["chat"]
compression = false
headers = {{ X-From = "a file" }}

[limits]
message = 1000
ping_interval = "none"
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "applications_of_a_file.py").write_text(APPLICATIONS)

    def write(text: str) -> str:
        path = tmp_path / "chat.toml"
        path.write_text(text)
        return str(path)

    return write


def answer(url: str, message: str, **options: Any) -> str | bytes:
    """Return the answer to a message."""
    with connect(url, options=ClientOptions(proxy=None, **options)) as ws:
        ws.send(message)
        return ws.recv(PATIENCE)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_provider_serves_it(provider, file):
    function = "awaited" if provider in ("asyncio", "tornado") else "room"
    logged = r"127\.0\.0\.1:\d+: .*1009.*\n(127\.0\.0\.1:\d+: .*HTTP status 40[34].*\n){2}"
    with serving("--config", file(FILE.format(provider=provider, function=function)), log=logged) as url:
        assert answer(f"{url}shout", "hello") == "HELLO"
        assert answer(f"{url}rooms/blue", "hello") == "blue: hello"
        options = ClientOptions(proxy=None, subprotocols=("chat",), origin="https://example.com")
        with connect(f"{url}shout", options=options) as ws:
            assert ws.subprotocol == "chat"
            assert ws.response.headers.get("X-From") == "a file"
            assert ws.response.headers.get("Sec-WebSocket-Extensions") is None
        with pytest.raises(Closed) as closed:
            answer(f"{url}shout", "x" * 1001)
        assert closed.value.code == 1009
        for path, origin, status in (("shout", "https://evil.example", 403), ("", None, 404)):
            with pytest.raises(HandshakeError) as error:
                connect(f"{url}{path}", options=ClientOptions(proxy=None, origin=origin))
            assert error.value.status == status


def test_tls_and_a_place_of_the_command_line(file, certificate, tmp_path):
    text = '[routes]\n"/" = "applications_of_a_file:Shout"\n[tls]\n'
    text += f'certificate = "{certificate.file}"\nkey = "{certificate.key}"\n'
    path = file(text)
    with serving("0", "--config", path) as url:
        assert url.startswith("wss://")
        assert ok("ws", url, "-1", "--insecure", stdin=b"x\n") == b"X\n"
    assert fails("ws", "serve", "--config", path).endswith(
        "chat.toml: says not where to listen: write listen or unix, or give [HOST:]PORT"
    )
    file(text.split("[tls]")[0].replace("[routes]", 'unix = "socket"\n[routes]'))
    with serving("--config", path) as url:
        assert url == f"ws+unix://{tmp_path}/socket"
        assert answer(url, "x") == "X"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--subprotocol", "chat"), "--subprotocol does not go with --config: the file says it"),
        (("--max-size", "1K"), "--max-size does not go with --config: the file says it"),
        (("0", "--unix", "x"), "say where: [HOST:]PORT or --unix PATH"),
    ],
)
def test_options_that_do_not_go_with_it(options, line):
    assert fails("ws", "serve", "--config", "chat.toml", *options, status=2) == line


@pytest.mark.parametrize(
    ("provider", "application", "line"),
    [
        ("asyncio", "none", "there is no none in applications_of_a_file"),
        ("asyncio", "number", "an application is a class or a function, not int"),
        ("threaded", "awaited", "awaited is a coroutine function: they are for asyncio and Tornado"),
    ],
)
def test_applications_that_are_none(file, provider, application, line):
    path = Path(file(f'provider = "{provider}"\n[routes]\n"/" = "applications_of_a_file:{application}"\n'))
    with pytest.raises(Failure) as failure:
        load(path)
    assert str(failure.value) == f"{path}: {line}"


def test_files_that_are_none(file):
    path = file('[routes]\n"/" = "nowhere_at_all:App"\n')
    line = f"{path}: there is no module nowhere_at_all, which nowhere_at_all:App needs"
    assert fails("ws", "serve", "--config", path) == line
    with pytest.raises(Failure, match=r"No such file or directory$"):
        load(Path("/none.toml"))


def test_an_application_whose_module_fails(file):
    path = Path(file('[routes]\n"/" = "fails_as_it_is_imported:App"\n'))
    (path.parent / "fails_as_it_is_imported.py").write_text("import os\n\nApp = os.no_such_name\n")
    with pytest.raises(
        Failure, match=r"fails_as_it_is_imported cannot be imported: AttributeError: .*no_such_name"
    ):
        load(path)


ROUTES = '\n[routes]\n"/" = "a:b"\n'


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("x", "Expected '=' after a key"),
        ("", r'\[routes\] names no application: write "/chat" = "MODULE:NAME"'),
        ('[routes]\n"/" = "module"', r"""routes."/" is MODULE:NAME, not 'module'"""),
        (f'listn = "1"{ROUTES}', "there is no listn: write listen, unix, provider, loop, threads"),
        (f'listen = "x"{ROUTES}', r"'x' is not \[HOST:\]PORT"),
        (f'listen = "1"\nunix = "x"{ROUTES}', "listen or unix, not both"),
        (f'threads = 0\nprovider = "wsgi"{ROUTES}', "threads is a whole number, not 0"),
        (f"threads = 2{ROUTES}", "threads is for threaded, cherrypy, wsgi"),
        (f'provider = "x"{ROUTES}', "provider is one of asyncio, .*, not 'x'"),
        (f'loop = "x"{ROUTES}', "loop is asyncio or uvloop, not 'x'"),
        (f"{ROUTES}[policy]\norigin = 'x'", "there is no policy.origin: write origins, subprotocols"),
        (f"{ROUTES}[policy]\norigins = 'x'", "policy.origins is a list of texts, not 'x'"),
        (f"{ROUTES}[policy]\nheaders = {{ Upgrade = 'x' }}", "[Uu]pgrade is the handshake's own"),
        (f"{ROUTES}[limits]\nsize = 3", "there is no limits.size: write message, frame"),
        (f"{ROUTES}[limits]\nmessage = 0", "message"),
        (f"{ROUTES}[limits]\nqueue = 'none'", "queue"),
        (f"{ROUTES}[tls]\nkey = 'x'", "tls.key goes with tls.certificate"),
    ],
)
def test_mistakes(text, line):
    with pytest.raises(Wrong) as wrong:
        parse(text, Path())
    assert re.match(line, str(wrong.value)), wrong.value
    assert "\n" not in str(wrong.value)


def test_what_is_not_said_is_the_librarys():
    config = parse(ROUTES, Path("/folder"))
    assert (config.provider, config.listen, config.unix, config.certificate) == ("asyncio", None, None, None)
    assert config.limits == Limits()
    config = parse(f'unix = "a"{ROUTES}[limits]\nframe = "none"\nmessage = "none"', Path("/folder"))
    assert config.unix == "/folder/a"
    assert config.limits.message is None
