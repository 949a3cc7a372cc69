import os
import signal
import sys
import threading
import time

import pytest

from kirsch.bus.process.child import Child, ChildError, Command, Exit


class Record:
    """What a Child told, in order."""

    def __init__(self, *argv: str, grace: float = 10, keep: bool = False, line_limit: int = 65536, **command):
        self.events: list[tuple] = []
        self.child = Child(
            Command(argv, **command),
            lambda stream, line: self.events.append((stream, line)),
            lambda how: self.events.append(("exit", how)),
            lambda how: self.events.append(("main", how)),
            on_start=lambda pid: self.events.append(("start", pid)),
            grace=grace,
            keep=keep,
            line_limit=line_limit,
        )

    def run(self, timeout: float = 20) -> "Record":
        self.child.start()
        assert self.child.wait(timeout) is not None, "still running"
        return self

    def lines(self, stream: str = "out") -> list[str]:
        return [event[1] for event in self.events if event[0] == stream]


def test_lines_come_before_the_exit_and_the_start_before_all():
    record = Record("sh", "-c", "echo one; echo two; printf three; exit 3").run()
    assert record.events[0] == ("start", record.child.pid)
    assert record.lines() == ["one", "two", "three"]
    assert ("main", Exit(3)) in record.events
    assert record.events[-1] == ("exit", Exit(3))


def test_standard_error_is_a_stream_of_its_own():
    record = Record("sh", "-c", "echo out; echo err >&2").run()
    assert record.lines("out") == ["out"]
    assert record.lines("err") == ["err"]


def test_an_exit_reads_well():
    assert str(Exit(3)) == "exited with code 3"
    assert str(Exit(signal=9)) == "killed by SIGKILL"
    assert str(Exit(signal=40)) == "killed by signal 40"


@pytest.mark.parametrize(
    ("argv", "command", "message"),
    [
        (("no-such-program",), {}, "cannot execute no-such-program: No such file or directory"),
        (("/etc/passwd",), {}, "cannot execute /etc/passwd: Permission denied"),
        (
            ("true",),
            {"directory": "/no/such"},
            "cannot enter the directory /no/such: No such file or directory",
        ),
        (("true",), {"user": "no-such-user"}, "no such user: no-such-user"),
        (("true",), {"group": "no-such-group"}, "no such group: no-such-group"),
        (("true",), {"limits": {"MOON": (1, 1)}}, "no such resource limit: MOON"),
        (("true",), {"limits": {"NOFILE": (9, 1)}}, "cannot set the limits of true: Invalid argument"),
    ],
)
def test_what_cannot_be_executed_says_why_in_one_line(argv, command, message):
    record = Record(*argv, **command)
    with pytest.raises(ChildError) as caught:
        record.child.start()
    assert str(caught.value) == message
    assert record.events == []


def test_a_command_without_a_program_is_refused():
    with pytest.raises(ValueError, match="a program"):
        Command(())


def test_the_error_number_is_told():
    with pytest.raises(ChildError) as caught:
        Record("no-such-program").child.start()
    assert caught.value.errno == 2


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root")
def test_user_group_and_their_groups_are_taken_on():
    record = Record("sh", "-c", "id -un; id -gn; id -Gn", user="nobody", directory="/").run()
    assert record.lines() == ["nobody", "nogroup", "nogroup"]


def test_circumstances_of_the_command():
    script = "pwd; umask; ulimit -n; nice; echo $WORD; readlink /proc/self/fd/0; ps -o sid= -p $$"
    record = Record(
        "sh", "-c", script,
        directory="/usr", umask=0o027, limits={"NOFILE": (256, 512)}, nice=5,
        environment={"WORD": "grüße", "PATH": os.environ["PATH"]},
    ).run()  # fmt: skip
    *lines, session = record.lines()
    assert lines == ["/usr", "0027", "256", str(os.nice(0) + 5), "grüße", "/dev/null"]
    assert int(session) == record.child.pid


def test_signals_have_their_default_meaning_in_the_command():
    record = Record("grep", "-E", "Sig(Blk|Ign)", "/proc/self/status").run()
    # glibc keeps 32 and 33 for itself and lets nobody change them (nptl(7)): they stay as they came to us.
    settable = sum(1 << (number - 1) for number in signal.valid_signals())
    assert [int(line.split()[1], 16) & settable for line in record.lines()] == [0, 0]


def test_the_command_gets_the_descriptors_it_is_given_and_no_others(tmp_path):
    (tmp_path / "given").write_text("given")
    (tmp_path / "kept").write_text("kept")
    given, kept = os.open(tmp_path / "given", os.O_RDONLY), os.open(tmp_path / "kept", os.O_RDONLY)
    os.set_inheritable(kept, True)
    try:
        record = Record("sh", "-c", f"cat /proc/$$/fd/{given}; echo; ls /proc/$$/fd", fds=(given,)).run()
    finally:
        os.close(given)
        os.close(kept)
    content, *fds = record.lines()
    assert content == "given"
    assert {int(fd) for fd in fds} == {0, 1, 2, given}


def test_the_command_reads_the_stdin_it_is_given():
    reading, writing = os.pipe()
    record = Record("cat", stdin=reading)
    record.child.start()
    os.close(reading)
    os.write(writing, b"hello\n")
    os.close(writing)
    record.child.wait(10)
    assert record.lines() == ["hello"]


def test_the_environment_is_on_no_command_line():
    record = Record("sleep", "60", environment={"PASSWORD": "secret-word"})
    record.child.start()
    try:
        for pid in (record.child.shim_pid, record.child.pid):
            with open(f"/proc/{pid}/cmdline", "rb") as cmdline:
                assert b"secret-word" not in cmdline.read()
        with open(f"/proc/{record.child.shim_pid}/environ", "rb") as environ:
            assert b"secret-word" not in environ.read()
    finally:
        record.child.kill()
        record.child.wait(10)


def test_ten_megabytes_written_fast_all_arrive():
    script = "import sys; [sys.stdout.write('%099d\\n' % i) for i in range(100_000)]"
    record = Record(sys.executable, "-c", script).run(60)
    lines = record.lines()
    assert len(lines) == 100_000
    assert lines[-1] == f"{99_999:099d}"


def test_a_line_over_the_limit_comes_in_pieces():
    record = Record("sh", "-c", "printf 'abcdefghij\\n'", line_limit=4).run()
    assert record.lines() == ["abcd", "efgh", "ij"]


def test_a_child_that_closes_its_output_is_followed_to_its_end():
    record = Record("sh", "-c", "echo last; exec >&- 2>&-; sleep 0.1; exit 4").run()
    assert record.lines() == ["last"]
    assert record.events[-1] == ("exit", Exit(4))


def test_output_waits_while_a_callback_runs():
    seen, go_on = threading.Event(), threading.Event()

    def slow(stream: str, line: str) -> None:
        seen.set()
        go_on.wait(10)

    child = Child(Command(("sh", "-c", "yes | head -c 1000000")), slow)
    child.start()
    assert seen.wait(10)
    assert child.wait(0.1) is None
    go_on.set()
    assert child.wait(20) == Exit(0)


def test_what_is_written_before_an_error_comes_before_it(tmp_path):
    os.mkfifo(tmp_path / "written")
    lines = []

    def busy(stream: str, line: str) -> None:
        lines.append((stream, line))
        if line == "first":
            (tmp_path / "written").read_bytes()

    # All but the first is written while that one is handed over.
    script = "echo first; exec 3> written; echo second; echo error >&2; exec 3>&-; exit 3"
    child = Child(Command(("sh", "-c", script), directory=str(tmp_path)), busy)
    child.start()
    assert child.wait(20) == Exit(3)
    assert lines == [("out", "first"), ("out", "second"), ("err", "error")]


def test_an_error_in_a_callback_stops_nothing(caplog):
    def broken(stream: str, line: str) -> None:
        raise RuntimeError("broken listener")

    child = Child(Command(("sh", "-c", "echo one; echo two; exit 5")), broken)
    child.start()
    assert child.wait(10) == Exit(5)
    assert [str(record.exc_info[1]) for record in caplog.records] == ["broken listener"] * 2


def test_stop_is_the_signal_first():
    record = Record("sh", "-c", "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done")
    record.child.start()
    while not record.lines():
        time.sleep(0.005)
    record.child.stop()
    assert record.child.wait(10) == Exit(0)
    assert record.lines() == ["ready", "bye"]


def test_stop_kills_after_the_grace_period():
    record = Record("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.01; done")
    record.child.start()
    while not record.lines():
        time.sleep(0.005)
    record.child.stop(grace=0.2)
    assert record.child.wait(10) == Exit(signal=signal.SIGKILL)


def test_stop_reaches_a_stopped_process():
    record = Record("sleep", "60")
    record.child.start()
    record.child.signal(signal.SIGSTOP)
    record.child.stop()
    assert record.child.wait(10) == Exit(signal=signal.SIGTERM)


def test_wait_has_a_timeout():
    record = Record("sleep", "60")
    record.child.start()
    assert record.child.wait(0.05) is None
    assert record.child.running
    record.child.kill()
    assert record.child.wait(10) == Exit(signal=signal.SIGKILL)
    assert not record.child.running


def test_a_child_runs_once():
    record = Record("true").run()
    with pytest.raises(RuntimeError, match="once"):
        record.child.start()


def test_signals_to_what_is_gone_do_nothing():
    record = Record("true").run()
    record.child.signal(signal.SIGTERM)
    record.child.signal_all(signal.SIGTERM)
    record.child.stop()
    record.child.kill()


def test_fifty_children_leave_no_descriptor_and_no_thread():
    Record("true").run()
    before, threads = set(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(50):
        Record("true").run()
    with pytest.raises(ChildError):
        Record("no-such-program").child.start()
    # What other tests left may end meanwhile.
    assert set(os.listdir("/proc/self/fd")) <= before
    assert threading.active_count() <= threads


def test_children_can_be_started_from_many_threads_at_once():
    records = [Record("sh", "-c", f"echo {number}") for number in range(20)]
    threads = [threading.Thread(target=record.run) for record in records]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [record.lines() for record in records] == [[str(number)] for number in range(20)]
