import os
import signal
import threading

import pytest

from kirsch.bus import Backoff, Command, Exit, Limit, ProcessPlugin

QUICK = Backoff(0.01, 1, 0.01)


class Listener:
    """What the plugins published, in order."""

    def __init__(self, bus) -> None:
        self.events: list[tuple] = []
        for channel in ("started", "line", "exited", "failed"):
            bus.subscribe(f"process-{channel}", self._note(channel))
        bus.subscribe("log", lambda message, level: self.events.append(("log", message)))

    def _note(self, channel: str):
        return lambda *values: self.events.append((channel, *values))

    def of(self, *channels: str) -> list[tuple]:
        return [event for event in list(self.events) if event[0] in channels]


@pytest.fixture
def heard(bus) -> Listener:
    return Listener(bus)


def plugin(bus, *argv: str, name: str = "it", **options) -> ProcessPlugin:
    plugin = ProcessPlugin(bus, name, Command(argv), **options)
    plugin.subscribe()
    return plugin


def test_lines_starts_and_ends_are_published(bus, heard, eventually):
    plugin(bus, "sh", "-c", "echo out; echo err >&2", restart="no")
    bus.start()
    eventually(lambda: heard.of("exited"))
    (started,) = heard.of("started")
    assert started[1] == "it"
    assert set(heard.of("line")) == {("line", "it", "out", "out"), ("line", "it", "err", "err")}
    assert heard.of("exited") == [("exited", "it", Exit(0))]
    assert [event[0] for event in heard.of("started", "line", "exited")] == [
        "started",
        "line",
        "line",
        "exited",
    ]


def test_a_killed_process_is_started_again(bus, heard, eventually):
    process = plugin(bus, "sleep", "60", backoff=QUICK)
    bus.start()
    eventually(lambda: process.pid)
    first = process.pid
    os.kill(first, signal.SIGKILL)
    eventually(lambda: process.pid not in (0, first))
    bus.stop()
    assert process.pid == 0
    assert not heard.of("failed")
    assert len(heard.of("started")) == 2


def test_a_process_that_ends_at_once_fails_when_the_limit_is_reached(bus, heard, eventually):
    plugin(bus, "sh", "-c", "exit 7", backoff=QUICK, limit=Limit(3, 60))
    bus.start()
    eventually(lambda: heard.of("failed"))
    assert heard.of("failed") == [("failed", "it", "started 3 times within 60 s, last exited with code 7")]
    assert len(heard.of("exited")) == 3


def test_a_command_that_is_not_there_fails_and_the_bus_goes_on(bus, heard):
    plugin(bus, "no-such-program")
    bus.start()
    reason = "cannot execute no-such-program: No such file or directory"
    assert heard.of("failed") == [("failed", "it", reason)]
    assert ("log", f"it failed: {reason}") in heard.events
    assert bus.state is bus.states.STARTED


def test_a_clean_end_is_left_alone(bus, heard, eventually):
    process = plugin(bus, "true")
    bus.start()
    eventually(lambda: heard.of("exited"))
    assert process.pid == 0
    assert not heard.of("failed")


def test_stop_waits_until_nothing_is_left(bus, heard, eventually):
    script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done"
    plugin(bus, "sh", "-c", script)
    bus.start()
    eventually(lambda: heard.of("line"))
    bus.stop()
    assert heard.of("line")[-1] == ("line", "it", "out", "bye")
    assert heard.of("exited") == [("exited", "it", Exit(0))]


def test_stop_kills_after_the_grace_period_and_all_side_by_side(bus, heard, eventually):
    script = "trap '' TERM; echo ready; while :; do sleep 0.01; done"
    for number in range(3):
        plugin(bus, "sh", "-c", script, name=str(number), grace=0.3)
    bus.start()
    eventually(lambda: len(heard.of("line")) == 3)
    stopping = threading.Thread(target=bus.stop)
    stopping.start()
    stopping.join(10)
    assert [event[2] for event in heard.of("exited")] == [Exit(signal=signal.SIGKILL)] * 3
    last_asked = max(i for i, event in enumerate(heard.events) if event == ("log", "Bus STOPPING"))
    assert heard.events[last_asked + 1][0] in ("log", "exited")


def test_the_stop_signal_can_be_another(bus, heard, eventually):
    process = plugin(bus, "sleep", "60", stop_signal=signal.SIGINT)
    bus.start()
    eventually(lambda: process.pid)
    bus.stop()
    assert heard.of("exited") == [("exited", "it", Exit(signal=signal.SIGINT))]


def test_graceful_asks_the_process_to_reload(bus, heard, eventually):
    script = "trap 'echo reloaded' HUP; echo ready; while :; do sleep 0.01; done"
    plugin(bus, "sh", "-c", script)
    bus.start()
    eventually(lambda: heard.of("line"))
    bus.graceful()
    eventually(lambda: ("line", "it", "out", "reloaded") in heard.events)


def test_a_stopped_bus_can_start_its_processes_again(bus, heard, eventually):
    process = plugin(bus, "sleep", "60")
    for _ in range(2):
        bus.start()
        eventually(lambda: process.pid)
        bus.stop()
    assert len(heard.of("started")) == 2


def test_no_start_follows_a_stop(bus, heard, eventually):
    plugin(bus, "false", backoff=Backoff(0.05, 1, 0.05))
    bus.start()
    eventually(lambda: heard.of("exited"))
    bus.stop()
    started = len(heard.of("started"))
    waited = threading.Event()
    assert not waited.wait(0.2)
    assert len(heard.of("started")) == started


def test_a_failed_process_may_end_the_bus(bus, heard, eventually, tmp_path):
    plugin(bus, "sh", "-c", f"until test -e {tmp_path}/go; do sleep 0.01; done; exit 1", restart="no")
    plugin(bus, "sleep", "60", name="other")
    bus.subscribe("process-failed", lambda name, reason: bus.exit())
    bus.start()
    (tmp_path / "go").touch()
    eventually(lambda: bus.state is bus.states.EXITING)
    assert {event[1] for event in heard.of("exited")} == {"it", "other"}


def test_after_unsubscribe_the_bus_starts_nothing(bus, heard):
    plugin(bus, "sleep", "60").unsubscribe()
    bus.start()
    assert not heard.of("started")
