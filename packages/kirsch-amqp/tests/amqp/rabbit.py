"""RabbitMQ as a process of the tests' own."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex

import pytest
from tests.deadline import eventually
from tests.port import free_port

from kirsch.amqp.rabbitmq import ERLANG, SERVER, Settings
from kirsch.bus.process.child import Child

# A broker starts in 3 s, on a busy machine in more.
STARTS = 90


class Rabbit:
    """Started by `with`. `kill` is kill -9 of the server; `start` starts it again, with what it has kept."""

    def __init__(
        self, data, lines=(), port=None, address="127.0.0.1", plugins=(), environment=(), machine=None
    ):
        self.port = free_port() if port is None else port
        self.address = address
        self.settings = Settings(data, address, self.port, lines=tuple(lines), plugins=tuple(plugins))
        self.url = f"amqp://{address}:{self.port}/"
        self.said = []
        self._environment = dict(environment)
        self._machine = machine
        self._child = None

    def __enter__(self):
        if not SERVER.exists():
            pytest.skip("there is no RabbitMQ: apt-get install rabbitmq-server")
        self.start()
        return self

    def __exit__(self, *error):
        self.end()

    def start(self, wait=True):
        # Of what it says only the last is of interest.
        command = self.settings.command()
        argv = self._within(*command.argv)
        command = replace(command, argv=argv, environment=command.environment | self._environment)
        self._child = Child(command, lambda _, line: self.said.append(line))
        self._child.start()
        if wait:
            eventually(self.answers, STARTS, "RabbitMQ")

    def answers(self):
        assert self._child.main_exit is None, "\n".join(self.said[-20:])
        with contextlib.suppress(OSError), socket.create_connection((self.address, self.port), 5) as sock:
            sock.settimeout(5)
            sock.sendall(b"AMQP\x00\x00\x09\x01")
            return bool(sock.recv(1))
        return False

    def kill(self):
        """kill -9; but of its first moments with a stream, of which RabbitMQ 3.10 forgets half for ever."""
        if list(self.settings.data.rglob("*/stream/*/*.segment")):
            eventually(self._knows_its_streams, 60, "Ra's directory")
        os.kill(self._child.pid, signal.SIGKILL)
        self._child.wait(20)

    def _knows_its_streams(self):
        """What names its Raft servers is written down every now and then only."""
        names = self.settings.data.rglob("names.dets")
        return any(b"rabbit_stream_coordinator" in name.read_bytes() for name in names)

    def pids(self):
        """The server and all processes that descend from it."""
        found, more = [], [self._child.pid]
        while more:
            found += more
            more = [
                int(child)
                for pid in more
                for path in Path(f"/proc/{pid}/task").glob("*/children")
                for child in path.read_text().split()
            ]
        return found

    def freeze(self):
        """It is there, and does nothing."""
        os.kill(self._child.pid, signal.SIGSTOP)

    def thaw(self):
        os.kill(self._child.pid, signal.SIGCONT)

    def control(self, *arguments):
        """The lines that rabbitmqctl writes."""
        environment = os.environ | self.settings.command().environment | self._environment
        command = self._within(str(SERVER.with_name("rabbitmqctl")), "--quiet", *arguments)
        return subprocess.check_output(command, env=environment, text=True, timeout=120).splitlines()

    def lose_power(self):
        """Its machine says no more to anybody, not even that a connection has ended, and then kill -9."""
        self._machine.cut()
        self.kill()

    def _within(self, *argv):
        return argv if self._machine is None else (*self._machine.within, *argv)

    def end(self):
        self._child.kill()
        self._child.wait(20)

    def name(self):
        """For a Bridge that shares its rooms with no other test's."""
        return f"test-{token_hex(4)}"


@dataclass(frozen=True)
class Machine:
    """A network namespace, which has an address, and a link that can be cut."""

    name: str
    address: str

    @property
    def within(self):
        """What runs a command there."""
        return ("ip", "netns", "exec", self.name)

    def cut(self):
        ip("link", "set", self.name, "down")

    def mend(self):
        ip("link", "set", self.name, "up")


def ip(*arguments):
    subprocess.run(("ip", *arguments), check=True, capture_output=True, timeout=20)


@contextlib.contextmanager
def machines(count):
    """So many machines that reach each other, and this computer: of root alone."""
    if os.geteuid() or shutil.which("ip") is None:
        pytest.skip("machines as containers need root")
    token = token_hex(3)
    bridge, net = f"kt{token}", f"10.{200 + int(token[:2], 16) % 50}.{int(token[2:4], 16)}"
    with contextlib.ExitStack() as stack:
        ip("link", "add", bridge, "type", "bridge")
        stack.callback(ip, "link", "del", bridge)
        ip("address", "add", f"{net}.1/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        found = [Machine(f"{bridge}.{number}", f"{net}.{number + 10}") for number in range(count)]
        for machine in found:
            ip("netns", "add", machine.name)
            stack.callback(ip, "netns", "del", machine.name)
            ip("link", "add", machine.name, "type", "veth", "peer", "name", "eth0", "netns", machine.name)
            ip("link", "set", machine.name, "master", bridge)
            machine.mend()
            for command in (
                ("link", "set", "lo", "up"),
                ("address", "add", f"{machine.address}/24", "dev", "eth0"),
                ("link", "set", "eth0", "up"),
            ):
                ip("-n", machine.name, *command)
        yield found


class Cluster:
    """Nodes of one broker, `with Cluster(folder, machines) as nodes`; each keeps a replica of a stream.

    Attributes:
        nodes: a Rabbit each.
    """

    def __init__(self, data, machines):
        names = [f"node{number}@{machine.address}" for number, machine in enumerate(machines)]
        lines = ["cluster_formation.peer_discovery_backend = classic_config", "loopback_users = none"]
        # Seconds after which a node that says nothing is taken for dead; a minute by default.
        lines += ["net_ticktime = 15"]
        lines += [f"cluster_formation.classic_config.nodes.{n} = {name}" for n, name in enumerate(names, 1)]
        self.nodes = []
        for machine, name in zip(machines, names, strict=True):
            folder = data / name.partition("@")[0]
            folder.mkdir(parents=True)
            cookie = folder / ".erlang.cookie"
            cookie.write_text("OneSecretOfAllNodes")
            cookie.chmod(0o400)
            own = f"{{{machine.address.replace('.', ',')}}}"
            environment = {
                "RABBITMQ_NODENAME": name,
                "RABBITMQ_USE_LONGNAME": "true",
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG.replace("{127,0,0,1}", own),
                "ERL_EPMD_PORT": "4369",
                "ERL_EPMD_ADDRESS": machine.address,
            }
            self.nodes.append(
                Rabbit(folder, lines, address=machine.address, environment=environment, machine=machine)
            )

    def __enter__(self):
        self._stack = contextlib.ExitStack()
        with self._stack:
            for node in self.nodes:
                # The first forms the cluster, the others join it.
                self._stack.enter_context(node)
            self._stack = self._stack.pop_all()
        return self.nodes

    def __exit__(self, *error):
        self._stack.close()
