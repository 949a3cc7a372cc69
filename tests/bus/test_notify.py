import contextlib
import os
import socket
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.bus import NotifyPlugin
from kirsch.bus.notify import watchdog_interval


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path, monkeypatch):
    """The service manager's socket."""
    name = f"@kirsch-{uuid.uuid4().hex}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0", 1))
        manager.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        yield manager


def test_the_states_of_the_bus_are_told(bus, manager):
    NotifyPlugin(bus).subscribe()
    bus.start()
    assert manager.recv(100) == b"READY=1"
    bus.graceful()
    reloading, at = manager.recv(100).split(b"\nMONOTONIC_USEC=")
    assert reloading == b"RELOADING=1"
    assert at.isdigit()
    assert manager.recv(100) == b"READY=1"
    bus.exit()
    assert manager.recv(100) == b"STOPPING=1"


def test_a_restart_of_the_process_is_a_reload(bus, manager):
    NotifyPlugin(bus).subscribe()
    bus.start()
    bus.restart()
    assert manager.recv(100) == b"READY=1"
    assert manager.recv(100).startswith(b"RELOADING=1\n")


def test_a_status_is_one_line(bus, manager):
    NotifyPlugin(bus).status("two\nlines")
    assert manager.recv(100) == b"STATUS=two lines"


def test_ready_comes_after_everything_else_and_stopping_before(bus, manager):
    manager.setblocking(False)

    def nothing_yet() -> None:
        with pytest.raises(BlockingIOError):
            manager.recv(100)

    def stopping() -> None:
        assert manager.recv(100) == b"STOPPING=1"

    bus.subscribe("start", nothing_yet, 99)
    bus.subscribe("stop", stopping, 1)
    NotifyPlugin(bus).subscribe()
    bus.start()
    assert manager.recv(100) == b"READY=1"
    bus.stop()


def test_the_watchdog_is_fed_while_it_is_live(bus, manager, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    live = [True]
    NotifyPlugin(bus, lambda: live[0]).subscribe()
    bus.start()
    assert [manager.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
    live[0] = False
    manager.settimeout(0.1)
    with contextlib.suppress(TimeoutError):
        for _ in range(20):
            manager.recv(100)
    with pytest.raises(TimeoutError):
        manager.recv(100)


def test_without_a_socket_nothing_happens(bus, monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    plugin = NotifyPlugin(bus)
    plugin.subscribe()
    plugin.status("nobody listens")
    assert not bus.listeners["start"]


def test_a_socket_that_is_gone_is_a_warning(bus, monkeypatch, tmp_path):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    logged = []
    bus.subscribe("log", lambda message, level: logged.append(message))
    NotifyPlugin(bus).subscribe()
    bus.start()
    assert f"Cannot notify {tmp_path / 'gone'}: No such file or directory" in logged


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_watchdog_interval(environment, interval):
    assert watchdog_interval(environment, 7) == interval


@given(st.text(), st.text())
def test_nonsense_in_the_environment_is_no_watchdog(usec, pid):
    interval = watchdog_interval({"WATCHDOG_USEC": usec, "WATCHDOG_PID": pid}, os.getpid())
    assert interval is None or interval > 0
