"""What kirsch reads faster than cheroot it reads alike; what CherryPy is spared comes out the same."""

import io
import socket
from types import SimpleNamespace

import cherrypy
import pytest
from cherrypy._cpwsgi_server import CPWSGIHTTPRequest
from cherrypy.lib import httputil, reprconf
from hypothesis import given
from hypothesis import strategies as st
from tests.source import digest

from kirsch.bus.head import parse_head
from kirsch.bus.lighter import Headers, LighterResponse, Namespaces
from kirsch.bus.request import FieldReader
from kirsch.bus.stream import Reader, Writer, keep_time

PLAIN = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get", "BREW", "G ET"])
TARGETS = st.text(st.sampled_from("/ab.%2F?=&#:~-_ \t"), max_size=12).map("/".__add__) | st.text(max_size=5)
FIELDS = st.lists(
    st.tuples(
        st.sampled_from(["Host", "host", "Accept", "Content-Length", "X_y", "X y", "x ", "", "Cookie"]),
        st.text(st.characters(max_codepoint=255), max_size=12),
        st.sampled_from([": ", ":", " :", "", ":\t"]),
        st.sampled_from(["\r\n", "\n", "\r\n "]),
    ),
    max_size=4,
)


class Bytes:
    """A connection's reader that has all there is."""

    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)
        self.readline, self.read = self.file.readline, self.file.read


@given(PLAIN, TARGETS, st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/1.1 ", "http/1.1"]), FIELDS)
def test_a_head_read_at_once_is_read_as_cheroot_reads_it(method, target, version, fields):
    lines = "".join(f"{name}{colon}{value}{end}" for name, value, colon, end in fields)
    data = f"{method} {target} {version}\r\n{lines}\r\n".encode("latin-1", "replace")
    end = data.find(b"\r\n\r\n") + 4
    head = parse_head(data[:end])
    if head is None:
        return
    server = SimpleNamespace(ssl_adapter=None, protocol="HTTP/1.1", max_request_header_size=0)
    server.max_request_body_size = 0
    request = CPWSGIHTTPRequest(server, SimpleNamespace(rfile=Bytes(data), wfile=io.BytesIO()))
    request.rfile = request.conn.rfile
    assert request.read_request_line()
    assert (request.method, request.uri, request.path, request.qs) == (
        head.method,
        head.target,
        head.path,
        head.query,
    )
    assert (request.request_protocol, request.response_protocol) == (b"HTTP/1.1", "HTTP/1.1")
    assert FieldReader()(request.rfile, {}) == head.fields
    assert request.rfile.file.tell() == end


@given(st.lists(st.binary(min_size=1, max_size=30)), st.lists(st.tuples(st.booleans(), st.integers(-1, 20))))
def test_a_stream_is_read_as_a_file_is(pieces, calls):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        keep_time(ours, 5)
        for piece in pieces:
            theirs.sendall(piece)
        theirs.shutdown(socket.SHUT_WR)
        reader, file = Reader(ours), io.BytesIO(b"".join(pieces))
        for line, size in [*calls, (False, -1)]:
            expected = file.readline(size) if line else file.read(size)
            assert (reader.readline(size) if line else reader.read(size)) == expected


def test_a_stream_that_does_not_come_times_out():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        keep_time(ours, 0.01)
        theirs.sendall(b"abc")
        reader = Reader(ours)
        with pytest.raises(TimeoutError):
            reader.readline()
        assert reader.read(3) == b"abc"
        with pytest.raises(TimeoutError):
            Writer(ours).write(bytes(10_000_000))


@given(st.dictionaries(st.sampled_from(["A", "X-Long-Name", "É"]), st.text() | st.integers() | st.none()))
def test_fields_are_sent_as_cherrypy_sends_them(fields):
    ours, theirs = Headers(), httputil.HeaderMap()
    for name, value in fields.items():
        ours[name] = theirs[name] = value
    assert ours.output() == theirs.output()


def test_a_response_begins_as_cherrypys():
    ours, theirs = LighterResponse(), cherrypy._cprequest.Response()
    theirs.headers["Date"] = ours.headers["Date"]
    assert ours.headers == theirs.headers
    assert vars(ours).keys() == vars(theirs).keys()


def test_each_entry_of_a_configuration_goes_to_its_namespace():
    heard = []

    class Manager:
        def __enter__(self):
            heard.append("enter")
            return lambda name, value: heard.append(("managed", name, value))

        def __exit__(self, *error):
            heard.append("exit")

    handlers = {"plain": lambda name, value: heard.append(("plain", name, value)), "managed": Manager()}
    Namespaces(**handlers)({"plain.a.b": 1, "managed.c": 2, "other.d": 3, "alone": 4})
    expected, heard = heard, []
    reprconf.NamespaceSet(**handlers)({"plain.a.b": 1, "managed.c": 2, "other.d": 3, "alone": 4})
    assert expected == [("plain", "a.b", 1), "enter", ("managed", "c", 2), "exit"] == heard


def test_cherrypy_is_the_one_that_was_read():
    """What kirsch.bus.lighter and dispatch do in its place. When this fails, read the new code first."""
    read = (
        cherrypy._cprequest.HookMap.run,
        cherrypy._cprequest.Response.__init__,
        cherrypy.dispatch.MethodDispatcher.__call__,
        httputil.HeaderMap.output,
        httputil.HeaderMap.encode_header_items,
        reprconf.NamespaceSet.__call__,
    )
    assert digest(*read) == "800e4e5c0e76870dbfbdc343897dfd02888bc768d99a41aa6651f034b2a3119e"
