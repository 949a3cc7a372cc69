"""Opening a client's connection: the generator is asked for its steps and sent what came of them."""

import socket
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.websocket.core.deflate import Deflate
from kirsch.websocket.core.errors import HandshakeError
from kirsch.websocket.core.handshake import Policy, accept
from kirsch.websocket.core.headers import HeadReader, Request
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.opening import (
    ClientOptions,
    Connect,
    ConnectSocks,
    ConnectUnix,
    Disconnect,
    Opened,
    Receive,
    Send,
    StartTLS,
    Step,
    Steps,
    opening,
)
from kirsch.websocket.core.url import BadUrl, Environment, Proxy, Url
from kirsch.websocket.dial import dial

DIRECT = ClientOptions(proxy=None)
Answer = Callable[[Request], bytes]


def read(data: bytes) -> Request:
    request = HeadReader(Limits(), client=False).feed(data)
    assert isinstance(request, Request)
    return request


def serve(policy: Policy | None = None, rest: bytes = b"") -> Answer:
    """A server of ours."""
    return lambda request: accept(request, policy or Policy()).response + rest


def redirect(location: str, status: int = 302) -> Answer:
    return lambda _: f"HTTP/1.1 {status} Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode(
        "latin-1"
    )


def say(text: str) -> Answer:
    return lambda _: text.replace("\n", "\r\n").encode("latin-1")


class Run:
    """One opening, with one answer for every request; what was done is kept."""

    def __init__(self, steps: Steps, *answers: Answer, piece: int = 1 << 20) -> None:
        self.done: list[Step] = []
        self.requests: list[Request] = []
        self.opened: Opened | None = None
        waiting = iter(answers)
        self.unread = b""
        answer: bytes | None = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as stop:
                self.opened = stop.value
                return
            answer = None
            self.done.append(step)
            match step:
                case Send(data):
                    self.requests.append(read(data))
                    self.unread = next(waiting)(self.requests[-1])
                case Receive():
                    answer, self.unread = self.unread[:piece], self.unread[piece:]

    @property
    def shape(self) -> list[object]:
        """The steps, without what they send."""
        return [type(step) if isinstance(step, Send | Receive | Disconnect) else step for step in self.done]


def test_connects_and_shakes_hands() -> None:
    run = Run(opening("ws://example.com:81/chat?room=1", DIRECT), serve(rest=b"\x81\x00"))
    assert run.shape == [Connect("example.com", 81), Send, Receive]
    request = run.requests[0]
    assert request.target == "/chat?room=1"
    assert request.headers.get("Host") == "example.com:81"
    assert request.headers.get("User-Agent") == "kirsch"
    assert run.opened is not None
    assert run.opened.rest == b"\x81\x00"
    assert run.opened.response.status == 101
    assert run.opened.url == Url(False, "example.com", 81, "/chat?room=1")
    assert run.opened.agreed.deflate is not None


@given(st.integers(1, 300), st.binary(max_size=300))
def test_an_answer_may_come_in_any_pieces(piece: int, rest: bytes) -> None:
    run = Run(opening("ws://a/", DIRECT), serve(rest=rest), piece=piece)
    assert run.opened is not None
    assert run.opened.rest + run.unread == rest


def test_speaks_tls_first_for_wss() -> None:
    run = Run(opening("wss://example.com./", DIRECT), serve())
    assert run.shape == [Connect("example.com.", 443), StartTLS("example.com"), Send, Receive]


def test_connects_to_unix_sockets_and_never_by_a_proxy() -> None:
    options = ClientOptions(proxy="http://proxy:3128")
    run = Run(opening("wss+unix:///run/app.sock:/x", options), serve())
    assert run.shape == [ConnectUnix("/run/app.sock"), StartTLS("localhost"), Send, Receive]
    assert (run.requests[0].target, run.requests[0].headers.get("Host")) == ("/x", "localhost")


def test_offers_what_the_options_say() -> None:
    options = ClientOptions(
        subprotocols=("b", "a"),
        deflate=None,
        origin="https://example.com",
        headers={"X-Token": "t", "User-Agent": "mine"},
        proxy=None,
    )
    policy = Policy(subprotocols=("a",), origins=("https://example.com",))
    run = Run(opening("ws://a/", options), serve(policy))
    assert run.opened is not None
    assert run.opened.agreed.subprotocol == "a"
    assert run.opened.agreed.deflate is None
    headers = run.requests[0].headers
    assert headers.get("X-Token") == "t"
    assert headers.get_all("User-Agent") == ["mine"]
    assert "Sec-WebSocket-Extensions" not in headers


def test_every_handshake_has_a_key_of_its_own() -> None:
    run = Run(opening("ws://a/", DIRECT), redirect("/b"), serve())
    keys = {request.headers.get("Sec-WebSocket-Key") for request in run.requests}
    assert len(keys) == 2
    run = Run(opening("ws://a/", DIRECT, random=bytes), serve())
    assert run.requests[0].headers.get("Sec-WebSocket-Key") == b64encode(bytes(16)).decode()


# Redirects.


def test_follows_redirects() -> None:
    answers = redirect("/two"), redirect("//b:81/three?x#top", 307), redirect("https://c/", 308), serve()
    run = Run(opening("ws://a/one", DIRECT), *answers)
    assert run.shape == [
        *(Connect("a", 80), Send, Receive, Disconnect),
        *(Connect("a", 80), Send, Receive, Disconnect),
        *(Connect("b", 81), Send, Receive, Disconnect),
        *(Connect("c", 443), StartTLS("c"), Send, Receive),
    ]
    assert [request.target for request in run.requests] == ["/one", "/two", "/three?x", "/"]
    assert run.opened is not None
    assert run.opened.url == Url(True, "c", 443)


@pytest.mark.parametrize(
    ("redirects", "reason"),
    [
        (0, "redirected though none is followed, to ws://***@a/x?***"),
        (1, "redirected more than once, to ws://***@a/x?***"),
        (5, "redirected more than 5 times, to ws://***@a/x?***"),
    ],
)
def test_follows_no_more_redirects_than_allowed(redirects: int, reason: str) -> None:
    options = ClientOptions(proxy=None, redirects=redirects)
    with pytest.raises(HandshakeError) as caught:
        Run(opening("ws://u:secret@a/", options), *[redirect("/x?secret")] * (redirects + 1))
    assert (caught.value.status, caught.value.reason) == (302, reason)


def test_follows_as_many_redirects_as_allowed() -> None:
    run = Run(
        opening("ws://a/", ClientOptions(proxy=None, redirects=2)), redirect("/1"), redirect("/2"), serve()
    )
    assert run.opened is not None
    assert run.opened.url.target == "/2"


@pytest.mark.parametrize(
    ("url", "location", "reason"),
    [
        ("wss://a/", "ws://a/", "the redirect leads from wss to ws: not followed"),
        ("ws://a/", "ws+unix:///run/docker.sock", "the redirect leads to no ws, wss, http or https URL"),
        ("ws://a/", "file:///etc/passwd", "the redirect leads to no ws, wss, http or https URL"),
    ],
)
def test_follows_no_redirect_that_harms(url: str, location: str, reason: str) -> None:
    with pytest.raises(BadUrl) as caught:
        Run(opening(url, DIRECT), redirect(location))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("location", "sent"),
    [
        ("/x", True),
        ("http://a/x", True),
        ("https://a/x", True),
        ("https://a:8443/x", False),
        ("http://a:81/x", False),
        ("http://b/x", False),
        ("http://user:password@b/x", False),
    ],
)
def test_credentials_stay_with_their_host(location: str, sent: bool) -> None:
    options = ClientOptions(headers=[("Cookie", "c=1"), ("X-Token", "t")], proxy=None)
    run = Run(opening("ws://u:p@a/", options), redirect(location), serve())
    first, second = (request.headers for request in run.requests)
    assert first.get("Authorization") == "Basic " + b64encode(b"u:p").decode()
    for name in ("Authorization", "Cookie", "X-Token"):
        assert first.get(name)
        assert (second.get(name) == first.get(name)) == sent
        assert (name in second) == sent


def test_credentials_do_not_come_back_on_the_way_back() -> None:
    options = ClientOptions(headers=[("X-Token", "t")], proxy=None)
    run = Run(opening("ws://u:p@a/", options), redirect("ws://b/"), redirect("ws://a/"), serve())
    assert [("Authorization" in r.headers, "X-Token" in r.headers) for r in run.requests] == [
        (True, True),
        (False, False),
        (False, False),
    ]


# Authentication.


def test_the_argument_comes_before_the_url() -> None:
    run = Run(opening("ws://u:p@a/", ClientOptions(auth=("jürgen", "p:w"), proxy=None)), serve())
    assert run.requests[0].headers.get_all("Authorization") == [
        "Basic " + b64encode("jürgen:p:w".encode()).decode()
    ]


def test_a_field_given_by_hand_comes_before_both() -> None:
    options = ClientOptions(headers=[("authorization", "Bearer t")], auth=("u", "p"), proxy=None)
    run = Run(opening("ws://a/", options), serve())
    assert run.requests[0].headers.get_all("Authorization") == ["Bearer t"]


# Proxies.

TUNNEL = say("HTTP/1.1 200 Connection established\n\n")


def test_goes_through_a_proxy() -> None:
    run = Run(opening("ws://example.com/x", ClientOptions(proxy="http://proxy:3128")), TUNNEL, serve())
    assert run.shape == [Connect("proxy", 3128, proxy=True), Send, Receive, Send, Receive]
    connect, get = run.requests
    assert (connect.method, connect.target) == ("CONNECT", "example.com:80")
    assert connect.headers.items() == [("Host", "example.com:80"), ("User-Agent", "kirsch")]
    assert (get.method, get.target, get.headers.get("Host")) == ("GET", "/x", "example.com")


def test_speaks_tls_through_a_proxy_and_to_it() -> None:
    run = Run(opening("wss://[::1]/", ClientOptions(proxy="https://proxy")), say("HTTP/1.0 200\n\n"), serve())
    assert run.shape == [
        Connect("proxy", 443, proxy=True),
        StartTLS("proxy", proxy=True),
        *(Send, Receive),
        StartTLS("::1"),
        *(Send, Receive),
    ]
    assert run.requests[0].target == "[::1]:443"


def test_passwords_go_to_whom_they_are_for() -> None:
    options = ClientOptions(proxy="http://me:sec%72et@proxy", headers=[("X-Token", "t")])
    run = Run(opening("ws://u:p@a/", options), TUNNEL, serve())
    connect, get = (request.headers for request in run.requests)
    assert connect.get("Proxy-Authorization") == "Basic " + b64encode(b"me:secret").decode()
    assert "Authorization" not in connect
    assert "X-Token" not in connect
    assert "Proxy-Authorization" not in get
    assert get.get("Authorization") == "Basic " + b64encode(b"u:p").decode()


@pytest.mark.parametrize(
    ("proxy", "answer", "status", "reason"),
    [
        ("http://proxy", "HTTP/1.1 407 No\n\n", 407, "the proxy proxy:80 wants a user and a password"),
        ("http://u@proxy", "HTTP/1.1 407 No\n\n", 407, "the proxy proxy:80 wants another user or password"),
        ("proxy:1", "HTTP/1.1 403 Forbidden\n\n", 403, "the proxy proxy:1 makes no way to a:80: 'Forbidden'"),
        ("proxy", "HTTP/1.1 101 Yes\n\n", 101, "the proxy proxy:80 makes no way to a:80: 'Yes'"),
        ("proxy", "HTTP/1.1 302 x\nLocation: /\n\n", 302, "the proxy proxy:80 makes no way to a:80: 'x'"),
        (
            "proxy",
            "HTTP/1.1 200\n\nHTTP/1.1 101",
            0,
            "the proxy proxy:80 said more than that the way is free",
        ),
        ("proxy", "", 0, "the proxy proxy:80 closed the connection before it answered"),
        ("proxy", "HTTP/1.1 20", 0, "the proxy proxy:80 closed the connection before it answered"),
    ],
)
def test_says_what_a_proxy_has_against_it(proxy: str, answer: str, status: int, reason: str) -> None:
    with pytest.raises(HandshakeError) as caught:
        Run(opening("ws://a/", ClientOptions(proxy=proxy)), say(answer), serve())
    assert (caught.value.status, caught.value.reason) == (status, reason)


def test_says_that_a_proxy_speaks_no_http() -> None:
    with pytest.raises(HandshakeError, match=r"^the proxy proxy:80 answered with no HTTP response: .*HTTP"):
        Run(opening("ws://a/", ClientOptions(proxy="proxy")), say("SSH-2.0-OpenSSH\n"))


@pytest.mark.parametrize("scheme", ["socks4", "socks4a", "socks5", "socks5h"])
def test_leaves_socks_to_the_driver(scheme: str) -> None:
    run = Run(opening("wss://a/", ClientOptions(proxy=f"{scheme}://u:p@proxy:9")), serve())
    proxy = Proxy(scheme, "proxy", 9, "u", "p")
    assert run.shape == [ConnectSocks(proxy, "a", 443), StartTLS("a"), Send, Receive]
    assert proxy.resolves == scheme.endswith(("a", "h"))


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("proxy", Proxy("http", "proxy", 80)),
        ("proxy:3128/", Proxy("http", "proxy", 3128)),
        ("HTTPS://u:p%40@[::1]:1", Proxy("https", "::1", 1, "u", "p@")),
        ("socks5h://proxy", Proxy("socks5h", "proxy", 1080)),
    ],
)
def test_a_proxy_has_a_url(text: str, proxy: Proxy) -> None:
    assert Proxy.parse(text) == proxy


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "ftp://u:secret@proxy",
            "a proxy's URL starts with one of http://, https://, socks4://, socks4a://, socks5://, socks5h://",
        ),
        ("http://u:secret@proxy/x", "a proxy's URL is SCHEME://[USER:PASSWORD@]HOST[:PORT] and nothing more"),
        ("http://proxy\r\nEvil: 1", "a proxy's URL is SCHEME://[USER:PASSWORD@]HOST[:PORT] and nothing more"),
        ("http://", "the proxy's URL: the URL names no host"),
        ("http://u:secret@proxy:x", "the proxy's URL: the URL's port is no number between 1 and 65535"),
    ],
)
def test_refuses_a_proxy_that_is_none(text: str, reason: str) -> None:
    with pytest.raises(BadUrl) as caught:
        Run(opening("ws://a/", ClientOptions(proxy=text)))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("url", "proxies", "host"),
    [
        ("ws://a/", {"ws": "ws-proxy", "http": "http-proxy", "all": "all-proxy"}, "ws-proxy"),
        ("ws://a/", {"wss": "wss-proxy", "https": "https-proxy", "http": "http-proxy"}, "http-proxy"),
        ("wss://a/", {"wss": "wss-proxy", "https": "https-proxy"}, "wss-proxy"),
        ("wss://a/", {"http": "http-proxy", "https": "https-proxy", "all": "all-proxy"}, "https-proxy"),
        ("wss://a/", {"http": "http-proxy", "all": "all-proxy"}, "all-proxy"),
        ("wss://a/", {"http": "http-proxy"}, None),
        ("ws://a/", {"http": ""}, None),
        ("ws://direct/", {"all": "all-proxy"}, None),
        ("ws://localhost/", {"all": "all-proxy"}, None),
        ("ws://127.1.2.3/", {"all": "all-proxy"}, None),
        ("ws://[::1]/", {"all": "all-proxy"}, None),
        ("ws+unix:///a", {"all": "all-proxy"}, None),
    ],
)
def test_takes_the_proxy_that_the_environment_names(
    url: str, proxies: dict[str, str], host: str | None
) -> None:
    environment = Environment(proxies, lambda place: place == "direct:80")
    steps = opening(url, ClientOptions(), environment)
    with closing(steps):
        step = next(steps)
    assert (step.host if isinstance(step, Connect) and step.proxy else None) == host


def test_asks_the_environment_again_after_a_redirect() -> None:
    environment = Environment({"http": "proxy"}, lambda place: place == "direct:80")
    run = Run(opening("ws://direct/", ClientOptions(), environment), redirect("ws://b/"), TUNNEL, serve())
    assert [step for step in run.done if isinstance(step, Connect)] == [
        Connect("direct", 80),
        Connect("proxy", 80, proxy=True),
    ]


def test_without_an_environment_there_is_no_proxy() -> None:
    assert Run(opening("ws://a/", ClientOptions()), serve()).done[0] == Connect("a", 80)
    environment = Environment({"http": "proxy"}, lambda _: False)
    assert Run(opening("ws://a/", DIRECT, environment), serve()).done[0] == Connect("a", 80)


# What goes wrong.


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        ("HTTP/1.1 404 Not Found\n\n", 404, "the server refuses: 404 'Not Found'"),
        ("HTTP/1.1 302 Found\n\n", 302, "the server refuses: 302 'Found'"),
        ("", 0, "a:80 closed the connection before it answered"),
        ("HTTP/1.1 101 ", 0, "a:80 closed the connection before it answered"),
        ("HTTP/1.1 103 Early Hints\n\n", 0, "a:80 closed the connection before it answered"),
        ("HTTP/1.1 101 x\nUpgrade: websocket\n\n", 101, "the response has no Connection: Upgrade"),
    ],
)
def test_says_what_a_server_has_against_it(answer: str, status: int, reason: str) -> None:
    with pytest.raises(HandshakeError) as caught:
        Run(opening("ws://a/", DIRECT), say(answer))
    assert (caught.value.status, caught.value.reason) == (status, reason)


def test_hints_may_come_before_the_answer() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    run = Run(opening("ws://a/", DIRECT), lambda request: hints + serve(rest=b"x")(request))
    assert run.opened is not None
    assert run.opened.rest == b"x"


def test_a_head_has_its_limits() -> None:
    options = ClientOptions(proxy=None, limits=Limits(handshake=1000))
    with pytest.raises(HandshakeError, match=r"^a:80 answered with no HTTP response: .*1000 bytes"):
        Run(opening("ws://a/", options), say("HTTP/1.1 101 x\nA: " + "a" * 2000), piece=100)


@given(st.binary(max_size=200), st.integers(1, 200))
def test_any_answer_opens_or_is_refused_in_one_line(answer: bytes, piece: int) -> None:
    with pytest.raises(HandshakeError) as caught:
        Run(opening("ws://a/", DIRECT), lambda _: answer, piece=piece)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"headers": [("X", "a\r\nEvil: 1")]},
        {"headers": [("X", "a\n")]},
        {"headers": [("X", "a\0b")]},
        {"headers": [("X", "€")]},
        {"headers": [("X\r\nEvil", "1")]},
        {"headers": [("X ", "1")]},
        {"headers": [("", "1")]},
        {"headers": {"Connection": "close"}},
        {"headers": {"sec-websocket-key": "x"}},
        {"headers": {"Content-Length": "1"}},
        {"origin": "a\r\nEvil: 1"},
        {"origin": ""},
        {"user_agent": "a\r\nEvil: 1"},
        {"subprotocols": ("a b",)},
        {"subprotocols": ("a\r\nEvil: 1",)},
        {"subprotocols": ("a", "a")},
        {"auth": ("a:b", "c")},
        {"auth": ("a", "c\n")},
    ],
)
def test_options_put_nothing_else_into_a_request(options: dict[str, object]) -> None:
    with pytest.raises(ValueError) as caught:
        ClientOptions(**options)  # type: ignore[arg-type]
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"deflate": True}, "deflate is a kirsch.websocket.Deflate or None, not True"),
        ({"limits": {}}, "limits is a kirsch.websocket.Limits, not a dict"),
        ({"redirects": -1}, "redirects is a whole number of 0 or more, not -1"),
        ({"redirects": None}, "redirects is a whole number of 0 or more, not None"),
    ],
)
def test_options_of_another_kind(options: dict[str, object], error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{error}$"):
        ClientOptions(**options)  # type: ignore[arg-type]


def test_one_subprotocol_may_stand_alone() -> None:
    assert ClientOptions(subprotocols="chat").subprotocols == ("chat",)  # type: ignore[arg-type]


def test_shows_no_secrets() -> None:
    options = ClientOptions(
        headers={"Authorization": "Bearer secret"}, auth=("u", "secret"), proxy="http://u:secret@proxy"
    )
    run = Run(opening("ws://u:secret@a/?t=secret", options), TUNNEL, serve())
    socks = ClientOptions(proxy="socks5://u:secret@proxy")
    socks_run = Run(opening("ws://a/", socks), serve())
    environment = Environment({"http": "http://u:secret@proxy"}, lambda _: False)
    for shown in (options, *run.done, run.opened, socks, *socks_run.done, environment):
        assert "secret" not in repr(shown)
        assert "c2VjcmV0" not in repr(shown)  # in base64


def test_offers_compression_unless_told_otherwise() -> None:
    assert ClientOptions().deflate == Deflate()


# One real connection, through a real proxy.


@pytest.fixture
def proxy() -> Iterator[tuple[int, list[bytes]]]:
    """A CONNECT proxy with a server behind it: whatever name is asked for, it is the server."""
    heard: list[bytes] = []

    def run() -> None:
        sock, _ = listener.accept()
        with sock:
            for answer in (TUNNEL, serve(rest=b"\x81\x02hi")):
                head = b""
                while b"\r\n\r\n" not in head:
                    head += sock.recv(65536)
                heard.append(head)
                sock.sendall(answer(read(head)))
            sock.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run)
        thread.start()
        yield listener.getsockname()[1], heard
        thread.join()


def test_a_real_proxy_resolves_the_name(
    proxy: tuple[int, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, heard = proxy
    monkeypatch.setenv("http_proxy", f"http://u:p@127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", "elsewhere.example")
    sock, opened = dial("ws://nowhere.invalid/x", timeout=10)
    with sock:
        rest = opened.rest
        while len(rest) < 4:
            rest += sock.recv(4)
    assert rest == b"\x81\x02hi"
    assert heard[0].startswith(b"CONNECT nowhere.invalid:80 HTTP/1.1\r\n")
    assert heard[1].startswith(b"GET /x HTTP/1.1\r\nHost: nowhere.invalid\r\n")
