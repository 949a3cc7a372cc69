"""RoomClient and `kirsch room`, with a real broker and a Bridge's exchanges."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from secrets import token_hex
from typing import Self

import pika
import pytest
from tests.amqp.rabbit import Rabbit
from tests.deadline import eventually

from kirsch.amqp import protocol
from kirsch.amqp.broker import Broker
from kirsch.amqp.client import RoomClient, RoomError, RoomMessage, read_message
from kirsch.amqp.protocol import MARK, MESSAGE, Send

KIRSCH = (sys.executable, "-m", "kirsch.cli.main")


class TestReading:
    def test_a_message_of_a_browser(self):
        body = protocol.envelope("lobby", "c1", "Ada", Send("lobby", 7, {"text": "Hi"}), 1000, "ada")
        assert read_message("lobby", body, MESSAGE, None, 5) == RoomMessage(
            5, "lobby", {"text": "Hi"}, "c1", "Ada", "ada", 1000
        )

    def test_a_message_of_a_program(self):
        assert read_message("lobby", b"Hi", None, "text/plain", 6) == RoomMessage(6, "lobby", "Hi")
        assert read_message("lobby", b'{"a":1}', None, "application/json", 7) == RoomMessage(
            7, "lobby", {"a": 1}
        )

    @pytest.mark.parametrize("at", ['"x"', "1e30", "-1", "true", "9" * 30])
    def test_a_time_that_is_none(self, at: str):
        body = f'{{"room": "lobby", "data": 1, "at": {at}}}'.encode()
        assert read_message("lobby", body, MESSAGE, None, 1) == RoomMessage(1, "lobby", 1)

    @pytest.mark.parametrize(
        ("key", "body", "kind"),
        [("lobby", b"{}", MARK), ("lobby", b"\xff", None), ("a b", b"Hi", None), ("lobby", b"[1]", MESSAGE)],
    )
    def test_what_is_no_message(self, key: str, body: bytes, kind: str | None):
        assert read_message(key, body, kind, None, 1) is None


@pytest.fixture
def name(rabbit: Rabbit) -> str:
    """The name of a Bridge, whose exchanges and stream are there."""
    name = f"rooms-{token_hex(4)}"
    with pika.BlockingConnection(pika.URLParameters(rabbit.url)) as connection:
        channel = connection.channel()
        channel.exchange_declare(f"{name}.rooms", "topic", durable=True)
        channel.exchange_declare(f"{name}.events", "fanout")
        channel.queue_declare(f"{name}.history", durable=True, arguments={"x-queue-type": "stream"})
        channel.queue_bind(f"{name}.history", f"{name}.rooms", "#")
    return name


def verb(rabbit: Rabbit, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*KIRSCH, "room", *arguments],
        env=os.environ | {"AMQP_URL": rabbit.url},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )


class Relay:
    """A way to a broker that can be cut, as the broker does to a client that sends no heartbeats."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"amqp://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._open: list[socket.socket] = []
        self._ways: list[threading.Thread] = []

    @property
    def connections(self) -> int:
        """Number of connections of clients that have not ended."""
        return sum(way.is_alive() for way in self._ways)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """End all connections."""
        while self._open:
            with suppress(OSError):
                self._open.pop().shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                there = socket.create_connection(("127.0.0.1", self._port))
                self._open += [here, there]
                to = threading.Thread(target=self._copy, args=(here, there), daemon=True)
                back = threading.Thread(target=self._copy, args=(there, here), daemon=True)
                to.start()
                back.start()
                self._ways.append(to)

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@pytest.mark.services
class TestWithABroker:
    def test_what_is_sent_is_read(self, rabbit: Rabbit, name: str):
        with RoomClient(Broker.parse(rabbit.url), name) as rooms:
            rooms.send("lobby", "Hi")
            rooms.send("kitchen", {"kettle": True})
            rooms.send("lobby", ["Bye"])
            found = rooms.tail(["lobby"], "first")
            assert [next(found).data, next(found).data] == ["Hi", ["Bye"]]
            # An offset in the middle of a chunk is where it begins.
            assert next(rooms.tail(since=1)).data == {"kettle": True}

    def test_a_client_with_nothing_to_say_for_long(self, rabbit: Rabbit, name: str):
        """The broker ends a connection without heartbeats, which pika sends within its calls only."""
        with Relay(rabbit.port) as relay, RoomClient(Broker.parse(relay.url), name) as rooms:
            rooms.send("lobby", 0)
            relay.cut()
            rooms.send("lobby", 1)
            relay.cut()
            found = rooms.tail(since="first")
            assert [next(found).data, next(found).data] == [0, 1]
            relay.close()
            with pytest.raises(RoomError, match=r"127\.0\.0\.1:\d+: Connection refused"):
                rooms.send("lobby", 2)

    @pytest.mark.timeout(60)
    def test_a_stream_that_is_deleted_meanwhile(self, rabbit: Rabbit, name: str):
        with RoomClient(Broker.parse(rabbit.url), name) as rooms:
            rooms.send("lobby", 0)
            found = rooms.tail(since="first")
            assert next(found).data == 0
            with pika.BlockingConnection(pika.URLParameters(rabbit.url)) as connection:
                connection.channel().queue_delete(f"{name}.history")
            with pytest.raises(RoomError, match=rf"the queue {name}\.history was deleted"):
                next(found)

    def test_a_mistake_does_not_last(self, rabbit: Rabbit, name: str):
        """The broker ends the channel of what cannot be published; the exchange is made later."""
        with (
            RoomClient(Broker.parse(rabbit.url), f"{name}-later") as rooms,
            pika.BlockingConnection(pika.URLParameters(rabbit.url)) as connection,
        ):
            for _ in range(2):
                with pytest.raises(RoomError, match=rf"no exchange '{name}-later\.rooms'"):
                    rooms.send("lobby", 0)
            connection.channel().exchange_declare(f"{name}-later.rooms", "topic")
            rooms.send("lobby", 1)

    @pytest.mark.slow
    def test_a_reader_that_ends_leaves_nothing_behind(self, rabbit: Rabbit, name: str):
        with Relay(rabbit.port) as relay:
            with RoomClient(Broker.parse(relay.url), name) as rooms:
                for number in range(300):
                    rooms.send("lobby", number)
                for _ in range(3):
                    assert next(message.data for message in rooms.tail(since="first")) == 0
                eventually(lambda: relay.connections == 1)
                rooms.send("lobby", 300)
                found = rooms.tail(since="first")
                assert next(found).data == 0
            with pytest.raises(RoomError, match="closed"):
                deque(found)
            eventually(lambda: relay.connections == 0)
            with pytest.raises(RoomError, match="this client is closed"):
                next(rooms.tail())

    def test_an_order_is_an_event(self, rabbit: Rabbit, name: str):
        with pika.BlockingConnection(pika.URLParameters(rabbit.url)) as connection:
            channel = connection.channel()
            queue = channel.queue_declare("", exclusive=True).method.queue
            channel.queue_bind(queue, f"{name}.events")
            assert verb(rabbit, "kick", "eve", "lobby", "--reason", "Ads.", "--bridge", name).returncode == 0
            _, _, body = channel.basic_get(queue, auto_ack=True)
        order = json.loads(body)
        # So processes know it again when another tells it to them.
        assert order.pop("at") == pytest.approx(time.time(), abs=60)
        expected = {"event": "order", "do": "kick", "user": "eve", "room": "lobby", "reason": "Ads."}
        assert order == expected

    def test_the_verbs(self, rabbit: Rabbit, name: str):
        assert verb(rabbit, "send", "lobby", "Is anybody\x1b here?", "--bridge", name).returncode == 0
        assert (
            verb(rabbit, "send", "lobby", "--json", "--bridge", name, stdin='{"a":1}\n[2]\n').returncode == 0
        )
        done = verb(rabbit, "tail", "lobby", "--since", "first", "-n", "3", "--bridge", name)
        assert done.stdout.splitlines() == ["lobby Is anybody\\x1b here?", 'lobby {"a": 1}', "lobby [2]"]
        done = verb(rabbit, "tail", "--since", "2", "-n", "1", "--json", "--bridge", name)
        assert json.loads(done.stdout)["data"] == [2]

    @pytest.mark.parametrize(
        ("arguments", "status", "why"),
        [
            (("send", "a room", "Hi"), 2, "room has 1 to 100 characters"),
            (("send", "lobby", "{", "--json"), 2, "the message is not JSON"),
            (("tail", "--since", "yesterday"), 2, "since is next, first, an offset"),
            (("tail", "--since", "9" * 20), 2, "an offset is less than 2**63"),
            (("tail", "-n", "0"), 2, "-n"),
            (("send", "lobby", "Hi", "--bridge", "none"), 1, "none.rooms"),
            (
                ("send", "lobby", "Hi", "--url", "amqp://127.0.0.1:1/"),
                1,
                "amqp://127.0.0.1:1: Connection refused",
            ),
            (("send", "lobby", "Hi", "--url", "http://x/"), 1, "the broker's URL is no amqp"),
        ],
    )
    def test_what_is_wrong_is_one_line(
        self, rabbit: Rabbit, name: str, arguments: tuple[str, ...], status: int, why: str
    ):
        done = verb(rabbit, *arguments)
        assert (done.returncode, len(done.stderr.splitlines())) == (status, 1), done.stderr
        assert why in done.stderr

    def test_a_stream_that_is_not_there(self, rabbit: Rabbit):
        with (
            RoomClient(Broker.parse(rabbit.url), "nobody") as rooms,
            pytest.raises(RoomError, match=r"no queue 'nobody\.history'"),
        ):
            next(rooms.tail())
