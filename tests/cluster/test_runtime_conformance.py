"""What every runtime does, whatever it runs units with."""

import asyncio
import os

import pytest
from tests.cluster.runtime_bench import Bench, story

from kirsch.cluster.runtime.base import Prepared
from kirsch.unit import UnitFile, UnitName

SYSTEMD = pytest.param("systemd", marks=[pytest.mark.machines, pytest.mark.timeout(600)])


@pytest.fixture(params=["process", SYSTEMD])
def opener(request, tmp_path):
    """Opens a bench of each runtime."""
    if request.param == "systemd":
        machine = request.getfixturevalue("machine")
        return lambda: Bench.of_systemd(tmp_path, machine)

    async def of_processes() -> Bench:
        return Bench.of_processes(tmp_path)

    return of_processes


SLEEP = "ExecStart=/bin/sleep 1000"


@story
async def test_a_unit_is_loaded_started_stopped_and_unloaded(bench):
    name = await bench.service(SLEEP)
    state = bench.state(name)
    assert (state.load, state.active, state.sub, state.result) == ("loaded", "inactive", "dead", "success")
    assert state.hash
    state = await bench.runtime.start(name)
    assert (state.active, state.sub, state.message) == ("active", "running", "")
    assert state.pid > 0
    assert state.since > 0
    pid = state.pid
    state = await bench.runtime.stop(name)
    assert (state.active, state.sub, state.result, state.pid) == ("inactive", "dead", "success", 0)
    assert pid not in bench.processes("sleep")
    await bench.runtime.unload([name])
    assert bench.runtime.states() == {}
    assert bench.seen[name.text][-1] is None


@story
async def test_a_unit_that_is_not_loaded(bench):
    name = UnitName.parse("nothing.service")
    for state in (await bench.runtime.start(name), await bench.runtime.stop(name)):
        assert (state.load, state.active) == ("not-found", "inactive")
        assert "nothing.service" in state.message


@story
async def test_a_file_that_cannot_be_loaded(bench):
    name = await bench.service("Restart=on-failure")
    state = await bench.runtime.start(name)
    assert (state.load, state.active) == ("bad-setting", "inactive")
    assert state.message
    await bench.service(SLEEP)
    assert bench.state(name).load == "loaded"
    assert (await bench.runtime.start(name)).active == "active"


@story
async def test_starting_twice_and_stopping_twice(bench):
    name = await bench.service("ExecStart=/bin/sleep 1000\nExecStop=/bin/sleep 0.01")
    states = await asyncio.gather(*(bench.runtime.start(name) for _ in range(3)))
    assert {state.pid for state in states} == {bench.state(name).pid}
    states = await asyncio.gather(*(bench.runtime.stop(name) for _ in range(3)))
    assert {state.active for state in states} == {"inactive"}
    assert (await bench.runtime.stop(name)).active == "inactive"


@story
async def test_a_start_fails_with_the_program(bench):
    name = await bench.service("Type=oneshot\nExecStart=/bin/sh -c 'echo sorry; exit 3'")
    state = await bench.runtime.start(name)
    assert (state.active, state.sub, state.result) == ("failed", "failed", "exit-code")
    assert "3" in state.message
    assert (await bench.runtime.stop(name)).active == "failed"


@story
async def test_a_oneshot_is_started_when_it_is_done(bench):
    name = await bench.service("Type=oneshot\nExecStart=/bin/sh -c 'echo done'\nRemainAfterExit=yes")
    state = await bench.runtime.start(name)
    assert (state.active, state.sub) == ("active", "exited")
    assert bench.lines(name) == ["done"]


@story
async def test_a_oneshot_that_is_done_has_nothing_to_say(bench):
    name = await bench.service("Type=oneshot\nExecStart=/bin/true")
    state = await bench.runtime.start(name)
    assert (state.active, state.result, state.message) == ("inactive", "success", "")


@story
async def test_a_stop_gives_up_a_start(bench):
    name = await bench.service("Type=oneshot\nExecStart=/bin/sleep 1000")
    start = asyncio.ensure_future(bench.runtime.start(name))
    await bench.until(name, lambda state: state.sub == "start" and state.pid > 0)
    assert (await bench.runtime.stop(name)).active in ("inactive", "failed")
    assert (await start).active in ("inactive", "failed", "deactivating")


@story
async def test_a_start_waits_for_a_stop(bench):
    name = await bench.service("ExecStart=/bin/sleep 1000\nExecStop=/bin/sh -c 'read x < @FOLDER@/gate'")
    gate = bench.folder / "gate"
    os.mkfifo(gate)
    pid = (await bench.runtime.start(name)).pid
    stop = asyncio.ensure_future(bench.runtime.stop(name))
    await bench.until_sub(name, "stop")
    start = asyncio.ensure_future(bench.runtime.start(name))
    await asyncio.to_thread(gate.write_text, "go\n")
    assert (await stop).sub == "dead"
    state = await start
    assert state.active == "active"
    assert state.pid != pid
    gate.unlink()  # the next ExecStop fails at once


@story
async def test_it_is_restarted(bench):
    name = await bench.service("ExecStart=/bin/sleep 1000\nRestart=on-failure\nRestartSec=10ms")
    pid = (await bench.runtime.start(name)).pid
    assert await bench.runtime.run(name, ["/bin/kill", "-9", str(pid)], 10) == 0
    state = await bench.until(name, lambda state: state.sub == "running" and state.pid != pid)
    assert state.restarts == 1


@story
async def test_a_unit_that_exits_at_once_fails_for_good(bench):
    name = await bench.service(
        "ExecStart=/bin/sh -c 'echo no luck; exit 3'\nRestart=always\nRestartSec=10ms",
        unit="StartLimitBurst=3",
    )
    await bench.runtime.start(name)
    state = await bench.until_sub(name, "failed")
    assert (state.result, state.restarts) == ("start-limit-hit", 3)


@story
async def test_an_order_to_start_does_not_count_what_was_before(bench):
    name = await bench.service(
        "ExecStart=/bin/sh -c 'test -e @FOLDER@/mended && exec sleep 1000; exit 3'\n"
        "Restart=always\nRestartSec=10ms",
        unit="StartLimitBurst=3\nStartLimitIntervalSec=1h",
    )
    await bench.runtime.start(name)
    assert (await bench.until_sub(name, "failed")).result == "start-limit-hit"
    (bench.folder / "mended").touch()
    await bench.runtime.start(name)
    state = await bench.until_sub(name, "running")
    assert (state.active, state.result) == ("active", "success")


@story
async def test_a_running_unit_gets_another_file_at_its_next_start(bench):
    name = await bench.service("ExecStart=/bin/sh -c 'echo one; exec sleep 1000'")
    pid = (await bench.runtime.start(name)).pid
    first = bench.state(name).hash
    await bench.line(name, "one")
    await bench.service("ExecStart=/bin/sh -c 'echo two $WHO; exec sleep 1000'", WHO="me")
    state = bench.state(name)
    assert (state.active, state.pid) == ("active", pid)
    assert state.hash != first
    await bench.runtime.stop(name)
    await bench.runtime.start(name)
    await bench.line(name, "two me")
    assert bench.lines(name) == ["one", "two me"]


@story
async def test_reload(bench):
    name = await bench.service("ExecStart=/bin/sleep 1000\nExecReload=/bin/sh -c 'echo reloading $MAINPID'")
    await bench.runtime.reload(name)
    pid = (await bench.runtime.start(name)).pid
    state = await bench.runtime.reload(name)
    assert (state.active, state.pid) == ("active", pid)
    assert bench.lines(name) == [f"reloading {pid}"]
    other = await bench.service(SLEEP, name="y.service")
    await bench.runtime.start(other)
    assert (await bench.runtime.reload(other)).active == "active"


@story
async def test_a_command_runs_as_the_unit_would(bench):
    name = await bench.service(f"{SLEEP}\nEnvironment=A=1\nWorkingDirectory=/usr", KIRSCH_ADDRESS="127.1.2.3")
    await bench.runtime.start(name)
    check = 'test "$A $KIRSCH_ADDRESS $(pwd)" = "1 127.1.2.3 /usr"'
    assert await bench.runtime.run(name, ["/bin/sh", "-c", check], 10) == 0
    assert await bench.runtime.run(name, ["/bin/sh", "-c", "exit 7"], 10) == 7
    assert await bench.runtime.run(name, ["/bin/sh", "-c", "kill -9 $$"], 10) == 137
    assert await bench.runtime.run(name, ["/no/such/program"], 10) == 127
    assert await bench.runtime.run(name, ["/bin/sleep", "1000"], 0.1) == 124
    assert bench.state(name).active == "active"


@story
async def test_a_unit_is_killed_while_it_is_stopped(bench):
    name = await bench.service(
        "ExecStart=/bin/sh -c 'trap : TERM; echo ready; while :; do sleep 1000; done'\nKillMode=process"
    )
    await bench.runtime.start(name)
    await bench.line(name, "ready")
    stop = asyncio.ensure_future(bench.runtime.stop(name))
    await bench.until_sub(name, "stop-sigterm")
    await bench.runtime.kill(name)
    state = await stop
    assert (state.active, state.result) == ("failed", "signal")
    await bench.runtime.kill(name)


@story
async def test_a_mark_stays_with_the_unit(bench):
    name = await bench.service(SLEEP)
    assert (await bench.runtime.start(name, "made with care")).mark == "made with care"
    await bench.service("ExecStart=/bin/sleep 2000")
    assert bench.state(name).mark == "made with care"
    await bench.runtime.stop(name)
    assert (await bench.runtime.start(name, "anew")).mark == "anew"


@story
async def test_a_running_unit_is_not_forgotten(bench):
    name = await bench.service(SLEEP)
    await bench.runtime.start(name)
    await bench.runtime.unload([name, UnitName.parse("other.service")])
    assert bench.state(name).active == "active"


@story
async def test_many_units_at_once(bench):
    names = [UnitName.parse(f"u@{number}.service") for number in range(20)]
    file = UnitFile.parse(f"[Service]\n{SLEEP}\n")
    await bench.runtime.load([Prepared(name, file) for name in names])
    states = await asyncio.gather(*(bench.runtime.start(name) for name in names))
    assert [state.active for state in states] == ["active"] * 20
    states = await asyncio.gather(*(bench.runtime.stop(name) for name in names))
    assert [state.active for state in states] == ["inactive"] * 20


@story
async def test_close_stops_everything_or_lets_it_run(bench):
    marker = f"marker-{bench.folder.name}"
    name = await bench.service(
        "Type=exec\nExecStart=/bin/sh -c 'sleep 1000 & (sleep 1000 &) ; echo ready; wait'",
        KIRSCH_MARKER=marker,
    )
    await bench.runtime.start(name)
    await bench.line(name, "ready")
    before = bench.processes(marker)
    assert before
    await bench.runtime.close()
    assert bench.processes(marker) == (before if bench.runtime.durable else [])


@story
async def test_whoever_waits_is_told_at_the_close(bench):
    name = await bench.service("Type=oneshot\nExecStart=/bin/sleep 1000\nRestart=on-failure")
    start = asyncio.ensure_future(bench.runtime.start(name))
    await bench.until(name, lambda state: state.pid > 0)
    await bench.runtime.close()
    assert (await start).active != "active"
