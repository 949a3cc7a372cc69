"""A table of requests as bytes, and what is answered: by the server itself, and by HAProxy before it."""

import re
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from kirsch.bus import Limits, http_server

HOST = b"Host: x\r\n"
GET = b"GET / HTTP/1.1\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
END = b"\r\n"

# What is sent, and the statuses of all that is answered before the connection ends.
TABLE: dict[str, tuple[bytes, tuple[int, ...]]] = {
    # Sound requests.
    "plain": (GET + HOST + END, (200,)),
    "two": ((GET + HOST + END) * 2, (200, 200)),
    "empty line first": (END + GET + HOST + END, (200,)),
    "closed": (GET + HOST + b"Connection: close\r\n\r\n" + GET + HOST + END, (200,)),
    "HTTP/1.0": (b"GET / HTTP/1.0\r\n\r\n" + GET + HOST + END, (200,)),
    "HTTP/1.0 kept": (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + GET + HOST + END, (200, 200)),
    "absolute": (b"GET http://x/ HTTP/1.1\r\n" + HOST + END, (200,)),
    "absolute, capitals": (b"GET http://X/ HTTP/1.1\r\n" + HOST + END, (200,)),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\n" + HOST + END, (200,)),
    "unknown method": (b"BREW / HTTP/1.1\r\n" + HOST + END, (200,)),
    "no value": (GET + HOST + b"A:\r\n\r\n", (200,)),
    "no space": (GET + b"Host:x\r\n\r\n", (200,)),
    "tab": (GET + HOST + b"A:\tb\t\r\n\r\n", (200,)),
    "Latin-1": (GET + HOST + b"A: \xe9\r\n\r\n", (200,)),
    "port": (GET + b"Host: x:80\r\n\r\n", (200,)),
    "IPv6": (GET + b"Host: [::1]:80\r\n\r\n", (200,)),
    "length": (POST + b"Content-Length: 3\r\n\r\nabc" + GET + HOST + END, (200, 200)),
    "length 0": (POST + b"Content-Length: 0\r\n\r\n" + GET + HOST + END, (200, 200)),
    "zeros before": (POST + b"Content-Length: 003\r\n\r\nabc" + GET + HOST + END, (200, 200)),
    "chunks": (POST + CHUNKED + b"3\r\nabc\r\n0\r\n\r\n" + GET + HOST + END, (200, 200)),
    "Chunked": (POST + b"Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n" + GET + HOST + END, (200, 200)),
    "trailers": (POST + CHUNKED + b"0\r\nA: b\r\n\r\n" + GET + HOST + END, (200, 200)),
    "extension": (POST + CHUNKED + b"3;a=b\r\nabc\r\n0\r\n\r\n" + GET + HOST + END, (200, 200)),
    # Framing.
    "both": (POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400,)),
    "both, other order": (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", (400,)),
    "two lengths": (POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", (400,)),
    "a length twice": (POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", (400,)),
    "a list of lengths": (POST + b"Content-Length: 3, 3\r\n\r\nabc", (400,)),
    "length +3": (POST + b"Content-Length: +3\r\n\r\nabc", (400,)),
    "length -3": (POST + b"Content-Length: -3\r\n\r\nabc", (400,)),
    "length 0x3": (POST + b"Content-Length: 0x3\r\n\r\nabc", (400,)),
    "length 3 3": (POST + b"Content-Length: 3 3\r\n\r\nabc", (400,)),
    "length 3_0": (POST + b"Content-Length: 3_0\r\n\r\nabc", (400,)),
    "no length": (POST + b"Content-Length: \r\n\r\n", (400,)),
    "length beyond numbers": (POST + b"Content-Length: 99999999999999999999\r\n\r\n", (400,)),
    "length in other digits": (POST + "Content-Length: ³\r\n\r\n".encode("latin-1"), (400,)),
    "vertical tab": (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", (400,)),
    "chunked twice": (POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", (400,)),
    "chunked in two fields": (POST + b"Transfer-Encoding: chunked\r\n" + CHUNKED + b"0\r\n\r\n", (400,)),
    "chunked and more": (POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", (400,)),
    "identity": (POST + b"Transfer-Encoding: identity\r\n\r\n", (400,)),
    "xchunked": (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", (400,)),
    "chunked in quotes": (POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n', (400,)),
    "no coding": (POST + b"Transfer-Encoding:\r\n\r\n", (400,)),
    "chunked in HTTP/1.0": (b"POST / HTTP/1.0\r\n" + HOST + CHUNKED + b"0\r\n\r\n", (400,)),
    "coding, then a space": (POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", (400,)),
    "folded coding": (POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", (400,)),
    # Chunks.
    "size zz": (POST + CHUNKED + b"zz\r\n", (400,)),
    "size 0x3": (POST + CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n", (400,)),
    "size -1": (POST + CHUNKED + b"-1\r\n", (400,)),
    "size +3": (POST + CHUNKED + b"+3\r\nabc\r\n0\r\n\r\n", (400,)),
    "no size": (POST + CHUNKED + b"\r\n0\r\n\r\n", (400,)),
    "space before the size": (POST + CHUNKED + b" 3\r\nabc\r\n0\r\n\r\n", (400,)),
    "space after the size": (POST + CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n", (400,)),
    "size, line feed": (POST + CHUNKED + b"3\nabc\r\n0\r\n\r\n", (400,)),
    "chunk too long": (POST + CHUNKED + b"2\r\nabc\r\n0\r\n\r\n", (400,)),
    "chunk too short": (POST + CHUNKED + b"4\r\nabc\r\n0\r\n\r\n", (400,)),
    "chunk, line feed": (POST + CHUNKED + b"3\r\nabc\n0\r\n\r\n", (400,)),
    "extension with a line feed": (POST + CHUNKED + b"3;a\nb\r\nabc\r\n0\r\n\r\n", (400,)),
    "extension with NUL": (POST + CHUNKED + b"3;\x00\r\nabc\r\n0\r\n\r\n", (400,)),
    "trailer without a colon": (POST + CHUNKED + b"0\r\nGET / HTTP/1.1\r\n\r\n", (400,)),
    "folded trailer": (POST + CHUNKED + b"0\r\nA: b\r\n c\r\n\r\n", (400,)),
    "trailer, line feed": (POST + CHUNKED + b"0\r\nA: b\n\r\n", (400,)),
    # Lines.
    "line feeds": (b"GET / HTTP/1.1\nHost: x\n\n", (400,)),
    "a line feed": (GET + b"Host: x\nA: b\r\n\r\n", (400,)),
    "carriage returns": (b"GET / HTTP/1.1\rHost: x\r\r", (400,)),
    "a carriage return": (GET + HOST + b"A: b\rc\r\n\r\n", (400,)),
    "carriage return at the end": (GET + HOST + b"A: b\r\r\n\r\n", (400,)),
    "NUL": (GET + HOST + b"A: \x00\r\n\r\n", (400,)),
    "NUL in a name": (GET + HOST + b"A\x00: b\r\n\r\n", (400,)),
    "NUL in the target": (b"GET /\x00 HTTP/1.1\r\n" + HOST + END, (400,)),
    "control character": (GET + HOST + b"A: \x01\r\n\r\n", (400,)),
    "delete": (GET + HOST + b"A: \x7f\r\n\r\n", (400,)),
    # Names.
    "space after a name": (GET + b"Host : x\r\n\r\n", (400,)),
    "tab after a name": (GET + b"Host\t: x\r\n\r\n", (400,)),
    "space in a name": (GET + HOST + b"A b: c\r\n\r\n", (400,)),
    "space before the first name": (GET + b" Host: x\r\n\r\n", (400,)),
    "folded": (GET + HOST + b"A: b\r\n c\r\n\r\n", (400,)),
    "folded by a tab": (GET + HOST + b"A: b\r\n\tc\r\n\r\n", (400,)),
    "folded and empty": (GET + HOST + b"A: b\r\n \r\n\r\n", (400,)),
    "no name": (GET + HOST + b": b\r\n\r\n", (400,)),
    "no colon": (GET + HOST + b"A\r\n\r\n", (400,)),
    "name in Latin-1": (GET + HOST + b"\xe9: b\r\n\r\n", (400,)),
    "brackets in a name": (GET + HOST + b"A[0]: b\r\n\r\n", (400,)),
    # Hosts and targets.
    "no Host": (GET + END, (400,)),
    "two Hosts": (GET + HOST + b"Host: y\r\n\r\n", (400,)),
    "Host twice": (GET + HOST + HOST + END, (400,)),
    "two Hosts in HTTP/1.0": (b"GET / HTTP/1.0\r\n" + HOST + b"Host: y\r\n\r\n", (400,)),
    "Host with a path": (GET + b"Host: x/y\r\n\r\n", (400,)),
    "Host with a user": (GET + b"Host: u@x\r\n\r\n", (400,)),
    "Host with a space": (GET + b"Host: x y\r\n\r\n", (400,)),
    "list of Hosts": (GET + b"Host: x, y\r\n\r\n", (400,)),
    "another authority": (b"GET http://y/ HTTP/1.1\r\n" + HOST + END, (400,)),
    "another port": (b"GET http://x:81/ HTTP/1.1\r\n" + HOST + END, (400,)),
    "user in the authority": (b"GET http://x@y/ HTTP/1.1\r\n" + HOST + END, (400,)),
    "no authority": (b"GET http:/// HTTP/1.1\r\n" + HOST + END, (400,)),
    "another scheme": (b"GET ftp://x/ HTTP/1.1\r\n" + HOST + END, (400,)),
    "no slash": (b"GET x HTTP/1.1\r\n" + HOST + END, (400,)),
    "GET *": (b"GET * HTTP/1.1\r\n" + HOST + END, (400,)),
    "fragment": (b"GET /#a HTTP/1.1\r\n" + HOST + END, (400,)),
    "target in Latin-1": (b"GET /\xe9 HTTP/1.1\r\n" + HOST + END, (400,)),
    "space in the target": (b"GET /a b HTTP/1.1\r\n" + HOST + END, (400,)),
    # Request lines.
    "two spaces": (b"GET  / HTTP/1.1\r\n" + HOST + END, (400,)),
    "two spaces before the version": (b"GET /  HTTP/1.1\r\n" + HOST + END, (400,)),
    "tabs": (b"GET\t/\tHTTP/1.1\r\n" + HOST + END, (400,)),
    "space first": (b" GET / HTTP/1.1\r\n" + HOST + END, (400,)),
    "space last": (b"GET / HTTP/1.1 \r\n" + HOST + END, (400,)),
    "small letters": (b"get / HTTP/1.1\r\n" + HOST + END, (400,)),
    "no version": (b"GET /\r\n\r\n", (400,)),
    "HTTP/0.9": (b"GET / HTTP/0.9\r\n\r\n", (400, 505)),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\n" + HOST + END, (400, 505)),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\n" + HOST + END, (400, 505)),
    "http/1.1": (b"GET / http/1.1\r\n" + HOST + END, (400,)),
    "HTTP/01.1": (b"GET / HTTP/01.1\r\n" + HOST + END, (400,)),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505)),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00", (400,)),
    "CONNECT": (b"CONNECT x:80 HTTP/1.1\r\n" + HOST + END, (400, 501)),
    "gzip, chunked": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", (400, 501)),
    "Expect": (POST + b"Expect: nothing\r\nContent-Length: 0\r\n\r\n", (417,)),
    "long target": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HOST + END, (414,)),
    "long head": (GET + HOST + b"A: b\r\n" * 12_000 + END, (431,)),
    "long body": (POST + b"Content-Length: 2000000\r\n\r\n", (413,)),
}


class Application:
    """Answers each request with what it has read of it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def __call__(self, environ, start_response):
        body = environ["wsgi.input"].read()
        self.bodies.append(body)
        assert int(environ.get("CONTENT_LENGTH") or 0) == len(body)
        names = ("REQUEST_METHOD", "REQUEST_URI", "HTTP_HOST", "HTTP_A")
        report = " ".join([*(environ.get(name, "-") for name in names), repr(body)]).encode("latin-1")
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(report)))])
        return [report]


def talk(address, data, end=True):
    """All that is answered until the connection ends."""
    with socket.create_connection(address, timeout=20) as sock:
        try:
            sock.sendall(data)
            if end:
                sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the answer is there already
        return b"".join(iter(lambda: sock.recv(65536), b""))


def statuses(answer):
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", answer)]


@pytest.fixture
def application():
    return Application()


@pytest.fixture
def address(bus, application):
    adapter = http_server(bus, application, port=0, limits=Limits(body=1_000_000, timeout=5))
    bus.start()
    return adapter.bind_addr


@pytest.mark.parametrize("parser", ["httptools", "pattern"])
@pytest.mark.parametrize("name", TABLE)
def test_a_request_is_answered(address, application, name, parser, monkeypatch):
    data, expected = TABLE[name]
    if parser == "pattern":  # on phones
        monkeypatch.setattr("kirsch.bus.http.request.httptools", None)
        # A version that there is not is refused as a line that cannot be read.
        expected = (*expected, 400) if expected[0] != 200 else expected
    answer = talk(address, data)
    found = statuses(answer)
    if expected[0] == 200:
        assert found == list(expected)
        assert len(application.bodies) == len(expected)
        return
    assert len(found) == 1
    assert found[0] in expected
    assert b"\r\nConnection: close\r\n" in answer
    assert b"Traceback" not in answer
    assert application.bodies == []


def answers(data):
    """Each answer's status, fields and body, but for what belongs to one connection or one moment."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        fields = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        size = int(fields.get("content-length", len(data)))
        kept = {name: fields[name] for name in fields.keys() - {"connection", "keep-alive", "date"}}
        found.append((int(lines[0].split()[1]), kept, data[:size]))
        data = data[size:]
    return found


# What the server reads of a request that HAProxy has mended.
MENDED = {
    "both": b"POST / x - b''",
    "both, other order": b"POST / x - b''",
    "a length twice": b"POST / x - b'abc'",
    "a list of lengths": b"POST / x - b'abc'",
    "folded coding": b"POST / x - b''",
    "space after the size": b"POST / x - b'abc'",
    "size, line feed": b"POST / x - b'abc'",
    "chunk too short": rb"POST / x - b'abc\r'",
    "chunk, line feed": b"POST / x - b'abc'",
    "extension with NUL": b"POST / x - b'abc'",
    "folded trailer": b"POST / x - b''",
    "trailer, line feed": b"POST / x - b''",
    "line feeds": b"GET / x - b''",
    "a line feed": b"GET / x b b''",
    "folded": b"GET / x b   c b''",
    "folded by a tab": b"GET / x b  \tc b''",
    "folded and empty": b"GET / x b b''",
    "Host twice": b"GET / x - b''",
    "two spaces": b"GET / x - b''",
    "two spaces before the version": b"GET / x - b''",
    "tabs": b"GET / x - b''",
    "HTTP/1.2": b"GET / x - b''",
    "HTTP/2.0": b"GET / x - b''",
}
# Other statuses by which HAProxy refuses what the server would refuse.
HAPROXYS = {
    "gzip, chunked": 422,
    "long head": 400,
    "long body": 408,  # it waits for the body, so that nobody else has to
}


@pytest.mark.slow
@pytest.mark.services
def test_haproxy_and_the_server_agree(address, application, haproxy):
    """The answers through HAProxy are the server's own, but for requests that HAProxy refuses or mends."""
    before = haproxy(address)
    with ThreadPoolExecutor(20) as pool:
        through = list(pool.map(lambda row: talk(before, row[0], end=False), TABLE.values()))
        arrived = len(application.bodies)
        direct = list(pool.map(lambda row: talk(address, row[0]), TABLE.values()))
    wrong = {}
    good = 0
    for name, own, sent_on in zip(TABLE, direct, through, strict=True):
        if name == "HTTP/2":  # HAProxy speaks that, and the rest of it does not come
            assert b"HTTP/1.1" not in sent_on
            continue
        expected, found = answers(own), answers(sent_on)
        good += sum(status == 200 for status, _, _ in found)
        if found == expected:
            continue
        if name in MENDED and [(status, body) for status, _, body in found] == [(200, MENDED[name])]:
            continue
        # HAProxy's own refusal: it has other words, and fields of its own.
        (status, fields, _), (own_status, _, _) = found[0], expected[0]
        refused = len(found) == 1 and "server" not in fields and own_status >= 400
        if not refused or status not in (own_status, HAPROXYS.get(name)):
            wrong[name] = own, sent_on
    assert wrong == {}
    assert arrived == good, "each answer is of one request, and there was no other"
