"""What is the same whichever provider it is."""

import asyncio
import contextlib
import logging
import os
import socket
import stat
import threading

import pytest
from tests.certificate import certify
from tests.deadline import eventually
from tests.process import Before
from tests.websocket import wire
from tests.websocket.serving import BLOCKING, LOOPED, provider, serving

from kirsch.websocket import Backoff, Closed, HandshakeError, Limits, WebSocket

PATIENCE = 20


@pytest.mark.parametrize("name", [*BLOCKING, *LOOPED])
def test_a_unix_socket_is_its_owners(name, tmp_path):
    path = str(tmp_path / "socket")
    with serving(name, WebSocket, unix=path):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with wire.dial(path) as peer:
            peer.close()
    assert not os.path.exists(path)


@pytest.mark.parametrize("name", ["threaded", "asyncio", "gevent"])
def test_who_does_not_speak_tls_is_named(name, tmp_path, caplog):
    context = certify(tmp_path, "IP:127.0.0.1").server
    with (
        caplog.at_level(logging.WARNING, "kirsch.websocket"),
        serving(name, WebSocket, ssl=context) as server,
        socket.create_connection(server.address) as sock,
    ):
        sock.sendall(wire.REQUEST)
        sock.settimeout(PATIENCE)
        with contextlib.suppress(ConnectionError):
            while sock.recv(4096):
                pass
        host, port = sock.getsockname()
    assert [message for message in caplog.messages if message.startswith(f"{host}:{port}: ")]


@pytest.mark.parametrize("name", ["threaded", "asyncio", "gevent"])
def test_who_does_not_speak_tls_does_not_stop_the_clock(name, tmp_path):
    certificate = certify(tmp_path, "IP:127.0.0.1")
    limits = Limits(handshake_timeout=0.2)
    with serving(name, WebSocket, ssl=certificate.server, limits=limits) as server:
        for _ in range(20):
            with socket.create_connection(server.address) as sock:
                sock.sendall(wire.REQUEST)
        with socket.create_connection(server.address) as sock:
            slow = certificate.client.wrap_socket(sock, server_hostname="127.0.0.1")
            slow.settimeout(PATIENCE)
            # It says nothing, and is dropped.
            try:
                assert slow.recv(1) == b""
            except TimeoutError:
                raise
            except OSError:
                pass


@contextlib.contextmanager
def answering(*statuses):
    """A server that answers each connection with one of these, in turn."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run():
            for status in statuses:
                sock, _ = listener.accept()
                with sock:
                    sock.settimeout(PATIENCE)
                    head = b""
                    while not head.endswith(b"\r\n\r\n"):
                        head += sock.recv(4096)
                    sock.sendall(f"HTTP/1.1 {status} So\r\nContent-Length: 0\r\n\r\n".encode())

        thread = threading.Thread(target=run)
        thread.start()
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.mark.parametrize("name", ["threaded", "asyncio", "gevent"])
def test_reconnect_gives_up_where_no_time_heals(name, caplog):
    caplog.set_level(logging.INFO, "kirsch.websocket")
    reconnect = provider(name).reconnect
    with answering(503, 429, 501, 404) as url:
        connections = reconnect(url, backoff=Backoff(start=0))
        with pytest.raises(HandshakeError, match="404"):
            asyncio.run(anext(connections)) if name == "asyncio" else next(connections)
    # Until then it says why there is no connection.
    assert caplog.messages == [
        f"the server refuses: {status} 'So' (HTTP status {status}): trying again in 0.0 s"
        for status in (503, 429, 501)
    ]


class Talking(WebSocket):
    """Says more than any socket holds, and waits until it is read; `ends` is what it waited for."""

    def opened(self):
        self.send(b"x" * (64 << 20))
        self.begin()

    def wait(self):
        try:
            self.drain()
        except Closed as closed:
            self.ends.append(closed.code)
        finally:
            self.told.set()

    async def wait_async(self):
        try:
            await self.drain()
        except Closed as closed:
            self.ends.append(closed.code)
        finally:
            self.told.set()

    # Where it waits: in a thread, greenlet or task of its own, or in the callback.

    def in_a_thread(self):
        threading.Thread(target=self.wait).start()

    def in_a_greenlet(self):
        import gevent

        gevent.spawn(self.wait)

    def in_a_task(self):
        self.task = asyncio.get_running_loop().create_task(self.wait_async())


@pytest.mark.parametrize(
    ("name", "begin"),
    [
        ("threaded", Talking.in_a_thread),
        ("threaded", Talking.wait),
        ("gevent", Talking.in_a_greenlet),
        ("gevent", Talking.wait),
        ("asyncio", Talking.in_a_task),
        ("tornado", Talking.in_a_task),
    ],
)
def test_drain_raises_closed_when_the_peer_goes(name, begin, caplog):
    told, ends = threading.Event(), []
    application = type("Talking", (Talking,), {"begin": begin, "told": told, "ends": ends})
    with serving(name, application, limits=Limits(close_timeout=0.2)) as server:
        with wire.dial(server.address) as peer:
            peer.sock.recv(1)
        assert told.wait(PATIENCE)
        assert ends == [1006]
    assert not caplog.records


class Echo(WebSocket):
    def received_message(self, message):
        self.send(message)


# Of asyncio and threaded test_robust tells more.
@pytest.mark.parametrize("name", ["tornado", "gevent", "cherrypy", "wsgi"])
def test_a_conversation_that_breaks_off_at_any_byte_leaves_nothing(name, caplog):
    told = wire.REQUEST + b"\x81\x85\0\0\0\0hello\x01\x81\0\0\0\0a\x80\x81\0\0\0\0b\x88\x82\0\0\0\0\x03\xe8"
    with serving(name, Echo) as server:

        def say(length):
            with socket.create_connection(server.address, PATIENCE) as sock:
                sock.sendall(told[:length])
                sock.shutdown(socket.SHUT_WR)
                said = b""
                with contextlib.suppress(ConnectionResetError):
                    while data := sock.recv(1000):
                        said += data
                return said

        assert say(len(told)).endswith(b"\x81\x05hello\x81\x02ab\x88\x02\x03\xe8")
        if name in ("cherrypy", "wsgi"):
            # The last of the threads that the first connection begins.
            eventually(lambda: "websocket-housekeeper" in [thread.name for thread in threading.enumerate()])
        before = Before()
        for length in range(len(told)):
            say(length)
        before.assert_nothing_more()
        assert say(len(told)).endswith(b"\x81\x05hello\x81\x02ab\x88\x02\x03\xe8")
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize("name", ["threaded", "cherrypy", "wsgi", "gevent"])
def test_functions_are_given_messages_in_chunks(name):
    def kinds(ws):
        for message in ws:
            ws.send(f"{message.text} {sum(map(len, message))}")

    with serving(name, kinds, stream=True) as server, wire.dial(server.address) as peer:
        peer.send("text", b"x" * 100_000)
        assert [peer.next(), peer.next()] == ["True 4", "False 100000"]


@pytest.mark.parametrize("name", [*BLOCKING, *LOOPED, "wsgi"])
def test_no_host_is_every_address(name):
    with serving(name, WebSocket, None) as server:
        port = server.address[1]
        assert server.url.endswith(f":{port}/")
        with wire.dial(("127.0.0.2", port)) as peer:
            peer.close()


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.parametrize("name", ["threaded", "asyncio", "gevent"])
def test_what_was_sent_before_the_end_is_delivered_to_who_reads_slowly(name, caplog):
    """It takes longer than close_timeout, which is for peers that read nothing."""
    message = bytes(range(256)) * (8 << 12)

    class Once(WebSocket):
        def opened(self):
            self.send(message)
            self.close()

    limits = Limits(message=None, close_timeout=1.5)
    with serving(name, Once, limits=limits) as server, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        sock.settimeout(PATIENCE)
        sock.connect(server.address)
        sock.sendall(wire.REQUEST)
        said = b""
        while b"\r\n\r\n" not in said:
            said += sock.recv(1000)
        said, pause = said.partition(b"\r\n\r\n")[2], threading.Event()
        parts, size = [said], len(said)
        while size < len(message) + 14:
            parts.append(sock.recv(1 << 20, socket.MSG_WAITALL if size + (1 << 20) < len(message) else 0))
            assert parts[-1], f"it ended after {size} of {len(message)} bytes"
            size += len(parts[-1])
            pause.wait(0.3)
        sock.sendall(b"\x88\x82\0\0\0\0\x03\xe8")
    # A frame's head of ten bytes, the message, the close frame.
    assert b"".join(parts)[10:-4] == message
    assert not caplog.records
