"""RabbitMQ as a process of the tests' own."""

import contextlib
import os
import signal
import socket
import subprocess
from dataclasses import replace
from pathlib import Path
from secrets import token_hex

import pytest
from tests.deadline import eventually
from tests.port import free_port

from kirsch.amqp.rabbitmq import SERVER, Settings
from kirsch.bus.process.child import Child
from kirsch.bus.process.command import Command

# A broker starts in 3 s, on a busy machine in more.
STARTS = 90


class Rabbit:
    """Started by `with`. `kill` is kill -9 of the server; `start` starts it again, with what it has kept."""

    def __init__(self, data, lines=(), port=None, address="127.0.0.1", plugins=(), environment=()):
        self.port = free_port() if port is None else port
        self.address = address
        self.settings = Settings(data, address, self.port, lines=tuple(lines), plugins=tuple(plugins))
        self.url = f"amqp://{address}:{self.port}/"
        self.said = []
        self._environment = dict(environment)
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
        command = replace(command, environment=command.environment | self._environment)
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
        command = [str(SERVER.with_name("rabbitmqctl")), "--quiet", *arguments]
        return subprocess.check_output(command, env=environment, text=True, timeout=120).splitlines()

    def end(self):
        self._child.kill()
        self._child.wait(20)

    def name(self):
        """For a Bridge that shares its rooms with no other test's."""
        return f"test-{token_hex(4)}"


class Cluster:
    """Nodes of one broker, `with Cluster(folder, 3) as nodes`; each keeps a replica of a stream.

    Attributes:
        nodes: a Rabbit each.
    """

    def __init__(self, data, count):
        names = [f"node{number}@localhost" for number in range(count)]
        # A port mapper of their own, which outlives every node.
        mapper = free_port()
        self._mapper = Child(
            Command(("epmd", "-port", str(mapper), "-address", "127.0.0.1"), {"PATH": os.environ["PATH"]}),
            lambda _, line: None,
        )
        lines = ["cluster_formation.peer_discovery_backend = classic_config"]
        lines += [f"cluster_formation.classic_config.nodes.{n} = {name}" for n, name in enumerate(names, 1)]
        self.nodes = []
        for name in names:
            folder = data / name.partition("@")[0]
            folder.mkdir(parents=True)
            cookie = folder / ".erlang.cookie"
            cookie.write_text("OneSecretOfAllNodes")
            cookie.chmod(0o400)
            environment = {"RABBITMQ_NODENAME": name, "ERL_EPMD_PORT": str(mapper)}
            self.nodes.append(Rabbit(folder, lines, environment=environment))

    def __enter__(self):
        self._stack = contextlib.ExitStack()
        with self._stack:
            self._mapper.start()
            self._stack.callback(self._mapper.wait, 20)
            self._stack.callback(self._mapper.kill)
            for node in self.nodes:
                # The first forms the cluster, the others join it.
                self._stack.enter_context(node)
            self._stack = self._stack.pop_all()
        return self.nodes

    def __exit__(self, *error):
        self._stack.close()
