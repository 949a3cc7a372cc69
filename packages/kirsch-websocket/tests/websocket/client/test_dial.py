"""Opening connections with real sockets: every driver behaves alike."""

import contextlib
import errno
import socket
import ssl
import threading
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.certificate import Certificate
from tests.websocket.client.network import Proxy, echo, hang_up, listen, read_head, wait
from tests.websocket.client.talk import DRIVERS, Talk, refused

from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.opening import ClientOptions
from kirsch.websocket.core.url import BadUrl
from kirsch.websocket.dial import default_context, dial

# An unclosed socket or transport is a leak.
pytestmark = pytest.mark.filterwarnings("error::ResourceWarning")


# uvloop resolves names by itself, whatever a test has them resolve to.
RESOLVING = {name: talk for name, talk in DRIVERS.items() if name != "uvloop"}
resolving = pytest.mark.parametrize("talk", RESOLVING.values(), ids=RESOLVING)

# What works.


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_opens(talk: Talk, server: int, host: str) -> None:
    opened, received = talk(f"ws://{host}:{server}/x", b"world")
    assert received == b"hello world"
    assert opened.url.target == "/x"


def test_opens_an_ipv6_address(talk: Talk) -> None:
    try:
        with listen(echo, host="::1") as listener:
            opened, received = talk(f"ws://[::1]:{listener.port}/", b"world")
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        pytest.skip("there is no IPv6")
    assert received == b"hello world"
    assert opened.url.host == "::1"


def test_carries_a_lot(talk: Talk, server: int) -> None:
    data = bytes(range(256)) * 400
    _, received = talk(f"ws://127.0.0.1:{server}/", data)
    assert received == b"hello " + data


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_opens_with_tls(talk: Talk, tls_server: int, certificate: Certificate, host: str) -> None:
    _, received = talk(f"wss://{host}:{tls_server}/", b"world", ssl=certificate.client)
    assert received == b"hello world"


def test_opens_a_unix_socket(talk: Talk, tmp_path: Path) -> None:
    with listen(echo, unix=tmp_path / "a b.sock"):
        _, received = talk(f"ws+unix://{tmp_path}/a%20b.sock:/x", b"world")
    assert received == b"hello world"


def test_opens_a_unix_socket_with_tls(talk: Talk, tmp_path: Path, certificate: Certificate) -> None:
    with listen(echo, certificate.server, tmp_path / "socket"):
        _, received = talk(f"wss+unix://{tmp_path}/socket", b"world", ssl=certificate.client)
    assert received == b"hello world"


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Make several.example have these addresses."""

    def resolve(real: Any, host: str, port: int, *arguments: Any, **more: Any) -> Any:
        if host != "several.example":
            return real(host, port, *arguments, **more)
        if socket.AI_NUMERICHOST in arguments:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", partial(resolve, socket.getaddrinfo))
    if find_spec("gevent") is not None:
        import gevent.socket

        monkeypatch.setattr(gevent.socket, "getaddrinfo", partial(resolve, gevent.socket.getaddrinfo))


@resolving
def test_tries_every_address(talk: Talk, server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a name's three addresses nothing listens on the first two."""
    resolve_to(monkeypatch, "127.0.0.3", "127.0.0.2", "127.0.0.1")
    _, received = talk(f"ws://several.example:{server}/", b"world")
    assert received == b"hello world"


@resolving
def test_an_address_that_is_silent_has_but_its_share_of_the_time(
    talk: Talk, server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first address takes no connections and does not say so: its queue is full."""
    resolve_to(monkeypatch, "127.0.0.2", "127.0.0.1")
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.socket())
        silent.bind(("127.0.0.2", server))
        silent.listen(0)
        while True:
            sock = stack.enter_context(socket.socket())
            sock.settimeout(0.1)
            try:
                sock.connect(("127.0.0.2", server))
            except TimeoutError:
                break
        _, received = talk(f"ws://several.example:{server}/", b"world", timeout=1)
    assert received == b"hello world"


def test_follows_a_redirect(talk: Talk, tls_server: int, certificate: Certificate) -> None:
    def redirect(sock: socket.socket) -> None:
        read_head(sock)
        there = f"https://localhost:{tls_server}/y"
        sock.sendall(f"HTTP/1.1 307 There\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n".encode())
        sock.recv(1)

    with listen(redirect) as listener:
        opened, received = talk(f"ws://localhost:{listener.port}/x", b"world", ssl=certificate.client)
    assert received == b"hello world"
    assert (opened.url.port, opened.url.target, opened.url.secure) == (tls_server, "/y", True)


# What does not.


def test_nothing_listens(talk: Talk, free_port: int) -> None:
    error = refused(talk, f"ws://u:secret@127.0.0.1:{free_port}/")
    assert error.reason == f"nothing listens on 127.0.0.1:{free_port}"
    assert isinstance(error.__cause__, ConnectionRefusedError)


def test_no_such_unix_socket(talk: Talk, tmp_path: Path) -> None:
    assert refused(talk, f"ws+unix://{tmp_path}/none").reason == f"there is no socket {tmp_path}/none"
    (tmp_path / "file").touch()
    assert refused(talk, f"ws+unix://{tmp_path}/file").reason == f"nothing listens on {tmp_path}/file"
    long = f"/{'a' * 200}"
    assert refused(talk, f"ws+unix://{long}").reason == f"{long} is not reached: AF_UNIX path too long"


def test_no_such_host(talk: Talk) -> None:
    error = refused(talk, "ws://nowhere.invalid/")
    assert error.reason.startswith("the address of nowhere.invalid is not known: ")


def test_no_such_host_for_a_proxy_either(talk: Talk) -> None:
    with listen(Proxy()) as listener:
        options = ClientOptions(proxy=f"socks5://127.0.0.1:{listener.port}")
        error = refused(talk, "ws://nowhere.invalid/", b"", options)
    assert error.reason.startswith("the address of nowhere.invalid is not known: ")


def test_nobody_answers(talk: Talk) -> None:
    with listen(wait) as listener:
        error = refused(talk, f"ws://127.0.0.1:{listener.port}/", timeout=0.1)
    assert error.reason == f"127.0.0.1:{listener.port} did not answer within 0.1 seconds"


def test_nobody_answers_with_tls(talk: Talk, certificate: Certificate) -> None:
    with listen(wait) as listener:
        error = refused(talk, f"wss://127.0.0.1:{listener.port}/", timeout=0.1, ssl=certificate.client)
    # A busy machine may not come as far as TLS.
    places = ("127.0.0.1", f"127.0.0.1:{listener.port}")
    assert error.reason in [f"{place} did not answer within 0.1 seconds" for place in places]


@pytest.mark.parametrize("scheme", ["http", "socks5h", None])
def test_the_deadline_is_for_everything(talk: Talk, scheme: str | None) -> None:
    """A byte now and then buys no time."""
    over = threading.Event()
    dripped = 0

    def drip(sock: socket.socket) -> None:
        for byte in (
            b"\x05\0\x05\0\0\x03\xff" + b"a" * 300 if scheme == "socks5h" else b"HTTP/1.1 " + b"1" * 300
        ):
            if over.wait(0.02):
                return
            sock.sendall(bytes([byte]))
            nonlocal dripped
            dripped += 1

    with listen(drip) as listener:
        options = ClientOptions(proxy=scheme and f"{scheme}://127.0.0.1:{listener.port}")
        error = refused(talk, f"ws://127.0.0.1:{listener.port}/", b"", options, timeout=0.3)
        over.set()
    assert error.reason.endswith(f"127.0.0.1:{listener.port} did not answer within 0.3 seconds")
    assert dripped < 100


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_the_server_hangs_up(talk: Talk, scheme: str, certificate: Certificate) -> None:
    with listen(hang_up) as listener:
        error = refused(talk, f"{scheme}://127.0.0.1:{listener.port}/", ssl=certificate.client)
    # Over TLS the end may be seen in its handshake, which knows the host, or after it.
    places = [f"127.0.0.1:{listener.port}"] + ["127.0.0.1"] * (scheme == "wss")
    assert error.reason in [f"{place} closed the connection before it answered" for place in places]


def test_the_server_resets(talk: Talk) -> None:
    def reset(sock: socket.socket) -> None:
        read_head(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with listen(reset) as listener:
        error = refused(talk, f"ws://127.0.0.1:{listener.port}/")
    assert error.reason == f"127.0.0.1:{listener.port} closed the connection before it answered"


def test_a_certificate_of_nobody_we_know(talk: Talk, tls_server: int) -> None:
    error = refused(talk, f"wss://localhost:{tls_server}/")
    assert error.reason == "the certificate of localhost is not accepted: self-signed certificate"


def test_a_certificate_for_another_name(talk: Talk, tls_server: int, certificate: Certificate) -> None:
    error = refused(talk, f"wss://127.0.0.2:{tls_server}/", ssl=certificate.client)
    assert error.reason == f"nothing listens on 127.0.0.2:{tls_server}"
    proxy = Proxy()
    with listen(proxy) as listener:
        options = ClientOptions(proxy=f"http://127.0.0.1:{listener.port}")
        error = refused(talk, f"wss://evil.example:{tls_server}/", b"", options, ssl=certificate.client)
    assert error.reason == (
        "the certificate of evil.example is not accepted: "
        "Hostname mismatch, certificate is not valid for 'evil.example'"
    )


def test_a_server_without_tls(talk: Talk, server: int, certificate: Certificate) -> None:
    def plain(sock: socket.socket) -> None:
        sock.recv(1000)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        wait(sock)

    with listen(plain) as listener:
        error = refused(talk, f"wss://127.0.0.1:{listener.port}/", ssl=certificate.client)
    assert error.reason.startswith("no TLS with 127.0.0.1: ")


def test_a_server_with_tls_spoken_to_without(talk: Talk, tls_server: int) -> None:
    error = refused(talk, f"ws://127.0.0.1:{tls_server}/")
    assert error.reason.startswith(f"127.0.0.1:{tls_server} ")


def test_a_server_that_refuses(talk: Talk) -> None:
    def refuse(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")

    with listen(refuse) as listener:
        error = refused(talk, f"ws://u:secret@127.0.0.1:{listener.port}/")
    assert (error.status, error.reason) == (401, "the server refuses: 401 'Unauthorized'")


def test_a_url_that_is_none(talk: Talk) -> None:
    with pytest.raises(BadUrl):
        talk("http://127.0.0.1/")


def test_the_limits_have_a_timeout_too(talk: Talk) -> None:
    options = ClientOptions(limits=Limits(handshake_timeout=0.1))
    with listen(wait) as listener:
        error = refused(talk, f"ws://127.0.0.1:{listener.port}/", b"", options, timeout=None)
    assert error.reason == f"127.0.0.1:{listener.port} did not answer within 0.1 seconds"


def test_gevent_takes_contexts_of_its_own_only(server: int) -> None:
    """Others would block every greenlet while they shake hands."""
    pytest.importorskip("gevent")
    import gevent.socket
    import gevent.ssl

    for name in ("ssl", "proxy_ssl"):
        contexts: Any = {name: ssl.create_default_context()}
        with pytest.raises(TypeError, match=r"^a context for gevent.ssl is a gevent.ssl.SSLContext$"):
            dial(f"ws://127.0.0.1:{server}/", sockets=gevent.socket, tls=gevent.ssl, **contexts)


@pytest.mark.parametrize("module", ["ssl", "gevent.ssl"])
def test_trusts_the_system_and_knows_names(module: str) -> None:
    tls = pytest.importorskip(module)
    context, standard = default_context(tls), ssl.create_default_context()
    assert isinstance(context, tls.SSLContext)
    for name in ("verify_mode", "check_hostname", "options", "verify_flags", "minimum_version"):
        assert getattr(context, name) == getattr(standard, name)
    assert context.cert_store_stats() == standard.cert_store_stats()
    assert default_context(tls) is context
