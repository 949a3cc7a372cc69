"""The opening handshake: heads as they come, what servers accept and refuse, what clients ask and check."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.websocket.core.deflate import Deflate
from kirsch.websocket.core.errors import HandshakeError
from kirsch.websocket.core.handshake import (
    Agreed,
    ClientHandshake,
    Policy,
    Redirect,
    accept,
    accept_fields,
    refusal,
    request_from_environ,
)
from kirsch.websocket.core.headers import Headers, HeadReader, Request, Response
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.url import Url

# RFC 6455, 1.2 and 1.3.
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
NONCE = base64.b64decode(KEY)
FIELDS = {
    "Host": "server.example.com",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}
LIMITS = Limits()


def request(*fields, method="GET", target="/chat", without=(), **other):
    """A handshake's request; `other` fields stand instead of its own, `fields` come on top."""
    changed = {name.replace("_", "-"): value for name, value in other.items()}
    pairs = [(name, value) for name, value in FIELDS.items() if name not in without and name not in changed]
    return Request(method, target, Headers([*pairs, *changed.items(), *fields]))


def written(what, line):
    lines = [line, *(f"{name}: {value}" for name, value in what.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def refused(what, policy=Policy()):  # noqa: B008
    with pytest.raises(HandshakeError) as caught:
        accept(what, policy)
    return caught.value


def read(data, *, client=False, limits=LIMITS):
    return HeadReader(limits, client).feed(data)


def unreadable(data, *, client=False, limits=LIMITS):
    with pytest.raises(HandshakeError) as caught:
        read(data, client=client, limits=limits)
    assert "\n" not in caught.value.reason
    return caught.value.status


HEAD = written(FIELDS, "GET /chat?room=1 HTTP/1.1")


class TestHeaders:
    def test_names_are_found_in_any_case(self):
        headers = Headers([("Set-Cookie", "a"), ("Host", "x"), ("set-cookie", "b")])
        assert headers.get("HOST") == "x"
        assert headers.get("SET-COOKIE") == "a"
        assert headers.get_all("Set-Cookie") == ["a", "b"]
        assert "host" in headers
        assert "hosts" not in headers
        assert headers.get("hosts") is None
        assert headers.get("hosts", "y") == "y"
        assert headers.get_all("hosts") == []

    def test_the_order_and_the_case_are_kept(self):
        pairs = [("Set-Cookie", "a"), ("hOST", "x"), ("set-cookie", "b")]
        assert Headers(pairs).items() == pairs
        assert list(Headers(pairs)) == ["Set-Cookie", "hOST", "set-cookie"]
        assert len(Headers(pairs)) == 3

    def test_tokens_are_those_of_every_field(self):
        headers = Headers([("Connection", "keep-alive, \tUpgrade,,"), ("X", "y"), ("connection", " close")])
        assert headers.tokens("Connection") == ["keep-alive", "Upgrade", "close"]
        assert headers.tokens("nothing") == []

    def test_repeated_fields_are_one_list_where_they_are_combined(self):
        headers = Headers([("A", "1"), ("b", "2"), ("a", "3")])
        assert headers.combined() == {"a": "1, 3", "b": "2"}

    def test_equal_are_the_same_fields_in_any_case(self):
        assert Headers([("A", "1")]) == Headers([("a", "1")])
        assert Headers([("A", "1")]) != Headers([("A", "2")])
        assert Headers() != ()


class TestReadingRequests:
    def test_a_request_is_read_at_once(self):
        reader = HeadReader(LIMITS, client=False)
        head = reader.feed(HEAD + b"\x81\x00")
        assert (head.method, head.target) == ("GET", "/chat?room=1")
        assert (head.path, head.query) == ("/chat", "room=1")
        assert head.headers.items() == list(FIELDS.items())
        assert reader.rest == b"\x81\x00"

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_bytes_may_be_of_any_kind(self, kind):
        reader = HeadReader(LIMITS, client=False)
        assert reader.feed(kind(b"")) is None
        assert reader.feed(kind(HEAD[:30])) is None
        assert reader.feed(kind(HEAD[30:] + b"rest")).target == "/chat?room=1"
        assert reader.rest == b"rest"

    def test_space_around_a_value_is_none_of_it(self):
        head = read(b"GET / HTTP/1.1\r\nA:\t b c \t\r\nB:\r\nC:d\xa0\r\n\r\n")
        assert head.headers.items() == [("A", "b c"), ("B", ""), ("C", "d\xa0")]

    @pytest.mark.parametrize(
        ("target", "path", "query"),
        [
            ("/", "/", ""),
            ("/a%20b?x=/?y", "/a%20b", "x=/?y"),
            ("http://server.example.com:80/a?b", "/a", "b"),
            ("HTTPS://server.example.com", "/", ""),
            ("http://server.example.com?b", "/", "b"),
        ],
    )
    def test_path_and_query_are_the_targets(self, target, path, query):
        got = Request("GET", target, Headers())
        assert (got.path, got.query) == (path, query)

    @pytest.mark.parametrize(
        ("data", "status"),
        [
            pytest.param(b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400, id="obs-fold"),
            pytest.param(b"GET / HTTP/1.1\r\nA: b\r\n\tc: d\r\n\r\n", 400, id="obs-fold with a colon"),
            pytest.param(b"GET / HTTP/1.1\r\n A: b\r\n\r\n", 400, id="a first field that is folded"),
            pytest.param(b"GET / HTTP/1.1\r\nA b\r\n\r\n", 400, id="no colon"),
            pytest.param(b"GET / HTTP/1.1\r\nHost\r\n\r\n", 400, id="no colon after a known name"),
            pytest.param(b"GET / HTTP/1.1\r\n: b\r\n\r\n", 400, id="no name"),
            pytest.param(b"GET / HTTP/1.1\r\nHost : b\r\n\r\n", 400, id="space before the colon"),
            pytest.param(b"GET / HTTP/1.1\r\nA(: b\r\n\r\n", 400, id="no token"),
            pytest.param(b"GET / HTTP/1.1\r\nA\xe9: b\r\n\r\n", 400, id="a name that is not ASCII"),
            pytest.param(b"GET / HTTP/1.1\r\nA: b\x00c\r\n\r\n", 400, id="NUL in a value"),
            pytest.param(b"GET / HTTP/1.1\r\nA\x00: b\r\n\r\n", 400, id="NUL in a name"),
            pytest.param(b"GET / HTTP/1.1\r\nA: b\x7f\r\n\r\n", 400, id="DEL"),
            pytest.param(b"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n", 400, id="LF alone"),
            pytest.param(b"GET / HTTP/1.1\r\nA: b\rC: d\r\n\r\n", 400, id="CR alone"),
            pytest.param(b"GET / HTTP/1.1\r\nA: \nb\r\r\n\r\n", 400, id="LF and CR apart"),
            pytest.param(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n", 505, id="HTTP/1.0"),
            pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, id="HTTP/2 preface"),
            pytest.param(b"GET / HTTP/0.9\r\n\r\n", 505, id="HTTP/0.9"),
            pytest.param(b"GET /\r\n\r\n", 400, id="no version"),
            pytest.param(b"GET / HTTP/11\r\n\r\n", 400, id="a version of one number"),
            pytest.param(b"GET / http/1.1\r\n\r\n", 400, id="http in lower case"),
            pytest.param(b"GET  / HTTP/1.1\r\n\r\n", 400, id="two spaces"),
            pytest.param(b"GET /a b HTTP/1.1\r\n\r\n", 400, id="a space in the target"),
            pytest.param(b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n", 400, id="a target that is not ASCII"),
            pytest.param(b"GET / HTTP/1.1 \r\n\r\n", 400, id="space at the end"),
            pytest.param(b"\r\nGET / HTTP/1.1\r\n\r\n", 400, id="an empty line before it"),
            pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, id="TLS ClientHello"),
            pytest.param(b"\x16", 400, id="the first byte of TLS"),
            pytest.param(b"\x80\x2e\x01\x00\x02", 400, id="SSL 2"),
            pytest.param(b"\x00", 400, id="NUL"),
        ],
    )
    def test_what_is_no_request_is_refused(self, data, status):
        assert unreadable(data) == status

    def test_tls_is_called_by_its_name(self):
        with pytest.raises(HandshakeError, match="TLS"):
            read(b"\x16\x03\x01")

    def test_a_minor_version_to_come_is_taken(self):
        assert read(b"GET / HTTP/1.2\r\n\r\n").method == "GET"

    def test_the_heads_size_is_limited_to_the_byte(self):
        limits = Limits(handshake=len(HEAD))
        assert read(HEAD + b"x" * 1000, limits=limits).method == "GET"
        assert unreadable(HEAD, limits=Limits(handshake=len(HEAD) - 1)) == 431

    def test_a_head_that_never_ends_is_refused_at_the_limit(self):
        reader = HeadReader(LIMITS, client=False)
        assert reader.feed(b"GET / HTTP/1.1\r\n") is None
        fed = 16
        with pytest.raises(HandshakeError) as caught:  # noqa: PT012
            while fed < 1 << 20:
                assert reader.feed(b"A: bcdefg\r\n") is None
                fed += 11
        assert caught.value.status == 431
        assert fed <= LIMITS.handshake + 11

    def test_a_target_that_never_ends_is_refused_as_such(self):
        assert unreadable(b"GET /" + b"a" * LIMITS.handshake) == 414

    def test_the_number_of_fields_is_limited(self):
        line = b"GET / HTTP/1.1\r\n"
        assert len(read(line + b"A: b\r\n" * 100 + b"\r\n").headers) == 100
        assert unreadable(line + b"A: b\r\n" * 101 + b"\r\n") == 431

    def test_names_nobody_knows_do_not_gather(self):
        from kirsch.websocket.core import headers

        for number in range(headers._NAMES + 200):
            assert f"X-{number}" in read(f"GET / HTTP/1.1\r\nX-{number}: y\r\n\r\n".encode()).headers
        assert len(headers._names) <= headers._NAMES


class TestReadingResponses:
    def test_a_response_is_read(self):
        reader = HeadReader(LIMITS, client=True)
        head = reader.feed(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x00")
        assert (head.status, head.reason) == (101, "Switching Protocols")
        assert head.headers.items() == [("Upgrade", "websocket")]
        assert reader.rest == b"\x81\x00"

    @pytest.mark.parametrize("line", [b"HTTP/1.1 404", b"HTTP/1.1 404 ", b"HTTP/1.0 404 "])
    def test_the_reason_may_be_missing(self, line):
        assert read(line + b"\r\n\r\n", client=True) == Response(404, "", Headers())

    def test_interim_responses_are_passed_over(self):
        interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        reader = HeadReader(LIMITS, client=True)
        for byte in interim:
            assert reader.feed(bytes((byte,))) is None
        assert reader.feed(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody") == Response(
            200, "OK", Headers([("A", "b")])
        )
        assert reader.rest == b"body"

    def test_interim_responses_without_end_are_refused(self):
        assert unreadable(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, client=True) == 0

    @pytest.mark.parametrize(
        "data",
        [
            b"\x15\x03\x01\x00\x02\x02\x16",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"H2",
            b"HTTP/2 101 x\r\n\r\n",
            b"HTTP/1.1 1010 x\r\n\r\n",
            b"HTTP/1.1 099 x\r\n\r\n",
            b"HTTP/1.1 101 x\r\nno colon\r\n\r\n",
            b"HTTP/1.1 101 x\r\nA: b\x00\r\n\r\n",
            b"HTTP/1.1 101 x\r\n" + b"A: b\r\n" * 101 + b"\r\n",
            b"HTTP/1.1 101 x\r\n" + b"A: b\r\n" * 10000,
            b"HTTP/1.1 101 " + b"x" * 20000,
        ],
    )
    def test_what_is_no_response_has_no_status(self, data):
        assert unreadable(data, client=True) == 0


def outcome(pieces, client, limits):
    """What a head in pieces comes to, and what is left then."""
    reader = HeadReader(limits, client)
    for number, piece in enumerate(pieces):
        try:
            head = reader.feed(piece)
        except HandshakeError as error:
            return error.status, error.reason
        if head is not None:
            return head, reader.rest + b"".join(pieces[number + 1 :])
    return None


HEADS = st.one_of(
    st.sampled_from(
        [
            HEAD,
            HEAD + b"\x81\x80abcd",
            HEAD + HEAD,
            b"GET / HTTP/1.0\r\n\r\n",
            b"HTTP/1.1 101 x\r\nA: b\r\n\r\nrest",
            b"HTTP/1.1 100 x\r\n\r\nHTTP/1.1 200 y\r\n\r\nrest",
            b"HTTP/1.1 100 x\r\n\r\n" * 30,
            b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 40,
            b"GET /" + b"a" * 300,
            b"\x16\x03\x01",
        ]
    ),
    st.lists(
        st.sampled_from(
            [b"GET ", b"/ ", b"HTTP/1.1", b" 101", b" 100", b"\r\n", b"\r", b"\n", b"A: b", b"\0"]
        )
    ).map(b"".join),
    st.binary(max_size=40),
)


@given(HEADS, st.lists(st.integers(0, 400)), st.booleans(), st.sampled_from([40, 200, 16384]))
def test_any_split_of_a_head_comes_to_the_same(data, cuts, client, most):
    limits = Limits(handshake=most, headers=20)
    places = sorted({min(cut, len(data)) for cut in cuts})
    pieces = [
        data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True) if start < end
    ]
    whole = outcome([data], client, limits)
    assert outcome(pieces, client, limits) == whole
    assert outcome([data[at : at + 1] for at in range(len(data))], client, limits) == whole


@given(st.binary(max_size=300), st.booleans())
def test_whatever_comes_nothing_but_a_handshake_error_is_raised(data, client):
    try:
        head = read(
            (b"HTTP/1.1 101 x\r\n" if client else b"GET / HTTP/1.1\r\n") + data + b"\r\n\r\n", client=client
        )
    except HandshakeError:
        return
    assert head is not None
    if not client:
        try:
            accept(head, Policy())
        except HandshakeError:
            pass


class TestAccepting:
    def test_the_response_is_that_of_the_rfc(self):
        accepted = accept(request(), Policy())
        assert accepted.response == (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        assert (accepted.subprotocol, accepted.deflate) == (None, None)

    def test_the_fields_are_there_for_servers_that_write_themselves(self):
        accepted = accept(request(), Policy(headers=(("X-A", "b: c"),)))
        assert accept(request(), Policy(headers={"X-A": "b: c"})) == accepted
        assert accepted.headers == [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", ACCEPT),
            ("X-A", "b: c"),
        ]

    def test_fields_may_come_from_anywhere(self):
        assert accept_fields(FIELDS, Policy()) == accept(request(), Policy())
        assert accept_fields(list(FIELDS.items()), Policy()) == accept(request(), Policy())
        with pytest.raises(HandshakeError, match="405"):
            accept_fields(FIELDS, Policy(), method="POST")

    @pytest.mark.parametrize(
        "fields",
        [
            {"Upgrade": "WebSocket"},
            {"Upgrade": "h2c, websocket"},
            {"Connection": "keep-alive, Upgrade"},
            {"Connection": "UPGRADE"},
            {"Content-Length": "0"},
        ],
    )
    def test_case_and_company_do_not_matter(self, fields):
        got = request(*fields.items(), without=tuple(fields))
        assert ACCEPT.encode() in accept(got, Policy()).response

    def test_tokens_may_come_in_several_fields(self):
        got = request(("Connection", "upgrade"), Connection="keep-alive")
        assert ACCEPT.encode() in accept(got, Policy()).response

    def test_the_absolute_form_is_taken(self):
        assert accept(request(target="http://server.example.com/chat"), Policy()).response

    @pytest.mark.parametrize(
        ("got", "status"),
        [
            pytest.param(request(method="POST"), 405, id="POST"),
            pytest.param(request(method="get"), 405, id="get"),
            pytest.param(request(method="CONNECT", target="x:80"), 405, id="CONNECT"),
            pytest.param(request(method="OPTIONS", target="*"), 405, id="OPTIONS *"),
            pytest.param(request(target="*"), 400, id="*"),
            pytest.param(request(target="chat"), 400, id="no slash"),
            pytest.param(request(without=["Host"]), 400, id="no Host"),
            pytest.param(request(("Host", "b")), 400, id="two Hosts"),
            pytest.param(request(("Content-Length", "5")), 400, id="a body"),
            pytest.param(request(("Transfer-Encoding", "chunked")), 400, id="a chunked body"),
            pytest.param(request(without=["Upgrade"]), 426, id="no Upgrade"),
            pytest.param(request(without=["Upgrade", "Connection"]), 426, id="a plain GET"),
            pytest.param(request(Upgrade="h2c"), 426, id="Upgrade: h2c"),
            pytest.param(request(Upgrade="websockets"), 426, id="Upgrade: websockets"),
            pytest.param(request(without=["Connection"]), 400, id="no Connection"),
            pytest.param(request(Connection="keep-alive"), 400, id="Connection: keep-alive"),
            pytest.param(request(Sec_WebSocket_Version="7"), 426, id="version 7"),
            pytest.param(request(Sec_WebSocket_Version="14"), 426, id="version 14"),
            pytest.param(request(Sec_WebSocket_Version="013"), 426, id="version 013"),
            pytest.param(request(without=["Sec-WebSocket-Version"]), 426, id="no version"),
            pytest.param(request(("Sec-WebSocket-Version", "8")), 426, id="two versions"),
            pytest.param(request(without=["Sec-WebSocket-Key"]), 400, id="no key"),
            pytest.param(request(("Sec-WebSocket-Key", KEY)), 400, id="two keys"),
            pytest.param(request(Sec_WebSocket_Key=""), 400, id="an empty key"),
            pytest.param(request(Sec_WebSocket_Key="dGhlIHNhbXBsZQ=="), 400, id="a short key"),
            pytest.param(request(Sec_WebSocket_Key=KEY[:-2]), 400, id="a key without padding"),
            pytest.param(request(Sec_WebSocket_Key="*" + KEY[1:]), 400, id="a key that is not base64"),
            pytest.param(request(Sec_WebSocket_Key=KEY + KEY), 400, id="a long key"),
            pytest.param(request(("Origin", "http://evil.example")), 403, id="a bad Origin"),
            pytest.param(request(("Sec-WebSocket-Protocol", "a b")), 400, id="no subprotocol's name"),
            pytest.param(request(("Sec-WebSocket-Extensions", "a; b=")), 400, id="no list of extensions"),
        ],
    )
    def test_what_is_no_handshake_is_refused(self, got, status):
        error = refused(got)
        assert error.status == status
        assert "\n" not in error.reason

    def test_refusals_say_what_would_be_right(self):
        assert ("Allow", "GET") in refused(request(method="POST")).headers
        assert ("Sec-WebSocket-Version", "13") in refused(request(Sec_WebSocket_Version="7")).headers
        assert ("Upgrade", "websocket") in refused(request(without=["Upgrade"])).headers

    def test_no_common_subprotocol_is_no_error(self):
        accepted = accept(request(("Sec-WebSocket-Protocol", "x, y")), Policy(subprotocols=("chat",)))
        assert accepted.subprotocol is None
        assert b"Protocol:" not in accepted.response

    def test_the_clients_preference_counts(self):
        got = request(("Sec-WebSocket-Protocol", "x, b"), ("Sec-WebSocket-Protocol", "a"))
        accepted = accept(got, Policy(subprotocols=("a", "b")))
        assert accepted.subprotocol == "b"
        assert b"\r\nSec-WebSocket-Protocol: b\r\n" in accepted.response

    def test_an_application_may_have_chosen(self):
        got = request(("Sec-WebSocket-Protocol", "x, b, a"))
        accepted = accept(got, Policy(subprotocols=("x",)), "a")
        assert accepted.subprotocol == "a"
        assert b"\r\nSec-WebSocket-Protocol: a\r\n" in accepted.response
        for asked in (got, request()):
            with pytest.raises(ValueError, match="did not offer the subprotocol 'c'"):
                accept(asked, Policy(), "c")

    def test_subprotocols_are_told_apart_by_case(self):
        assert accept(request(("Sec-WebSocket-Protocol", "CHAT")), Policy(("chat",))).subprotocol is None

    def test_compression_is_agreed_on(self):
        got = request(("Sec-WebSocket-Extensions", "x-unknown, permessage-deflate; client_max_window_bits"))
        accepted = accept(got, Policy(deflate=Deflate(client_max_window_bits=10)))
        assert accepted.deflate.client_max_window_bits == 10
        assert (
            b"\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=10\r\n"
            in accepted.response
        )

    def test_offers_may_come_in_several_fields(self):
        got = request(
            ("Sec-WebSocket-Extensions", "permessage-deflate; server_max_window_bits=7"),
            ("Sec-WebSocket-Extensions", "permessage-deflate; server_max_window_bits=9"),
        )
        assert accept(got, Policy()).deflate.server_max_window_bits == 9

    def test_no_compression_is_agreed_on_by_who_wants_none(self):
        got = request(("Sec-WebSocket-Extensions", "permessage-deflate"))
        accepted = accept(got, Policy(deflate=None))
        assert accepted.deflate is None
        assert b"Extensions" not in accepted.response

    def test_malformed_extensions_are_refused_by_who_wants_none_too(self):
        assert refused(request(("Sec-WebSocket-Extensions", "=")), Policy(deflate=None)).status == 400


class TestOrigins:
    @pytest.mark.parametrize(
        ("origin", "host"),
        [
            ("http://example.com", "example.com"),
            ("https://example.com", "example.com"),
            ("https://Example.com", "example.COM"),
            ("https://example.com", "example.com:443"),
            ("http://example.com", "example.com:80"),
            ("http://example.com:80", "example.com"),
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://[::1]:8080", "[::1]:8080"),
        ],
    )
    def test_the_same_may_connect(self, origin, host):
        assert accept(request(("Origin", origin), Host=host), Policy()).response

    @pytest.mark.parametrize(
        ("origin", "host"),
        [
            ("http://example.com", "example.org"),
            ("http://example.com:8080", "example.com"),
            ("http://example.com", "example.com:8080"),
            ("http://example.com", "example.com:443"),
            ("https://example.com:80", "example.com"),
            ("http://example.com.evil", "example.com"),
            ("http://evil@example.com", "example.com"),
            ("null", "example.com"),
            ("", "example.com"),
            ("http://", ""),
            ("example.com", "example.com"),
            ("http://example.com, http://example.com", "example.com"),
        ],
    )
    def test_another_may_not(self, origin, host):
        assert refused(request(("Origin", origin), Host=host)).status == 403

    def test_two_origins_are_none(self):
        own = ("Origin", "http://server.example.com")
        assert refused(request(own, own)).status == 403

    def test_those_named_may(self):
        policy = Policy(origins=["https://A.example", "https://b.example/"])
        assert accept(request(("Origin", "https://a.example")), policy).response
        assert accept(request(("Origin", "https://B.example")), policy).response
        assert accept(request(), policy).response
        assert refused(request(("Origin", "https://c.example")), policy).status == 403
        assert refused(request(("Origin", "http://server.example.com")), policy).status == 403

    def test_same_may_be_named_among_others(self):
        policy = Policy(origins=("same", "https://a.example"))
        assert accept(request(("Origin", "http://server.example.com")), policy).response
        assert accept(request(("Origin", "https://a.example")), policy).response
        assert refused(request(("Origin", "https://c.example")), policy).status == 403

    @pytest.mark.parametrize("origins", ["*", ["*"], ("https://a.example", "*")])
    def test_any_may_where_any_may(self, origins):
        assert accept(request(("Origin", "null")), Policy(origins=origins)).response

    def test_none_may_where_none_is_named(self):
        assert refused(request(("Origin", "http://server.example.com")), Policy(origins=())).status == 403


class TestPolicies:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"subprotocols": ("a b",)},
            {"subprotocols": ("",)},
            {"subprotocols": ("a", "a")},
            {"headers": (("A", "b\r\nC: d"),)},
            {"headers": (("A", "\u20ac"),)},
            {"headers": (("A b", "c"),)},
            {"headers": (("Upgrade", "c"),)},
            {"headers": (("sec-websocket-accept", "c"),)},
        ],
    )
    def test_what_cannot_stand_in_a_response_is_no_policy(self, wrong):
        with pytest.raises(ValueError):
            Policy(**wrong)

    @pytest.mark.parametrize("deflate", [True, False, "on", {}])
    def test_compression_is_a_deflate_or_none(self, deflate):
        with pytest.raises(TypeError, match=r"^deflate is a kirsch\.websocket\.Deflate or None, not "):
            Policy(deflate=deflate)


class TestRefusals:
    def test_it_is_a_whole_response(self):
        data = refusal(HandshakeError(403, "the origin is not allowed"))
        head, _, body = data.partition(b"\r\n\r\n")
        assert head.split(b"\r\n") == [
            b"HTTP/1.1 403 Forbidden",
            b"Content-Type: text/plain; charset=utf-8",
            b"Content-Length: 26",
            b"Connection: close",
        ]
        assert body == b"the origin is not allowed\n"

    def test_an_upgrade_is_named_by_connection_too(self):
        head = read(refusal(refused(request(Sec_WebSocket_Version="7"))), client=True)
        assert head.status == 426
        assert head.headers.get("Upgrade") == "websocket"
        assert head.headers.get("Sec-WebSocket-Version") == "13"
        assert head.headers.tokens("Connection") == ["close", "Upgrade"]

    @pytest.mark.parametrize(
        ("status", "told"), [(0, 500), (101, 500), (200, 500), (401, 401), (499, 499), (302, 302)]
    )
    def test_its_status_is_one_that_refuses(self, status, told):
        assert read(refusal(HandshakeError(status, "no")), client=True).status == told

    @given(st.integers(0, 700), st.text(), st.lists(st.tuples(st.just("X-A"), st.text())))
    def test_what_is_put_in_cannot_break_out(self, status, reason, headers):
        data = refusal(HandshakeError(status, reason, tuple(headers)))
        reader = HeadReader(Limits(headers=1000), client=True)
        head = reader.feed(data)
        assert len(head.headers) == 3 + len(headers)
        assert len(reader.rest) == int(head.headers.get("Content-Length"))


class TestEnvirons:
    ENVIRON = {  # noqa: RUF012
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "/app",
        "PATH_INFO": "/r\xc3\xa4ume/a b",
        "QUERY_STRING": "x=%20",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_LENGTH": "",
        "wsgi.version": (1, 0),
        "HTTP_HOST": "server.example.com",
        "HTTP_UPGRADE": "websocket",
        "HTTP_CONNECTION": "Upgrade",
        "HTTP_SEC_WEBSOCKET_KEY": KEY,
        "HTTP_SEC_WEBSOCKET_VERSION": "13",
    }

    def test_the_request_is_that_of_the_environ(self):
        got = request_from_environ(self.ENVIRON)
        assert (got.method, got.target) == ("GET", "/app/r%C3%A4ume/a%20b?x=%20")
        assert got.headers == Headers(FIELDS.items())
        assert accept(got, Policy()).response == accept(request(), Policy()).response

    def test_a_bare_environ_has_a_path(self):
        got = request_from_environ({"REQUEST_METHOD": "GET"})
        assert (got.target, len(got.headers)) == ("/", 0)

    def test_a_body_is_seen(self):
        assert refused(request_from_environ({**self.ENVIRON, "CONTENT_LENGTH": "3"})).status == 400

    def test_fields_that_the_server_joined_are_seen(self):
        joined = {**self.ENVIRON, "HTTP_SEC_WEBSOCKET_KEY": f"{KEY},{KEY}"}
        assert refused(request_from_environ(joined)).status == 400

    @pytest.mark.parametrize("protocol", ["HTTP/1.0", "HTTP/2.0", "HTTP/2"])
    def test_another_version_is_refused(self, protocol):
        with pytest.raises(HandshakeError) as caught:
            request_from_environ({**self.ENVIRON, "SERVER_PROTOCOL": protocol})
        assert caught.value.status == 505


URL = Url.parse("ws://server.example.com:81/chat?x=y")


def client(url=URL, **wishes):
    return ClientHandshake(url, nonce=NONCE, **wishes)


def answer(*fields, status=101, reason="Switching Protocols", **other):
    own = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": ACCEPT}
    own |= {name.replace("_", "-"): value for name, value in other.items()}
    return Response(
        status, reason, Headers([*((name, v) for name, v in own.items() if v is not None), *fields])
    )


class TestAsking:
    def test_the_request_is_that_of_the_rfc(self):
        assert client(deflate=None).request == (
            b"GET /chat?x=y HTTP/1.1\r\nHost: server.example.com:81\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Sec-WebSocket-Version: 13\r\n\r\n"
        )

    def test_wishes_are_fields(self):
        head = read(
            client(
                subprotocols=("a", "b"), origin="https://a.example", headers={"X-A": "b"}, deflate=Deflate()
            ).request
        )
        assert head.headers.get("Sec-WebSocket-Protocol") == "a, b"
        assert head.headers.get("Origin") == "https://a.example"
        assert head.headers.get("X-A") == "b"
        assert head.headers.get("Sec-WebSocket-Extensions") == "permessage-deflate; client_max_window_bits"

    def test_a_urls_user_is_told_by_basic_authentication(self):
        head = read(client(Url.parse("ws://us%C3%A9r:p%3Aw@x/")).request)
        assert (
            head.headers.get("Authorization")
            == "Basic " + base64.b64encode("us\u00e9r:p:w".encode()).decode()
        )

    def test_fields_given_come_instead_of_those_made(self):
        url = Url.parse("ws://user:pw@x/")
        head = read(client(url, headers=[("host", "y"), ("Authorization", "Bearer z")]).request)
        assert head.headers.get_all("Host") == ["y"]
        assert head.headers.get_all("Authorization") == ["Bearer z"]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"subprotocols": ["a,b"]},
            {"subprotocols": ["a", "a"]},
            {"origin": "a\r\nB: c"},
            {"headers": {"A": "b\nC: d"}},
            {"headers": {"A:": "b"}},
            {"headers": {"Sec-WebSocket-Key": "b"}},
            {"headers": {"Connection": "b"}},
        ],
    )
    def test_what_cannot_be_asked_is_an_error_at_once(self, wrong):
        with pytest.raises(ValueError):
            client(**wrong)

    def test_a_nonce_has_sixteen_bytes(self):
        with pytest.raises(ValueError):
            ClientHandshake(URL, nonce=b"x")


class TestChecking:
    def test_an_answer_is_agreed_to(self):
        assert client().check(answer()) == Agreed(None, None)
        assert client().check(answer(Upgrade="WebSocket", Connection="keep-alive, upgrade")) == Agreed(
            None, None
        )

    def test_what_was_agreed_on_is_told(self):
        agreed = client(subprotocols=("a", "b"), deflate=Deflate()).check(
            answer(
                ("Sec-WebSocket-Protocol", "b"),
                ("Sec-WebSocket-Extensions", "permessage-deflate; server_max_window_bits=9"),
            )
        )
        assert agreed.subprotocol == "b"
        assert agreed.deflate.server_max_window_bits == 9

    @pytest.mark.parametrize(
        "response",
        [
            pytest.param(answer(Sec_WebSocket_Accept="x" + ACCEPT[1:]), id="a wrong accept value"),
            pytest.param(answer(Sec_WebSocket_Accept=ACCEPT.lower()), id="an accept value in lower case"),
            pytest.param(answer(Sec_WebSocket_Accept=None), id="no accept value"),
            pytest.param(answer(("Sec-WebSocket-Accept", ACCEPT)), id="two accept values"),
            pytest.param(answer(Upgrade=None), id="no Upgrade"),
            pytest.param(answer(Upgrade="h2c"), id="Upgrade: h2c"),
            pytest.param(answer(Upgrade="websocket, h2c"), id="Upgrade to more"),
            pytest.param(answer(Connection=None), id="no Connection"),
            pytest.param(answer(Connection="close"), id="Connection: close"),
            pytest.param(answer(("Sec-WebSocket-Protocol", "c")), id="a subprotocol nobody asked for"),
            pytest.param(answer(("Sec-WebSocket-Protocol", "a, b")), id="two subprotocols"),
            pytest.param(
                answer(("Sec-WebSocket-Protocol", "a"), ("Sec-WebSocket-Protocol", "a")), id="one twice"
            ),
            pytest.param(answer(("Sec-WebSocket-Extensions", "x-unknown")), id="an unknown extension"),
            pytest.param(answer(("Sec-WebSocket-Extensions", "=")), id="no extension"),
        ],
    )
    def test_a_101_that_is_none_is_refused(self, response):
        with pytest.raises(HandshakeError) as caught:
            client(subprotocols=("a", "b"), deflate=Deflate()).check(response)
        assert caught.value.status == 101
        assert caught.value.headers == tuple(response.headers.items())

    def test_compression_nobody_asked_for_is_refused(self):
        with pytest.raises(HandshakeError, match="not offered"):
            client(deflate=None).check(answer(("Sec-WebSocket-Extensions", "permessage-deflate")))

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_redirect_says_where_to(self, status):
        with pytest.raises(Redirect) as caught:
            client().check(answer(("Location", "wss://x/y"), status=status))
        assert (caught.value.status, caught.value.location) == (status, "wss://x/y")

    @pytest.mark.parametrize(
        "response", [answer(status=302), answer(("Location", "/x"), status=300), answer(status=200)]
    )
    def test_what_leads_nowhere_is_a_refusal(self, response):
        with pytest.raises(HandshakeError) as caught:
            client().check(response)
        assert not isinstance(caught.value, Redirect)
        assert caught.value.status == response.status

    def test_a_refusals_fields_are_told(self):
        with pytest.raises(HandshakeError) as caught:
            client().check(Response(401, "Unauthorized", Headers([("WWW-Authenticate", "Basic")])))
        assert caught.value.status == 401
        assert caught.value.headers == (("WWW-Authenticate", "Basic"),)


@given(
    st.binary(min_size=16, max_size=16),
    st.lists(st.sampled_from(["a", "b", "c"]), unique=True),
    st.lists(st.sampled_from(["b", "c", "d"]), unique=True),
    st.none() | st.builds(Deflate, client_max_window_bits=st.none() | st.integers(8, 15)),
    st.none() | st.builds(Deflate, server_max_window_bits=st.none() | st.integers(8, 15)),
)
def test_a_client_and_a_server_of_ours_agree(nonce, asked, spoken, wish, allowed):
    asking = ClientHandshake(URL, nonce=nonce, subprotocols=asked, deflate=wish)
    accepted = accept(read(asking.request), Policy(subprotocols=tuple(spoken), deflate=allowed))
    agreed = asking.check(read(accepted.response, client=True))
    assert agreed.subprotocol == accepted.subprotocol
    assert (agreed.deflate is None) == (accepted.deflate is None) == (wish is None or allowed is None)
    digest = hashlib.sha1(base64.b64encode(nonce) + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    assert base64.b64encode(digest) in accepted.response
