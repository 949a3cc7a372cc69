"""The process runtime and its trees of processes: stops, kills, sd_notify, watchdogs, and nothing left."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.runtime_bench import Bench, processes

# Run by `python -c`: a program that speaks sd_notify(3).
NOTIFY = """
import os, socket, sys, time, subprocess
def notify(text, address=os.environ["NOTIFY_SOCKET"]):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(text.encode(), address)
"""


def story(test: Callable[[Bench], Any]) -> Callable[..., None]:
    """Make a test of an async function: it is given a bench with a process runtime, and leaves nothing."""

    async def play(folder):
        bench = Bench.of_processes(folder)
        try:
            async with asyncio.timeout(60):
                await test(bench)
        finally:
            await bench.runtime.close()
            bench.journal.close()
        assert processes(str(folder)) == []

    def run(tmp_path):
        asyncio.run(play(tmp_path))

    run.__doc__ = test.__doc__
    return run


def program(bench: Bench, name: str, text: str) -> str:
    """A command that runs a Python program."""
    path = bench.folder / f"{name}.py"
    path.write_text(textwrap.dedent(text))
    return f"{sys.executable} {path}"


def script(bench: Bench, name: str, text: str) -> str:
    """A command that runs a shell script."""
    path = bench.folder / f"{name}.sh"
    path.write_text(textwrap.dedent(text))
    return f"/bin/sh {path}"


def exists(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


FORKING = """
trap 'echo asked' TERM
sh -c 'trap "" TERM; echo stubborn $$; while :; do sleep 1000; done' &
setsid sh -c 'sleep 1000 & exit' &
echo ready
while :; do wait; done
"""


@story
async def test_a_tree_that_ignores_sigterm_is_killed(bench):
    name = await bench.service(
        f"ExecStart={script(bench, 'tree', FORKING)}\nTimeoutStopSec=200ms", MARKER=str(bench.folder)
    )
    await bench.runtime.start(name)
    await bench.line(name, "ready")
    stubborn = int((await bench.line(name, "stubborn")).split()[1])
    await bench.poll(lambda: len(processes(str(bench.folder))) > 2)
    state = await bench.runtime.stop(name)
    assert (state.sub, state.result) == ("failed", "timeout")
    assert state.message.startswith("did not stop within 0.2 s")
    assert "asked" in bench.lines(name)
    assert not exists(stubborn)
    assert processes(str(bench.folder)) == []


@story
async def test_what_the_main_process_leaves_behind_goes_with_it(bench):
    command = script(bench, "leaves", "(setsid sleep 1000 &) ; (sleep 1000 &) ; echo left; exit 0")
    name = await bench.service(f"ExecStart={command}", MARKER=str(bench.folder))
    await bench.runtime.start(name)
    state = await bench.until_sub(name, "dead")
    assert state.result == "success"
    assert processes(str(bench.folder)) == []


@story
async def test_a_oneshot_that_remains_keeps_its_processes(bench):
    command = script(bench, "leaves", "sleep 1000 & echo $!")
    name = await bench.service(f"Type=oneshot\nRemainAfterExit=yes\nExecStart={command}")
    state = await bench.runtime.start(name)
    assert state.sub == "exited"
    pid = int(bench.lines(name)[0])
    assert exists(pid)
    assert (await bench.runtime.stop(name)).sub == "dead"
    assert not exists(pid)


@story
async def test_kill_mode_mixed_asks_only_the_main_process(bench):
    text = """
        trap 'echo main asked; exit 0' TERM
        sh -c 'trap "echo child asked" TERM; echo child; while :; do sleep 0.05; done' &
        while :; do wait; done
    """
    name = await bench.service(f"ExecStart={script(bench, 'mixed', text)}\nKillMode=mixed")
    await bench.runtime.start(name)
    await bench.line(name, "child")
    state = await bench.runtime.stop(name)
    assert (state.sub, state.result) == ("dead", "success")
    assert bench.lines(name) == ["child", "main asked"]


@story
async def test_kill_signal(bench):
    text = "trap 'echo interrupted; exit 0' INT; echo ready; while :; do sleep 0.05; done"
    name = await bench.service(f"ExecStart={script(bench, 'int', text)}\nKillSignal=SIGINT")
    await bench.runtime.start(name)
    await bench.line(name, "ready")
    assert (await bench.runtime.stop(name)).result == "success"
    assert bench.lines(name) == ["ready", "interrupted"]


@story
async def test_a_stopped_process_can_be_stopped(bench):
    name = await bench.service("ExecStart=sleep 1000")
    state = await bench.runtime.start(name)
    os.kill(state.pid, signal.SIGSTOP)
    assert (await bench.runtime.stop(name)).result == "success"


@story
async def test_send_sigkill_no_leaves_it_to_the_close(bench):
    text = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    name = await bench.service(f"ExecStart={script(bench, 'x', text)}\nSendSIGKILL=no\nTimeoutStopSec=50ms")
    pid = (await bench.runtime.start(name)).pid
    await bench.line(name, "ready")
    state = await bench.runtime.stop(name)
    assert (state.sub, state.result) == ("failed", "timeout")
    assert exists(pid)
    state = await bench.runtime.start(name)
    assert (state.sub, state.result) == ("failed", "resources")
    await bench.runtime.unload([name])
    assert not exists(pid)


@story
async def test_start_times_out(bench):
    name = await bench.service("Type=notify\nExecStart=sleep 1000\nTimeoutStartSec=100ms")
    state = await bench.runtime.start(name)
    assert (state.sub, state.result) == ("failed", "timeout")
    assert state.message == "was not started within 0.1 s (in start)"


@story
async def test_notify(bench):
    text = (
        NOTIFY
        + """
    notify("STATUS=warming up")
    open("gate").read()
    notify("READY=1\\nSTATUS=serving")
    time.sleep(1000)
    """.replace("\n    ", "\n")
    )
    os.mkfifo(gate := bench.folder / "gate")
    name = await bench.service(f"Type=notify\nExecStart={program(bench, 'notify', text)}")
    start = asyncio.ensure_future(bench.runtime.start(name))
    state = await bench.until(name, lambda state: state.message == "warming up")
    assert (state.active, state.sub) == ("activating", "start")
    assert not start.done()
    await asyncio.to_thread(gate.write_text, "go")
    state = await start
    assert (state.active, state.sub) == ("active", "running")
    assert state.message in ("", "serving")
    await bench.until(name, lambda state: state.message == "serving")


@story
async def test_notify_that_says_ready_and_ends(bench):
    text = NOTIFY + "notify('READY=1')"
    name = await bench.service(f"Type=notify\nExecStart={program(bench, 'brief', text)}")
    await bench.runtime.start(name)
    assert (await bench.until_sub(name, "dead", "failed")).result == "success"
    assert "running" in bench.subs(name)


@story
async def test_notify_that_never_says_it(bench):
    name = await bench.service("Type=notify\nExecStart=/bin/true")
    state = await bench.runtime.start(name)
    assert (state.sub, state.result) == ("failed", "protocol")
    assert state.message == "ended before it sent READY=1"


CHILD_NOTIFIES = (
    NOTIFY
    + """
child = subprocess.Popen([sys.executable, "-c", 'import os, socket, time\\n'
    's = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\\n'
    's.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"]); print("sent", flush=True); time.sleep(1000)'])
child.wait()
"""
)


@story
async def test_notify_access_main_does_not_hear_a_child(bench):
    command = program(bench, "child", CHILD_NOTIFIES)
    name = await bench.service(f"Type=notify\nExecStart={command}")
    start = asyncio.ensure_future(bench.runtime.start(name))
    line = await bench.line(name, "Got notification message")
    assert line.endswith("but NotifyAccess=main does not permit it.")
    assert bench.state(name).sub == "start"
    await bench.runtime.stop(name)
    await start


@story
async def test_notify_access_all_hears_a_child(bench):
    command = program(bench, "child", CHILD_NOTIFIES)
    name = await bench.service(f"Type=notify\nNotifyAccess=all\nExecStart={command}")
    assert (await bench.runtime.start(name)).sub == "running"


@story
async def test_notify_access_exec_hears_exec_start_post(bench):
    command = program(bench, "post", NOTIFY + "notify('STATUS=from post')")
    name = await bench.service(f"NotifyAccess=exec\nExecStart=sleep 1000\nExecStartPost={command}")
    assert (await bench.runtime.start(name)).message == "from post"


@story
async def test_nobody_else_is_heard(bench):
    name = await bench.service(
        "Type=notify\nNotifyAccess=all\nExecStart=sh -c 'echo $NOTIFY_SOCKET; sleep 1000'"
    )
    start = asyncio.ensure_future(bench.runtime.start(name))
    address = await bench.line(name, "/")
    sender = await asyncio.create_subprocess_exec(
        sys.executable, "-c", NOTIFY + "notify('READY=1')", env={"NOTIFY_SOCKET": address}
    )
    await sender.wait()
    await bench.line(name, f"Got notification message from PID {sender.pid}")
    assert bench.state(name).sub == "start"
    folder = Path(address).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    await bench.runtime.stop(name)
    await start
    assert not folder.exists()


@story
async def test_systemd_notify_and_its_barrier(bench):
    name = await bench.service(
        "Type=notify\nNotifyAccess=all\nExecStart=sh -c 'systemd-notify --ready; sleep 1000'"
    )
    assert (await bench.runtime.start(name)).sub == "running"


@pytest.mark.root
@story
async def test_notify_as_another_user(bench):
    command = f"/usr/bin/python3 -c '{NOTIFY}notify(\"READY=1\"); time.sleep(1000)'".replace("\n", "\\n")
    name = await bench.service(f"Type=notify\nUser=nobody\nWorkingDirectory=/\nExecStart={command}")
    assert (await bench.runtime.start(name)).sub == "running"


@story
async def test_a_watchdog_that_is_fed_and_then_is_not(bench):
    text = (
        NOTIFY
        + """
    interval = int(os.environ["WATCHDOG_USEC"]) / 3e6
    notify("READY=1")
    for turn in range(6):
        notify("WATCHDOG=1")
        time.sleep(interval)
    print("now I hang", flush=True)
    time.sleep(1000)
    """.replace("\n    ", "\n")
    )
    lines = f"Type=notify\nExecStart={program(bench, 'dog', text)}\nWatchdogSec=300ms"
    name = await bench.service(lines)
    await bench.runtime.start(name)
    state = await bench.until_sub(name, "failed")
    assert (state.result, "now I hang" in bench.lines(name)) == ("watchdog", True)
    assert "code=killed, status=6/ABRT" in await bench.line(name, "Main process exited")


@story
async def test_a_restart_in_the_middle_of_everything(bench):
    """kill -9 of the main process: its children go, it comes back, on a fresh tree."""
    text = "sleep 1000 & echo child $!; wait"
    name = await bench.service(
        f"ExecStart={script(bench, 'again', text)}\nRestart=on-failure\nRestartSec=10ms"
    )
    pid = (await bench.runtime.start(name)).pid
    child = int((await bench.line(name, "child")).split()[1])
    os.kill(pid, signal.SIGKILL)
    state = await bench.until(name, lambda state: state.sub == "running" and state.restarts == 1)
    assert state.pid != pid
    assert not exists(child)
    assert "auto-restart" in bench.subs(name)


@story
async def test_a_new_file_forgets_the_start_limit(bench):
    lines = "ExecStart=sh -c 'exit 1'\nRestart=always\nRestartSec=1ms"
    name = await bench.service(lines, unit="StartLimitIntervalSec=1h")
    await bench.runtime.start(name)
    assert (await bench.until_sub(name, "failed")).result == "start-limit-hit"
    await bench.service("ExecStart=sleep 1000", unit="StartLimitIntervalSec=1h")
    assert (await bench.runtime.start(name)).active == "active"


@story
async def test_a_bad_file_while_it_runs(bench):
    name = await bench.service("ExecStart=sleep 1000\nRestart=on-failure\nRestartSec=10ms")
    pid = (await bench.runtime.start(name)).pid
    await bench.service("ExecStart=sleep 1000\nDynamicUser=yes")
    state = bench.state(name)
    assert (state.load, state.active, state.pid) == ("bad-setting", "active", pid)
    assert state.message.startswith("x.service:5:13: DynamicUser=")
    os.kill(pid, signal.SIGKILL)
    await bench.until(name, lambda state: state.sub == "running" and state.pid != pid)
    await bench.runtime.stop(name)
    assert (await bench.runtime.start(name)).active == "inactive"


@pytest.mark.slow
@story
async def test_lines_of_a_program_that_floods(bench):
    name = await bench.service("Type=oneshot\nExecStart=sh -c 'seq 1 200000; echo the end'")
    await bench.runtime.start(name)
    assert bench.lines(name)[-2:] == ["200000", "the end"]


@story
async def test_a_cancelled_check_leaves_nothing(bench):
    name = await bench.service("ExecStart=sleep 1000", MARKER=str(bench.folder))
    pid = (await bench.runtime.start(name)).pid
    check = asyncio.ensure_future(bench.runtime.run(name, ["sleep", "999"], 100))
    await bench.poll(lambda: any(p != pid for p in processes("sleep\x00999")))
    check.cancel()
    await bench.poll(lambda: not processes("sleep\x00999"))


@pytest.mark.slow
def test_nothing_is_left_after_kill_9(tmp_path):
    """The runtime's own process is killed: its units, double forks and other sessions included, are gone."""
    code = f"""
        import asyncio, sys
        from pathlib import Path
        sys.path.insert(0, {str(Path.cwd())!r})
        from tests.cluster.runtime_bench import Bench
        async def main():
            bench = Bench.of_processes(Path({str(tmp_path)!r}))
            for number in range(3):
                name = await bench.service(
                    "ExecStart=sh -c '(setsid sleep 1000 &); sleep 1000 & wait'",
                    name=f"u@{{number}}.service", MARKER="left-by-{tmp_path.name}")
                await bench.runtime.start(name)
            print("up", flush=True)
            await asyncio.sleep(1000)
        asyncio.run(main())
    """
    daemon = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
    with daemon:
        assert daemon.stdout.readline() == b"up\n"
        marker = f"MARKER=left-by-{tmp_path.name}"
        assert len(processes(marker)) >= 3
        daemon.kill()

    async def gone():
        async with asyncio.timeout(20):
            while processes(marker):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    asyncio.run(gone())

    async def again():
        bench = Bench.of_processes(tmp_path)
        left = os.readlink(tmp_path / "kirsch/notify")
        await bench.runtime.close()
        return left

    sockets = os.readlink(tmp_path / "kirsch/notify")
    asyncio.run(again())
    assert not os.path.exists(sockets)
