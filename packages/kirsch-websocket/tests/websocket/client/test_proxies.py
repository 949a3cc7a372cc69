"""Opening connections through real proxies."""

import socket
import sys
from functools import partial

import pytest
from tests.certificate import Certificate
from tests.websocket.client.network import Proxy, hang_up, listen, read_head, wait
from tests.websocket.client.talk import (
    Talk,
    refused,
    talk_blocking,
    talk_gevent,
)

from kirsch.install import pip_install
from kirsch.websocket.core.backoff import may_succeed_later
from kirsch.websocket.core.errors import HandshakeError
from kirsch.websocket.core.opening import ClientOptions

# An unclosed socket or transport is a leak.
pytestmark = pytest.mark.filterwarnings("error::ResourceWarning")


@pytest.mark.parametrize("scheme", ["http", "socks4a", "socks5h"])
@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
def test_a_proxy_resolves_the_name(
    talk: Talk, server: int, tls_server: int, certificate: Certificate, scheme: str, secure: bool
) -> None:
    proxy = Proxy()
    port = tls_server if secure else server
    with listen(proxy) as listener:
        options = ClientOptions(proxy=f"{scheme}://localhost:{listener.port}")
        _, received = talk(
            f"{'wss' if secure else 'ws'}://server.example:{port}/", b"world", options, ssl=certificate.client
        )
    assert received == b"hello world"
    assert proxy.asked == [f"server.example:{port}"]


@pytest.mark.parametrize("scheme", ["socks4", "socks5"])
def test_or_we_resolve_the_name(talk: Talk, server: int, scheme: str) -> None:
    proxy = Proxy()
    with listen(proxy) as listener:
        options = ClientOptions(proxy=f"{scheme}://127.0.0.1:{listener.port}")
        _, received = talk(f"ws://localhost:{server}/", b"world", options)
    assert received == b"hello world"
    assert proxy.asked == [f"127.0.0.1:{server}"]


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_a_proxy_wants_a_password(talk: Talk, server: int, scheme: str) -> None:
    proxy = Proxy(("me", "p@ss"))
    with listen(proxy) as listener:
        options = ClientOptions(proxy=f"{scheme}://me:p%40ss@127.0.0.1:{listener.port}")
        _, received = talk(f"ws://127.0.0.1:{server}/", b"world", options)
        assert received == b"hello world"
        for account in ("me:wrong@", ""):
            options = ClientOptions(proxy=f"{scheme}://{account}127.0.0.1:{listener.port}")
            error = refused(talk, f"ws://127.0.0.1:{server}/", b"", options)
            assert str(error).startswith(f"the proxy 127.0.0.1:{listener.port} ")
            assert "wrong" not in str(error)


def test_a_proxy_speaks_tls(talk: Talk, server: int, certificate: Certificate) -> None:
    proxy = Proxy()
    with listen(proxy, certificate.server) as listener:
        options = ClientOptions(proxy=f"https://localhost:{listener.port}")
        _, received = talk(f"ws://server.example:{server}/", b"world", options, proxy_ssl=certificate.client)
        assert received == b"hello world"
        error = refused(talk, f"ws://server.example:{server}/", b"", options)
    assert error.reason == "the certificate of the proxy localhost is not accepted: self-signed certificate"


def test_tls_inside_of_tls(
    talk: Talk, tls_server: int, certificate: Certificate, request: pytest.FixtureRequest
) -> None:
    proxy = Proxy()
    with listen(proxy, certificate.server) as listener:
        options = ClientOptions(proxy=f"https://localhost:{listener.port}")
        url = f"wss://server.example:{tls_server}/"
        open_it = partial(talk, url, b"world", options, ssl=certificate.client, proxy_ssl=certificate.client)
        if talk in (talk_blocking, talk_gevent):
            with pytest.raises(HandshakeError, match=r"^a blocking client speaks no TLS inside") as raised:
                open_it()
            assert not may_succeed_later(raised.value)
        else:
            assert open_it()[1] == b"hello world"


@pytest.mark.parametrize("scheme", ["http", "socks4a", "socks5h"])
def test_a_proxy_does_not_reach_the_server(talk: Talk, scheme: str, free_port: int) -> None:
    with listen(Proxy()) as listener:
        options = ClientOptions(proxy=f"{scheme}://127.0.0.1:{listener.port}")
        error = refused(talk, f"ws://127.0.0.1:{free_port}/", b"", options)
    assert f"the proxy 127.0.0.1:{listener.port} makes no way to 127.0.0.1" in str(error)


@pytest.mark.parametrize("scheme", ["http", "https", "socks4", "socks5h"])
def test_no_proxy_is_there(talk: Talk, scheme: str, free_port: int) -> None:
    options = ClientOptions(proxy=f"{scheme}://u:secret@127.0.0.1:{free_port}")
    error = refused(talk, "ws://127.0.0.1:9/", b"", options)
    assert error.reason == f"nothing listens on the proxy 127.0.0.1:{free_port}"


@pytest.mark.parametrize("scheme", ["http", "socks4", "socks5h"])
def test_a_proxy_that_hangs_up(talk: Talk, scheme: str) -> None:
    with listen(hang_up) as listener:
        options = ClientOptions(proxy=f"{scheme}://127.0.0.1:{listener.port}")
        error = refused(talk, "ws://127.0.0.1:9/", b"", options)
    assert error.reason.startswith(f"the proxy 127.0.0.1:{listener.port} ")
    assert "closed" in error.reason


@pytest.mark.parametrize("scheme", ["http", "socks4", "socks5h"])
def test_a_proxy_that_speaks_something_else(talk: Talk, scheme: str) -> None:
    def greet(sock: socket.socket) -> None:
        sock.sendall(b"SSH-2.0-OpenSSH_9.2\r\n" * 20)
        wait(sock)

    with listen(greet) as listener:
        options = ClientOptions(proxy=f"{scheme}://127.0.0.1:{listener.port}")
        error = refused(talk, "ws://127.0.0.1:9/", b"", options)
    assert error.reason.startswith(f"the proxy 127.0.0.1:{listener.port} ")


@pytest.mark.parametrize("scheme", ["http", "socks4", "socks5h"])
def test_a_proxy_that_says_nothing(talk: Talk, scheme: str) -> None:
    with listen(wait) as listener:
        options = ClientOptions(proxy=f"{scheme}://127.0.0.1:{listener.port}")
        error = refused(talk, "ws://127.0.0.1:9/", b"", options, timeout=0.1)
    assert error.reason == f"the proxy 127.0.0.1:{listener.port} did not answer within 0.1 seconds"


def test_no_word_of_a_proxy_is_taken_for_the_servers(talk: Talk, certificate: Certificate) -> None:
    """The proxy answers for a server that is to prove who it is."""

    def answer(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 Yes\r\n\r\n")
        sock.recv(1, socket.MSG_PEEK)
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        sock.recv(1000)

    with listen(answer) as listener:
        options = ClientOptions(proxy=f"http://127.0.0.1:{listener.port}")
        error = refused(talk, "wss://server.example/", b"", options, ssl=certificate.client)
    assert error.status == 0
    assert "server.example" in error.reason


def test_says_how_to_install_socks(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_socks", None)
    error = refused(talk, "ws://127.0.0.1:9/", b"", ClientOptions(proxy="socks5://127.0.0.1"))
    assert error.reason == f"a SOCKS proxy needs python-socks: {pip_install('kirsch-websocket[socks]')}"
    assert not may_succeed_later(error)


def test_a_proxy_of_the_environment_is_used(talk: Talk, server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Proxy()
    with listen(proxy) as listener:
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{listener.port}")
        monkeypatch.setenv("no_proxy", "direct.example")
        assert talk(f"ws://server.example:{server}/", b"world")[1] == b"hello world"
        assert talk(f"ws://localhost:{server}/", b"world")[1] == b"hello world"
    assert proxy.asked == [f"server.example:{server}"]
