"""What tests of the bus share: a deadline, marks to count processes by, and buses of their own."""

import atexit
import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cherrypy.process.wspbus import Bus
from tests import deadline
from tests.port import free_port

Eventually = Callable[..., None]


@pytest.fixture
def eventually() -> Eventually:
    """eventually(condition, timeout): wait until it holds, or fail."""
    return deadline.eventually


class Mark:
    """An environment variable that descendants inherit, and the processes that have it."""

    def __init__(self) -> None:
        self.value = uuid.uuid4().hex
        self.environment = {**os.environ, "KIRSCH_TEST_MARK": self.value}

    def pids(self) -> list[int]:
        needle = f"KIRSCH_TEST_MARK={self.value}".encode()
        return [
            pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if needle in _environ(pid)
        ]


def _environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


@pytest.fixture
def mark() -> Iterator[Mark]:
    mark = Mark()
    yield mark
    assert mark.pids() == [], "processes were left behind"


@pytest.fixture
def bus() -> Iterator[Bus]:
    """A bus of its own, that is stopped at the end."""
    bus = Bus()
    yield bus
    atexit.unregister(bus._clean_exit)
    if bus.state is bus.states.STARTED:
        bus.stop()


HAPROXY = """
global
    tune.bufsize 131072
defaults
    mode http
    timeout connect 5s
    timeout client {patience}
    timeout server {patience}
    timeout http-request {head}
    timeout http-keep-alive {head}
    {option}
frontend web
    bind 127.0.0.1:{port}
    default_backend all
backend all
    server one {host}:{own}
"""


@pytest.fixture
def haproxy(tmp_path: Path) -> Iterator[Callable[..., tuple[str, int]]]:
    """haproxy(address, option, head, patience): start a HAProxy before that server; its own address."""
    if shutil.which("haproxy") is None:
        pytest.skip("haproxy is not installed")
    processes: list[subprocess.Popen[bytes]] = []

    def start(
        address: tuple[str, int],
        option: str = "option http-buffer-request",
        head: str = "1s",
        patience: str = "10s",
    ) -> tuple[str, int]:
        port = free_port()
        file = tmp_path / f"haproxy.{port}.cfg"
        file.write_text(
            HAPROXY.format(
                port=port, host=address[0], own=address[1], option=option, head=head, patience=patience
            )
        )
        processes.append(subprocess.Popen(["haproxy", "-db", "-f", file], stderr=subprocess.DEVNULL))
        deadline.eventually(lambda: _listens(port), what="HAProxy")
        return "127.0.0.1", port

    yield start
    for process in processes:
        process.terminate()
        process.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
