"""Addresses of WebSockets: what is one, what is refused and how, where a redirect leads."""

from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kirsch.websocket.core.errors import HandshakeError
from kirsch.websocket.core.url import BadUrl, Url


@pytest.mark.parametrize(
    ("text", "secure", "host", "port", "target", "authority"),
    [
        ("ws://example.com", False, "example.com", 80, "/", "example.com"),
        ("wss://example.com", True, "example.com", 443, "/", "example.com"),
        ("WSS://Example.COM:443/A", True, "example.com", 443, "/A", "example.com"),
        ("ws://example.com:443/", False, "example.com", 443, "/", "example.com:443"),
        ("ws://example.com:/chat?a=b/c", False, "example.com", 80, "/chat?a=b/c", "example.com"),
        ("ws://example.com?a=b", False, "example.com", 80, "/?a=b", "example.com"),
        ("ws://my_host.:8080/%2f%", False, "my_host.", 8080, "/%2f%", "my_host.:8080"),
        ("ws://127.0.0.1:9/", False, "127.0.0.1", 9, "/", "127.0.0.1:9"),
        ("ws://[::1]/", False, "::1", 80, "/", "[::1]"),
        ("wss://[2001:DB8:0::1]:8443/x", True, "2001:db8::1", 8443, "/x", "[2001:db8::1]:8443"),
        ("ws://[fe80::1%25eth0]/", False, "fe80::1%eth0", 80, "/", "[fe80::1]"),
        (
            "ws://exämple.com/ä b<>",
            False,
            "xn--exmple-cua.com",
            80,
            "/%C3%A4%20b%3C%3E",
            "xn--exmple-cua.com",
        ),
    ],
)
def test_says_where_a_websocket_is(
    text: str, secure: bool, host: str, port: int, target: str, authority: str
) -> None:
    url = Url.parse(text)
    assert (url.secure, url.host, url.port, url.target) == (secure, host, port, target)
    assert url.authority == authority
    assert (url.unix, url.username, url.password) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "path", "target"),
    [
        ("ws+unix:///run/app.sock", "/run/app.sock", "/"),
        ("ws+unix:///run/app.sock:/chat?room=1", "/run/app.sock", "/chat?room=1"),
        ("ws+unix://app.sock:", "app.sock", "/"),
        ("ws+unix:///run/a%3Ab%20%3F.sock:/", "/run/a:b ?.sock", "/"),
        ("ws+unix:///run/a@b.sock", "/run/a@b.sock", "/"),
    ],
)
def test_says_which_unix_socket_it_is(text: str, path: str, target: str) -> None:
    url = Url.parse(text)
    assert (url.secure, url.host, url.unix, url.target) == (False, "localhost", path, target)
    assert url.place == path


def test_a_unix_socket_may_speak_tls() -> None:
    url = Url.parse("wss+unix:///run/app.sock:/x")
    assert (url.secure, url.unix, url.authority) == (True, "/run/app.sock", "localhost")


def test_place_has_a_port_always() -> None:
    assert Url.parse("ws://example.com/").place == "example.com:80"
    assert Url.parse("wss://[::1]/").place == "[::1]:443"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'' is no URL: write ws://HOST[:PORT][/PATH], wss:// or ws+unix://PATH"),
        ("example.com", "'example.com' is no URL: write ws://HOST[:PORT][/PATH], wss:// or ws+unix://PATH"),
        ("ws:/u:secret@h?t", "'***@h' is no URL: write ws://HOST[:PORT][/PATH], wss:// or ws+unix://PATH"),
        ("http://example.com/", "http:// is not a WebSocket's scheme: write ws://"),
        ("https://example.com/", "https:// is not a WebSocket's scheme: write wss://"),
        ("ftp://example.com/", "ftp:// is not a WebSocket's scheme: write ws://, wss:// or ws+unix://"),
        ("ws://", "the URL names no host"),
        ("ws:///chat", "the URL names no host"),
        ("ws://:80/", "the URL names no host"),
        ("ws://user@/", "the URL names no host"),
        ("ws://a b/", "'a b' is no host name"),
        ("ws://a..b/", "'a..b' is no host name"),
        ("ws://ä..b/", "'ä..b' is no host name"),
        ("ws://example.com／evil/", "'example.com／evil' is no host name"),
        (f"ws://{'a' * 64}/", f"'{'a' * 64}' is no host name"),
        ("ws://good.example\\@evil.example/", "a URL's user has no backslash: write it as %5C"),
        ("ws://example.com:0/", "the URL's port is no number between 1 and 65535"),
        ("ws://example.com:65536/", "the URL's port is no number between 1 and 65535"),
        ("ws://example.com:٣/", "the URL's port is no number between 1 and 65535"),
        ("ws://user:pass/word@example.com/", "the URL's port is no number between 1 and 65535"),
        ("ws://[::1/", "an IPv6 address stands in brackets: [::1]:PORT"),
        ("ws://[::1]80/", "an IPv6 address stands in brackets: [::1]:PORT"),
        ("ws://[::g]/", "'::g' is no IPv6 address"),
        ("ws://[fe80::1%25a%0d]/", "'fe80::1%a\\r' is no IPv6 address"),
        ("ws://example.com/#top", "a WebSocket's URL has no fragment: write # as %23 (RFC 6455, 3)"),
        ("ws://example.com/#", "a WebSocket's URL has no fragment: write # as %23 (RFC 6455, 3)"),
        ("ws://example.com/\r\nEvil: 1", "a URL has no control characters"),
        ("ws://example.com/\ud800", "a URL is text that UTF-8 can encode"),
        (
            "ws://u%0d:x@example.com/",
            "a username has no colon, and neither it nor a password control characters",
        ),
        (
            "ws://a%3Ab:x@example.com/",
            "a username has no colon, and neither it nor a password control characters",
        ),
        ("ws://%ff@example.com/", "the URL's user and password are not UTF-8"),
        ("ws+unix://", "the URL names no Unix socket: write ws+unix://PATH or ws+unix://PATH:/TARGET"),
        ("ws+unix:///a%00b", "the URL names no Unix socket: write ws+unix://PATH or ws+unix://PATH:/TARGET"),
        ("ws+unix:///a?b", "a query comes after the path of the target: ws+unix://PATH:/TARGET?QUERY"),
    ],
)
def test_refuses_what_is_none_with_one_line(text: str, reason: str) -> None:
    with pytest.raises(BadUrl) as caught:
        Url.parse(text)
    assert caught.value.reason.removesuffix(" (RFC 7617)") == reason
    assert "secret" not in str(caught.value)
    assert "word" not in str(caught.value) or "password" in reason


def test_an_error_is_both_a_value_error_and_a_failed_handshake() -> None:
    assert issubclass(BadUrl, ValueError)
    assert issubclass(BadUrl, HandshakeError)
    assert BadUrl("x").status == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "a\r\nb"},
        {"host": "::g"},
        {"port": 0},
        {"target": "/a b"},
        {"target": "/\r\nEvil: 1"},
        {"target": "/a\n"},
        {"target": "a"},
        {"unix": "a\nb"},
        {"username": "a:b"},
        {"username": "a", "password": "a\nb"},
        {"username": "\ud800"},
    ],
)
def test_nobody_builds_one_that_breaks_a_request(fields: dict[str, object]) -> None:
    good: dict[str, object] = {"secure": False, "host": "a", "port": 80}
    Url(**good)  # type: ignore[arg-type]
    with pytest.raises(BadUrl):
        Url(**(good | fields))  # type: ignore[arg-type]


def test_has_a_user_and_a_password() -> None:
    url = Url.parse("ws://j%C3%BCrgen:p%40ss%3a:w@rd@example.com/")
    assert (url.username, url.password, url.host) == ("jürgen", "p@ss::w@rd", "example.com")
    assert Url.parse("ws://me@example.com/").password == ""
    assert Url.parse("ws://@example.com/").username == ""


def test_shows_no_secrets() -> None:
    url = Url.parse("wss://me:secret@example.com/chat?token=secret")
    for text in (str(url), repr(url), f"{url}", repr([url])):
        assert "secret" not in text
        assert "me:" not in text
        assert "wss://***@example.com/chat?***" in text
    assert str(Url.parse("ws+unix:///a%3Ab:/x?secret")) == "ws+unix:///a%3Ab:/x?***"


@pytest.mark.parametrize(
    ("base", "location", "expected"),
    [
        ("ws://a/x/y?q", "z?r", Url(False, "a", 80, "/x/z?r")),
        ("ws://a/x/y", "/z", Url(False, "a", 80, "/z")),
        ("ws://a:81/x/y", "?z", Url(False, "a", 81, "/x/y?z")),
        ("ws://a/", "//b/x", Url(False, "b", 80, "/x")),
        ("ws://a/", "http://b:8/x", Url(False, "b", 8, "/x")),
        ("ws://a/", "wss://a", Url(True, "a", 443)),
        ("ws://a/", "HTTPS://a/x#top", Url(True, "a", 443, "/x")),
        ("wss://a/x", "/y", Url(True, "a", 443, "/y")),
        ("ws://[::1]:8/x", "y", Url(False, "::1", 8, "/y")),
        ("ws+unix:///s:/x/y", "z", Url(False, "localhost", 80, "/x/z", "/s")),
        ("ws+unix:///s:/x", "http://localhost/z", Url(False, "localhost", 80, "/z", "/s")),
        ("ws+unix:///s:/x", "http://a/z", Url(False, "a", 80, "/z")),
        # Credentials: kept on the same origin and when only TLS is added.
        ("ws://u:p@a/", "/x", Url(False, "a", 80, "/x", None, "u", "p")),
        ("ws://u:p@a/", "ws://A:80/x", Url(False, "a", 80, "/x", None, "u", "p")),
        ("ws://u:p@a/", "https://a/x", Url(True, "a", 443, "/x", None, "u", "p")),
        ("ws://u:p@a/", "https://a:444/x", Url(True, "a", 444, "/x")),
        ("ws://u:p@a/", "ws://a:81/", Url(False, "a", 81)),
        ("ws://u:p@a/", "ws://b/", Url(False, "b", 80)),
        ("ws://u:p@a/", "ws://x:y@b/", Url(False, "b", 80)),
        ("ws://u:p@a/", "ws://x:y@a/", Url(False, "a", 80, "/", None, "u", "p")),
    ],
)
def test_follows_a_redirect(base: str, location: str, expected: Url) -> None:
    assert Url.parse(base).join(location) == expected


@pytest.mark.parametrize(
    ("base", "location", "reason"),
    [
        ("wss://a/", "ws://a/", "the redirect leads from wss to ws: not followed"),
        ("wss://a/", "http://b/", "the redirect leads from wss to ws: not followed"),
        ("ws://a/", "ws+unix:///run/docker.sock", "the redirect leads to no ws, wss, http or https URL"),
        ("ws+unix:///a", "ws+unix:///run/docker.sock", "the redirect leads to no ws, wss, http or https URL"),
        ("ws://a/", "file:///etc/passwd", "the redirect leads to no ws, wss, http or https URL"),
        ("ws://a/", "javascript:x", "the redirect leads to no ws, wss, http or https URL"),
        ("ws://a/", "http://[", "the redirect leads to no ws, wss, http or https URL"),
        ("ws://a/", "/x\nEvil: 1", "the redirect's location has control characters"),
    ],
)
def test_follows_no_redirect_that_harms(base: str, location: str, reason: str) -> None:
    with pytest.raises(BadUrl) as caught:
        Url.parse(base).join(location)
    assert caught.value.reason == reason


_near = st.text(alphabet="ws:/+unix@[]%?#&.aé1\\ \r\n-_~", max_size=40)


@given(st.one_of(st.text(), _near, _near.map("ws://".__add__), _near.map("ws+unix://".__add__)))
@example("ws://[::1%]")
@example("ws://[::1%25]")
def test_any_text_is_an_address_or_one_line_says_why_not(text: str) -> None:
    try:
        url = Url.parse(text)
    except BadUrl as refusal:
        url = None
        lines = str(refusal).splitlines()
    if url is None:
        assert len(lines) == 1
        return
    for part in (url.host, url.target, url.authority):
        assert part.isascii()
        assert part.isprintable()
        assert " " not in part
    assert url.target.startswith("/")
    assert len(repr(url).splitlines()) == 1


@given(st.one_of(st.text(), _near, _near.map("//".__add__), _near.map("http://".__add__)))
def test_a_redirect_never_leaves_tls_or_reaches_a_unix_socket(location: str) -> None:
    try:
        url = Url.parse("wss://u:p@a/").join(location)
    except BadUrl:
        return
    assert url.secure
    assert url.unix is None
    assert (url.username is None) == ((url.host, url.port) != ("a", 443))


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    st.text(st.characters(exclude_categories=["Cs", "Cc"])),
)
def test_a_quoted_user_comes_back(username: str, password: str) -> None:
    if ":" in username:
        return
    url = Url.parse(f"ws://{quote(username, safe='')}:{quote(password, safe='')}@a/")
    assert (url.username, url.password) == (username, password)
