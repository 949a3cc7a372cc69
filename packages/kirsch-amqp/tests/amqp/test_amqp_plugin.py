"""A broker on the bus, without a Bridge: the article's plugin."""

import os
import random
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from cherrypy.process.wspbus import Bus
from tests.amqp.rabbit import Rabbit
from tests.deadline import eventually
from tests.port import free_port
from tests.process import Before

from kirsch.amqp import AMQPPlugin, Binding, Broker, Consumer, Exchange, Publication, Queue, RoomClient
from kirsch.amqp.loops import loop_for
from kirsch.bus import AsyncioPlugin
from kirsch.install import pip_install

pytestmark = pytest.mark.services


class Talk:
    """A bus with a plugin; what came and what became of publications."""

    def __init__(self, rabbit, url=None, queue=None, **options):
        self.name = rabbit.name()
        self.bus = Bus()
        queue = queue or Queue(self.name)
        declared = [Exchange(self.name), queue, Binding(queue.name, self.name)]
        consumers = [Consumer(queue.name)]
        self.plugin = AMQPPlugin(self.bus, url or rabbit.url, declare=declared, consume=consumers, **options)
        self.came, self.settled, self.said = [], [], []
        self.bus.subscribe("amqp2ws", self.came.append)
        self.bus.subscribe("amqp-connected", lambda: self.said.append("connected"))
        self.bus.subscribe("amqp-lost", lambda reason: self.said.append("lost"))
        self.plugin.subscribe()

    def __enter__(self):
        self.bus.start()
        return self

    def __exit__(self, *error):
        self.bus.exit()

    def publish(self, body, **options):
        publication = Publication(self.name, "a.b", body, settled=self.settled.append, **options)
        self.bus.publish("ws2amqp", publication)

    def bodies(self, count):
        eventually(lambda: len(self.came) >= count)
        return [delivery.body for delivery in self.came]


@pytest.mark.slow
def test_what_is_published_on_the_bus_comes_back_on_the_bus(rabbit):
    before = Before()
    with Talk(rabbit) as talk:
        talk.publish(b"one", kind="k", message_id="m", headers={"h": 1})
        talk.publish(b"two")
        assert talk.bodies(2) == [b"one", b"two"]
        delivery = talk.came[0]
        assert (delivery.queue, delivery.exchange, delivery.key) == (talk.name, talk.name, "a.b")
        assert (delivery.kind, delivery.message_id, delivery.headers, delivery.offset) == (
            "k",
            "m",
            {"h": 1},
            None,
        )
        eventually(lambda: talk.settled == ["", ""])
        assert talk.plugin.connected
        assert talk.plugin.unconfirmed == 0
    assert talk.said == ["connected", "lost"]
    before.assert_nothing_more()


def test_of_a_cluster_the_next_node_is_tried(rabbit):
    url = f"amqp://127.0.0.1:{free_port()},127.0.0.1:{rabbit.port}"
    with Talk(rabbit, url) as talk:
        talk.publish(b"one")
        assert talk.bodies(1) == [b"one"]
    RoomClient(Broker.parse(url)).close()


def test_a_listener_that_fails_keeps_nothing_up(rabbit, caplog):
    with Talk(rabbit) as talk:
        talk.bus.subscribe("amqp2ws", lambda delivery: 1 / 0)
        talk.publish(b"one")
        talk.publish(b"two")
        assert talk.bodies(2) == [b"one", b"two"]
    assert "a listener on 'amqp2ws' failed" in caplog.text


def test_what_nobody_takes_is_not_confirmed(rabbit):
    with Talk(rabbit) as talk:
        lost = Publication(talk.name + "-nowhere", "k", b"x", settled=talk.settled.append)
        talk.bus.publish("ws2amqp", lost)
        eventually(lambda: talk.settled)
        assert "no exchange" in talk.settled.pop()
        # Others are not kept from going.
        talk.publish(b"one")
        assert talk.bodies(1) == [b"one"]
        eventually(lambda: talk.settled == [""])
    bound_to_nothing = Talk(rabbit)
    bound_to_nothing.plugin.declare[2] = Binding(bound_to_nothing.name, bound_to_nothing.name, "elsewhere")
    with bound_to_nothing as talk:
        talk.publish(b"one")
        eventually(lambda: talk.settled == ["no queue takes it"])


def test_too_much_that_waits_is_refused(rabbit):
    talk = Talk(rabbit, url=f"amqp://127.0.0.1:{free_port()}", outbox=(3, 1 << 20))
    with talk:
        for number in range(5):
            talk.publish(b"%d" % number)
        eventually(lambda: talk.settled == ["too much waits for the broker"] * 2)
    assert talk.settled[2:] == ["the process ended before the broker had confirmed it"] * 3


def test_what_is_transient_is_dropped_while_the_broker_is_away(rabbit):
    talk = Talk(rabbit, url=f"amqp://127.0.0.1:{free_port()}")
    with talk:
        talk.publish(b"x", transient=True)
        assert talk.plugin.unconfirmed == 0
        with pytest.raises(RuntimeError, match=r"amqp://127\.0\.0\.1:[0-9]+: "):
            talk.plugin.check()


@pytest.mark.parametrize("where", ["asyncio plugin", "thread"])
def test_listeners_are_called_where_the_application_says(rabbit, where):
    bus = Bus()
    loop = AsyncioPlugin(bus)
    loop.subscribe()
    threads = set()
    plugin = AMQPPlugin(
        bus,
        rabbit.url,
        loop=loop if where == "asyncio plugin" else where,
        declare=[Queue("here", mine=True), Exchange("here", durable=False), Binding("here", "here")],
        consume=[Consumer("here")],
    )
    plugin.subscribe()
    bus.subscribe("amqp2ws", lambda delivery: threads.add(threading.get_ident()))
    bus.start()
    try:
        bus.publish("ws2amqp", Publication("here", "k", b"x"))
        eventually(lambda: threads)
        assert threads == {plugin.loop.thread}
        assert (plugin.loop.thread == loop._thread.ident) == (where == "asyncio plugin")
    finally:
        bus.exit()


def test_a_bus_can_be_started_again(rabbit):
    talk = Talk(rabbit)
    with talk:
        talk.publish(b"one")
        talk.bodies(1)
        talk.bus.stop()
        assert not talk.plugin.connected
        talk.publish(b"two")
        talk.bus.start()
        talk.publish(b"three")
        assert talk.bodies(3) == [b"one", b"two", b"three"]


@pytest.mark.slow
def test_all_is_declared_anew_when_the_broker_was_killed(tmp_path):
    """Queues, too, that went with the connection; what was published meanwhile arrives."""
    with Rabbit(tmp_path / "data") as rabbit, Talk(rabbit, queue=Queue("mine", mine=True)) as talk:
        talk.publish(b"one")
        talk.bodies(1)
        rabbit.kill()
        eventually(lambda: "lost" in talk.said)
        talk.publish(b"two")
        rabbit.start()
        assert talk.bodies(2) == [b"one", b"two"]
        eventually(lambda: talk.settled == ["", ""])
        assert talk.said == ["connected", "lost", "connected"]


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.parametrize("where", ["thread", "asyncio plugin"])
def test_a_broker_that_answers_no_more_is_given_up(mortal, where):
    """It is found by its silence; and the bus ends, with all that was open, though it says nothing."""
    before = Before()
    talk = Talk(mortal, heartbeat=2)
    if where == "asyncio plugin":
        loop = AsyncioPlugin(talk.bus)
        loop.subscribe()
        talk.plugin.loop = loop_for(loop)
    with talk:
        eventually(lambda: talk.plugin.connected)
        mortal.freeze()
        eventually(lambda: "lost" in talk.said)
        # It accepts connections and says nothing.
        eventually(lambda: _problem(talk) != "")
        mortal.thaw()
        eventually(lambda: talk.said[-1] == "connected", 60)
        mortal.freeze()
        talk.publish(b"never")
        ending = time.monotonic()
    assert time.monotonic() - ending < 15
    assert talk.settled == ["the process ended before the broker had confirmed it"]
    mortal.thaw()
    before.assert_nothing_more()


@pytest.mark.slow
def test_tls_to_the_broker(tmp_path, certificate):
    port = free_port()
    lines = (
        f"listeners.ssl.1 = 127.0.0.1:{port}",
        f"ssl_options.certfile = {certificate.file}",
        f"ssl_options.keyfile = {certificate.key}",
        f"ssl_options.cacertfile = {certificate.file}",
        "ssl_options.verify = verify_none",
    )
    with Rabbit(tmp_path / "data", lines) as rabbit:
        broker = Broker.parse(f"amqps://localhost:{port}", certificate.client)
        with Talk(rabbit, broker) as talk:
            talk.publish(b"secret")
            assert talk.bodies(1) == [b"secret"]
        # One that nobody vouches for is not talked to.
        with Talk(rabbit, f"amqps://localhost:{port}") as talk:
            eventually(lambda: "certificate" in _problem(talk))
        with Talk(rabbit, f"amqp://127.0.0.1:{port}") as talk:
            eventually(lambda: _problem(talk) and "not been connected" not in _problem(talk))


def _problem(talk):
    with pytest.raises(RuntimeError) as caught:
        talk.plugin.check()
    return str(caught.value)


def test_a_wrong_password_is_said_in_a_line_and_not_shown(rabbit):
    with Talk(rabbit, f"amqp://guest:geheim@127.0.0.1:{rabbit.port}") as talk:
        eventually(lambda: re.search("refused|ACCESS_REFUSED", _problem(talk)))
        assert "geheim" not in _problem(talk)
        assert "\n" not in _problem(talk)


def test_a_loop_that_is_none_is_refused():
    with pytest.raises(TypeError, match="loop is 'thread'"):
        AMQPPlugin(Bus(), "amqp://h", loop=3)
    with pytest.raises(TypeError, match="loop is 'thread'"):
        AMQPPlugin(Bus(), "amqp://h", loop="curio")


@pytest.mark.soak
@pytest.mark.slow
def test_a_rabbitmq_without_a_service_leaves_nothing_behind(tmp_path):
    """SIGTERM stops it in order, and Erlang's port mapper with it; it keeps what was said."""
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "RABBITMQ_DATA": str(tmp_path / "data"),
        "RABBITMQ_PORT": str(port),
        "RABBITMQ_DEFAULT_USER": "chat",
        "RABBITMQ_DEFAULT_PASS": 's"p\\#x ä',
    }
    broker = Broker("127.0.0.1", port, "chat", environment["RABBITMQ_DEFAULT_PASS"])
    for body in (b"one", b"two"):
        command = [sys.executable, "-m", "kirsch.amqp.rabbitmq"]
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
            try:
                bus = Bus()
                came = []
                consume = [Consumer("kept", arguments=lambda: {"x-stream-offset": "first"})]
                plugin = AMQPPlugin(bus, broker, declare=[Queue.stream("kept")], consume=consume)
                plugin.subscribe()
                bus.subscribe("amqp2ws", came.append)
                bus.start()
                settled = []
                bus.publish("ws2amqp", Publication("", "kept", body, settled=settled.append))
                eventually(lambda settled=settled: settled == [""], 90)
                eventually(lambda came=came, body=body: came and came[-1].body == body)
                bus.exit()
                shown = _processes(str(tmp_path / "data"))
                assert any("epmd" in command for command in shown)
                assert not any(environment["RABBITMQ_DEFAULT_PASS"] in command for command in shown)
            finally:
                process.terminate()
            assert process.wait(60) == 0
        eventually(lambda: not _processes(str(tmp_path / "data")))
    assert [delivery.body for delivery in came] == [b"one", b"two"]


def _processes(folder):
    """Command lines of those whose HOME is there."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"HOME={folder}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


@pytest.mark.soak
def test_plugins_of_a_rabbitmq_listen_on_its_own_address_only(tmp_path):
    address = "127.{}.{}.{}".format(*(random.randint(1, 254) for _ in range(3)))
    plugins = ("rabbitmq_stream_management", "rabbitmq_web_stomp", "rabbitmq_web_mqtt", "rabbitmq_prometheus")
    with Rabbit(tmp_path / "data", address=address, plugins=plugins) as rabbit:

        def listening():
            """Addresses and ports at which the broker's processes listen, as ss(8) prints them."""
            out = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
            own = [f"pid={pid}," for pid in rabbit.pids()]
            lines = [line for line in out.splitlines() if any(pid in line for pid in own)]
            return {line.split()[3] for line in lines}

        ports = {15672, 15692, 61613, 15674, 1883, 15675, 5552}
        eventually(lambda: {int(each.rpartition(":")[2]) for each in listening()} >= ports, 60, "plugins")
        assert [each for each in listening() if not each.lstrip("[:f").startswith("127.")] == []


def test_without_pika_it_is_said_what_to_install(tmp_path):
    code = (
        "import sys, importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, *a: None if name == 'pika' else find(name, *a)\n"
        "import kirsch.amqp"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert f"ImportError: kirsch.amqp needs pika and CherryPy: {pip_install('kirsch-amqp')}" in done.stderr


class Written:
    """asyncio's transport, whose writes are kept."""

    def __init__(self, stream, written):
        self._stream, self._written = stream, written

    def write(self, data):
        self._written.append(bytes(data))
        self._stream.write(data)

    def __getattr__(self, name):
        return getattr(self._stream, name)


@pytest.mark.parametrize("loop", ["thread", "asyncio"])
def test_a_message_is_written_at_once_and_much_is_read(rabbit, loop):
    """kirsch.amqp.transport, which pika is given, does what it is for."""
    bus_loop = AsyncioPlugin(Bus()) if loop == "asyncio" else None
    if bus_loop is not None:
        bus_loop.start()
    try:
        with Talk(rabbit, loop=bus_loop or "thread") as talk:
            eventually(lambda: talk.plugin.connected)
            transport = talk.plugin._session._link._services.transport
            written, read = [], []
            stream, protocol = transport._stream, transport.get_protocol()
            received = protocol.data_received
            transport._stream = Written(stream, written)
            protocol.data_received = lambda data: (read.append(len(data)), received(data))[1]
            body = b"x" * 100_000
            talk.bus.publish("ws2amqp", Publication(talk.name, "k", body))
            eventually(lambda: talk.came)
            assert talk.came[0].body == body
            (message,) = [data for data in written if b"xxx" in data]
            assert len(message) > len(body) + 50
            assert max(read) > 4096
    finally:
        if bus_loop is not None:
            bus_loop.stop()
