"""RabbitMQ as a process of the tests' own."""

import contextlib
import os
import signal
import socket
from pathlib import Path
from secrets import token_hex

import pytest
from tests.deadline import eventually
from tests.port import free_port

from kirsch.amqp.rabbitmq import SERVER, Settings
from kirsch.bus.process.child import Child

# A broker starts in 3 s, on a busy machine in more.
STARTS = 90


class Rabbit:
    """Started by `with`. `kill` is kill -9 of the server; `start` starts it again, with what it has kept."""

    def __init__(self, data, lines=(), port=None, address="127.0.0.1", plugins=()):
        self.port = free_port() if port is None else port
        self.address = address
        self.settings = Settings(data, address, self.port, lines=tuple(lines), plugins=tuple(plugins))
        self.url = f"amqp://{address}:{self.port}/"
        self.said = []
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
        self._child = Child(self.settings.command(), lambda _, line: self.said.append(line))
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

    def end(self):
        self._child.kill()
        self._child.wait(20)

    def name(self):
        """For a Bridge that shares its rooms with no other test's."""
        return f"test-{token_hex(4)}"
