"""The state machine on a virtual clock: what systemd.service(5) and systemd.kill(5) say, and invariants."""

import math
import signal
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.bus.process.child import Exit
from kirsch.cluster.runtime.process.states import TRANSITIONS, Trigger, step
from kirsch.cluster.runtime.progress import (
    ACTIVE,
    AT_REST,
    ControlExited,
    Elapsed,
    Emptied,
    Log,
    MainExited,
    Notified,
    NotSpawned,
    Prepare,
    Progress,
    Release,
    Reload,
    Signal,
    Spawn,
    Spawned,
    Start,
    Stop,
)
from kirsch.cluster.runtime.service import Service, read_service
from kirsch.unit import UnitFile, UnitName

NAME = UnitName.parse("x.service")


def parse(lines: str, unit: str = "") -> Service:
    return read_service(NAME, UnitFile.parse(f"[Unit]\n{unit}\n[Service]\n{lines}\n"))[0]


class Machine:
    """A unit whose processes are pretended: every Spawn works, nothing ends by itself."""

    def __init__(self, lines: str, unit: str = "") -> None:
        self.service = parse(lines, unit)
        self.progress = Progress()
        self.now = 1000.0
        self.pid = 0
        self.seen: list[str] = []
        self.actions: list[object] = []
        self.broken: set[str] = set()

    def feed(self, event: object) -> "Machine":
        self.progress, actions = step(self.service, self.progress, event, self.now)
        self.seen.append(self.progress.sub)
        self.actions += actions
        assert not any(isinstance(action, Spawn) for action in actions[:-1])
        if actions and isinstance(actions[-1], Spawn):
            program = actions[-1].command.program
            self.pid += 1
            return self.feed(NotSpawned(f"{program}: no") if program in self.broken else Spawned(self.pid))
        if self.progress.start_job == "queued" and self.progress.sub in AT_REST:
            return self.feed(Start())
        return self

    def main_exits(self, code: int | None = None, signum: int | None = None) -> "Machine":
        return self.feed(MainExited(Exit(code=code, signal=signum)))

    def control_exits(self, code: int | None = 0, signum: int | None = None) -> "Machine":
        return self.feed(ControlExited(Exit(code=code, signal=signum)))

    def emptied(self) -> "Machine":
        return self.feed(Emptied())

    def elapse(self) -> "Machine":
        """Let time pass until something is due."""
        assert self.progress.wakeup < math.inf
        self.now = self.progress.wakeup
        return self.feed(Elapsed())

    def die(self, code: int | None = None, signum: int | None = None) -> "Machine":
        """The main process ends, and nothing else is there."""
        return self.main_exits(code, signum).emptied()

    @property
    def at(self) -> tuple[str, str]:
        return self.progress.sub, self.progress.result

    @property
    def log(self) -> list[str]:
        return [action.text for action in self.actions if isinstance(action, Log)]

    @property
    def signals(self) -> list[tuple[int, str]]:
        return [(action.number, action.target) for action in self.actions if isinstance(action, Signal)]

    @property
    def programs(self) -> list[str]:
        return [action.command.program for action in self.actions if isinstance(action, Spawn)]


SIMPLE = "ExecStart=/bin/main"

# The table of transitions, a row at a time: a unit in a state, with processes, and what happens to it.
EVERYTHING = """
ExecCondition=/bin/condition\nExecStartPre=/bin/pre\nExecStart=/bin/main\nExecStartPost=/bin/post
ExecReload=/bin/reload\nExecStop=/bin/stop\nExecStopPost=/bin/stop-post
"""
ROWS = [(sub, trigger, to) for sub, row in TRANSITIONS.items() for trigger, to in row.items()]
# Two targets stand for a decision: by the main process, and by the result of the run.
DECIDED = {"running": {"running", "stop-sigterm"}, "dead": {"dead", "failed"}}


def in_state(sub: str, **values: object) -> Progress:
    at_rest = sub in (*AT_REST, "auto-restart")
    main = 1 if sub in ("start-post", "running", "reload", "stop") else 0
    return replace(Progress(sub=sub, main=main, occupied=not at_rest, deadline=1000.0), **values)


def event_of(sub: str, trigger: Trigger) -> tuple[Progress, object]:
    """Something that makes the trigger in this state, and the unit before it."""
    match trigger:
        case Trigger.START:
            return in_state(sub), Start() if sub in AT_REST else Elapsed()
        case Trigger.STOP:
            return in_state(sub), Stop()
        case Trigger.RELOAD:
            return in_state(sub), Reload()
        case Trigger.DONE if sub == "start":
            return in_state(sub), Spawned(7)
        case Trigger.DONE:
            return in_state(sub, control=2), ControlExited(Exit(code=0))
        case Trigger.FAILED if sub == "start":
            return in_state(sub), NotSpawned("no")
        case Trigger.FAILED:
            return in_state(sub, control=2), ControlExited(Exit(code=255))
        case Trigger.MAIN_EXITED:
            return in_state(sub, main=1), MainExited(Exit(code=1))
        case Trigger.EMPTY:
            return in_state(sub, main=0), Emptied()
        case Trigger.TIMEOUT:
            return in_state(sub), Elapsed()
        case Trigger.WATCHDOG:
            return in_state(sub), Notified(watchdog_trigger=True)
        case Trigger.STOPPING:
            return in_state(sub), Notified(stopping=True)


@pytest.mark.parametrize(("sub", "trigger", "to"), ROWS, ids=lambda each: getattr(each, "name", each))
def test_each_row_of_the_table(sub, trigger, to):
    progress, event = event_of(sub, trigger)
    after, _ = step(parse(EVERYTHING), progress, event, 1000.0)
    assert after.sub in DECIDED.get(to, {to})


@pytest.mark.parametrize("trigger", [Trigger.RELOAD, Trigger.WATCHDOG, Trigger.STOPPING, Trigger.EMPTY])
@pytest.mark.parametrize("sub", TRANSITIONS)
def test_what_the_table_does_not_have_changes_no_state(sub, trigger):
    progress, event = event_of(sub, trigger)
    after, actions = step(parse(EVERYTHING), progress, event, 1000.0)
    if trigger not in TRANSITIONS[sub]:
        assert (after.sub, actions) == (sub, ())


def test_every_state_is_in_the_table():
    assert TRANSITIONS.keys() == ACTIVE.keys()
    assert {to for _, _, to in ROWS} <= TRANSITIONS.keys()


def test_simple_runs_once_it_is_spawned():
    machine = Machine(SIMPLE, "Description=A thing").feed(Start())
    assert machine.at == ("running", "success")
    assert (machine.progress.main, machine.progress.start_job) == (1, "")
    assert machine.log == ["Started x.service - A thing."]
    machine.feed(Stop())
    assert machine.at == ("stop-sigterm", "success")
    assert machine.signals == [(signal.SIGTERM, "all"), (signal.SIGCONT, "all")]
    machine.main_exits(signum=signal.SIGTERM)
    assert (machine.at, machine.progress.stop_job) == (("final-sigterm", "success"), True)
    machine.emptied()
    assert (machine.at, machine.progress.stop_job) == (("dead", "success"), False)
    assert machine.log[1:] == [
        "Stopping x.service - A thing...",
        "Main process exited, code=killed, status=15/TERM",
        "Deactivated successfully.",
        "Stopped x.service - A thing.",
    ]


def test_every_command_in_its_order():
    machine = Machine(
        "ExecCondition=/bin/condition\nExecStartPre=/bin/pre1\nExecStartPre=/bin/pre2\nExecStart=/bin/main\n"
        "ExecStartPost=/bin/post\nExecStop=/bin/stop\nExecStopPost=/bin/stop-post\nExecReload=/bin/reload"
    ).feed(Start())
    states = []
    for _ in range(4):
        states.append(machine.progress.sub)
        machine.control_exits()
    assert states == ["condition", "start-pre", "start-pre", "start-post"]
    assert machine.progress.sub == "running"
    machine.feed(Reload())
    assert (machine.progress.sub, machine.progress.active) == ("reload", "reloading")
    assert machine.control_exits().progress.sub == "running"
    assert machine.feed(Stop()).progress.sub == "stop"
    assert machine.control_exits().progress.sub == "stop-sigterm"
    assert machine.main_exits(0).progress.sub == "stop-post"
    assert machine.control_exits().progress.sub == "final-sigterm"
    assert machine.emptied().at == ("dead", "success")
    assert machine.programs == [
        f"/bin/{name}"
        for name in ("condition", "pre1", "pre2", "main", "post", "reload", "stop", "stop-post")
    ]


def test_notify_waits_for_ready():
    machine = Machine("Type=notify\nExecStart=/bin/main").feed(Start())
    assert (machine.at, machine.progress.start_job) == (("start", "success"), "running")
    machine.feed(Notified(status="half way"))
    assert (machine.progress.sub, machine.progress.status) == ("start", "half way")
    machine.feed(Notified(ready=True))
    assert (machine.at, machine.progress.start_job) == (("running", "success"), "")


def test_notify_that_ends_before_it_is_ready_failed():
    machine = Machine("Type=notify\nExecStart=/bin/main").feed(Start()).die(0)
    assert machine.at == ("failed", "protocol")
    assert "Failed to start x.service." in machine.log
    assert Machine("Type=notify\nExecStart=/bin/main").feed(Start()).die(2).at == ("failed", "exit-code")


def test_notify_that_never_gets_ready_times_out():
    machine = Machine("Type=notify\nExecStart=/bin/main\nTimeoutStartSec=3").feed(Start())
    machine.feed(Notified(extend_timeout=10))
    assert machine.progress.deadline == 1010
    assert machine.elapse().at == ("stop-sigterm", "timeout")
    assert "start operation timed out. Terminating." in machine.log
    assert machine.die(signum=15).at == ("failed", "timeout")


def test_notify_reload_and_stopping():
    machine = Machine("Type=notify\nExecStart=/bin/main").feed(Start()).feed(Notified(ready=True))
    assert machine.feed(Notified(reloading=True)).progress.sub == "reload"
    assert machine.feed(Notified(ready=True)).progress.sub == "running"
    assert machine.feed(Notified(stopping=True)).progress.sub == "stop-sigterm"
    assert machine.signals == []
    assert machine.die(0).at == ("dead", "success")


def test_oneshot_is_started_when_it_is_done():
    machine = Machine("Type=oneshot\nExecStart=/bin/a\nExecStart=/bin/b").feed(Start())
    assert machine.progress.sub == "start"
    machine.main_exits(0)
    assert (machine.progress.sub, machine.progress.start_job, machine.programs[-1]) == (
        "start",
        "running",
        "/bin/b",
    )
    machine.die(0)
    assert (machine.at, machine.progress.start_job) == (("dead", "success"), "")
    assert machine.log[0] == "Starting x.service..."
    assert machine.log[-2:] == ["Deactivated successfully.", "Finished x.service."]


def test_oneshot_that_remains():
    machine = Machine("Type=oneshot\nExecStart=/bin/a\nRemainAfterExit=yes\nExecStop=/bin/stop")
    machine.feed(Start()).main_exits(0)
    assert (machine.at, machine.progress.active) == (("exited", "success"), "active")
    machine.emptied()
    assert machine.progress.sub == "exited"
    machine.feed(Stop())
    assert machine.programs[-1] == "/bin/stop"
    assert machine.control_exits().emptied().at == ("dead", "success")


def test_oneshot_stops_at_the_first_failure_unless_it_is_tolerated():
    machine = Machine("Type=oneshot\nExecStart=-/bin/a\nExecStart=/bin/b\nExecStart=/bin/c").feed(Start())
    assert machine.main_exits(1).progress.sub == "start"
    assert machine.die(1).at == ("failed", "exit-code")
    assert machine.programs == ["/bin/a", "/bin/b"]


def test_a_signal_that_ends_a_daemon_cleanly_fails_a_oneshot():
    assert Machine(SIMPLE).feed(Start()).die(signum=signal.SIGTERM).at == ("dead", "success")
    oneshot = Machine("Type=oneshot\nExecStart=/bin/a").feed(Start())
    assert oneshot.die(signum=signal.SIGTERM).at == ("failed", "signal")


def test_success_exit_status():
    machine = Machine(SIMPLE + "\nSuccessExitStatus=143 SIGKILL")
    assert machine.feed(Start()).die(143).at == ("dead", "success")
    assert machine.feed(Start()).die(signum=9).at == ("dead", "success")
    assert machine.feed(Start()).die(1).at == ("failed", "exit-code")


def test_a_failing_start_pre_keeps_the_main_process_from_starting():
    machine = Machine(
        "ExecStartPre=/bin/pre\nExecStart=/bin/main\nExecStop=/bin/stop\nExecStopPost=/bin/post"
    )
    machine.feed(Start()).control_exits(4)
    assert machine.progress.sub == "stop-sigterm"
    assert machine.emptied().progress.sub == "stop-post"
    assert machine.control_exits().emptied().at == ("failed", "exit-code")
    assert machine.programs == ["/bin/pre", "/bin/post"]
    assert machine.progress.reason == "ExecStartPre=/bin/pre exited with status 4"


def test_a_failing_start_post_stops_the_service():
    machine = Machine("ExecStart=/bin/main\nExecStartPost=/bin/post").feed(Start()).control_exits(1)
    assert machine.progress.sub == "stop-sigterm"
    assert machine.die(signum=15).at == ("failed", "exit-code")


@pytest.mark.parametrize(
    ("exit", "expected"),
    [
        (Exit(code=1), ("dead", "exec-condition")),
        (Exit(code=254), ("dead", "exec-condition")),
        (Exit(code=255), ("failed", "exit-code")),
        (Exit(signal=11), ("failed", "signal")),
    ],
)
def test_exec_condition(exit, expected):
    machine = Machine(
        "ExecCondition=/bin/if\nExecStart=/bin/main\nRestart=always\nRestartPreventExitStatus=1"
    )
    machine.service = replace(machine.service, restart="no" if exit.code in (255, None) else "always")
    assert machine.feed(Start()).feed(ControlExited(exit)).emptied().at == expected
    assert machine.programs == ["/bin/if"]


def test_what_cannot_be_executed_has_failed_to_start():
    machine = Machine(SIMPLE)
    machine.broken = {"/bin/main"}
    machine.feed(Start())
    assert machine.at == ("failed", "exit-code")
    assert machine.progress.reason == "/bin/main: no"
    assert "running" not in machine.seen


def test_a_failed_reload_leaves_the_service_running():
    machine = Machine(SIMPLE + "\nExecReload=/bin/reload\nTimeoutStartSec=2").feed(Start())
    machine.feed(Reload()).control_exits(1)
    assert machine.at == ("running", "success")
    assert machine.progress.status == "reload failed: ExecReload=/bin/reload exited with status 1"
    machine.feed(Reload()).elapse()
    assert (machine.at, machine.signals) == (("running", "success"), [(signal.SIGKILL, "control")])
    assert machine.control_exits(None, 9).progress.sub == "running"


def test_without_exec_reload_nothing_happens():
    machine = Machine(SIMPLE).feed(Start()).feed(Reload())
    assert (machine.progress.sub, machine.progress.reload_job) == ("running", False)


def test_a_main_process_that_ends_while_it_is_reloaded():
    machine = Machine(SIMPLE + "\nExecReload=/bin/reload").feed(Start()).feed(Reload()).main_exits(1)
    assert machine.progress.sub == "stop-sigterm"
    assert machine.control_exits(None, 15).emptied().at == ("failed", "exit-code")
    assert not machine.progress.reload_job


def test_stop_kills_what_does_not_end():
    machine = Machine(SIMPLE + "\nTimeoutStopSec=5").feed(Start()).feed(Stop())
    assert machine.progress.deadline == 1005
    assert machine.elapse().at == ("stop-sigkill", "timeout")
    assert machine.signals[-1] == (signal.SIGKILL, "all")
    assert machine.die(signum=9).at == ("failed", "timeout")
    assert "State 'stop-sigterm' timed out. Killing." in machine.log


def test_what_even_sigkill_does_not_end():
    machine = Machine(SIMPLE + "\nTimeoutStopSec=5").feed(Start()).feed(Stop())
    for _ in range(4):
        machine.elapse()
    assert machine.seen[-4:] == ["stop-sigkill", "final-sigterm", "final-sigkill", "failed"]
    assert machine.feed(Start()).at == ("failed", "resources")
    assert machine.emptied().feed(Start()).at == ("running", "success")


def test_send_sigkill_no():
    machine = Machine(SIMPLE + "\nTimeoutStopSec=5\nSendSIGKILL=no").feed(Start()).feed(Stop())
    assert machine.elapse().progress.sub == "final-sigterm"
    assert machine.elapse().at == ("failed", "timeout")
    assert signal.SIGKILL not in [number for number, _ in machine.signals]


def test_descendants_that_outlive_the_main_process_are_asked_then_killed():
    machine = Machine(SIMPLE).feed(Start()).main_exits(0)
    assert machine.progress.sub == "stop-sigterm"
    assert machine.elapse().progress.sub == "stop-sigkill"
    assert machine.emptied().at == ("failed", "timeout")


def test_kill_mode_mixed_signals_the_main_process_and_kills_the_rest():
    machine = (
        Machine(SIMPLE + "\nKillMode=mixed\nKillSignal=SIGINT\nSendSIGHUP=yes").feed(Start()).feed(Stop())
    )
    assert machine.signals == [(signal.SIGINT, "main"), (signal.SIGCONT, "main"), (signal.SIGHUP, "main")]
    assert machine.main_exits(0).progress.sub == "final-sigkill"
    assert machine.signals[-1] == (signal.SIGKILL, "all")
    assert machine.emptied().at == ("dead", "success")


def test_exec_stop_that_takes_too_long():
    machine = Machine(SIMPLE + "\nExecStop=/bin/stop\nTimeoutStopSec=2").feed(Start()).feed(Stop()).elapse()
    assert machine.at == ("stop-sigterm", "timeout")
    assert machine.progress.reason == "ExecStop=/bin/stop took over 2 s"


def test_exec_stop_also_runs_when_a_service_ends_well_by_itself():
    machine = Machine(SIMPLE + "\nExecStop=/bin/stop").feed(Start()).main_exits(0)
    assert (machine.progress.sub, machine.programs[-1]) == ("stop", "/bin/stop")
    failed = Machine(SIMPLE + "\nExecStop=/bin/stop").feed(Start()).main_exits(1)
    assert failed.programs == ["/bin/main"]


RESULTS = {
    "clean": lambda m: m.die(0),
    "exit-code": lambda m: m.die(1),
    "signal": lambda m: m.die(signum=signal.SIGSEGV),
    "timeout": lambda m: m.feed(Notified(stopping=True)).elapse().die(signum=9),
    "watchdog": lambda m: m.elapse().die(signum=signal.SIGABRT),
}
# systemd.service(5), table "Exit causes and the effect of the Restart= settings".
RESTARTED = {
    "no": set(),
    "always": set(RESULTS),
    "on-success": {"clean"},
    "on-failure": {"exit-code", "signal", "timeout", "watchdog"},
    "on-abnormal": {"signal", "timeout", "watchdog"},
    "on-abort": {"signal"},
    "on-watchdog": {"watchdog"},
}


@pytest.mark.parametrize("restart", RESTARTED)
@pytest.mark.parametrize("cause", RESULTS)
def test_restart(restart, cause):
    machine = Machine(f"{SIMPLE}\nRestart={restart}\nRestartSec=3\nWatchdogSec=7").feed(Start())
    RESULTS[cause](machine)
    assert (machine.progress.sub == "auto-restart") == (cause in RESTARTED[restart])
    if machine.progress.sub == "auto-restart":
        assert machine.progress.deadline == machine.now + 3
        assert machine.elapse().at == ("running", "success")
        assert machine.progress.restarts == 1
        assert "Scheduled restart job, restart counter is at 1." in machine.log


def test_restart_is_prevented_and_forced():
    machine = Machine(SIMPLE + "\nRestart=on-failure\nRestartPreventExitStatus=3\nRestartForceExitStatus=0")
    assert machine.feed(Start()).die(3).at == ("failed", "exit-code")
    assert machine.feed(Start()).die(0).progress.sub == "auto-restart"


def test_start_limit():
    machine = Machine(
        SIMPLE + "\nRestart=always\nRestartSec=1", "StartLimitBurst=3\nStartLimitIntervalSec=10"
    )
    machine.feed(Start())
    for _ in range(3):
        machine.die(3).elapse()
    assert machine.at == ("failed", "start-limit-hit")
    reason = "exited with status 3; it was started 3 times within 10 s, so it is not started again"
    assert machine.progress.reason == reason
    assert machine.log[-3:] == [
        "Start request repeated too quickly.",
        "Failed with result 'start-limit-hit'.",
        "Failed to start x.service.",
    ]
    # Who orders a start has mended it: it is tried, and counted from there.
    assert machine.feed(Start()).at == ("running", "success")
    for _ in range(3):
        machine.die(3).elapse()
    assert machine.at == ("failed", "start-limit-hit")
    assert machine.progress.reason == reason


@pytest.mark.parametrize("unit", ["StartLimitBurst=0", "StartLimitIntervalSec=0"])
def test_no_start_limit(unit):
    machine = Machine(SIMPLE + "\nRestart=always\nRestartSec=0", unit).feed(Start())
    for _ in range(50):
        machine.die(1).elapse()
    assert (machine.progress.sub, machine.progress.restarts) == ("running", 50)


def test_starts_that_are_far_apart_do_not_count():
    machine = Machine(SIMPLE + "\nRestart=always\nRestartSec=4").feed(Start())
    for _ in range(20):
        machine.die(1).elapse()
    assert machine.progress.sub == "running"


def test_watchdog():
    machine = Machine(SIMPLE + "\nWatchdogSec=5\nTimeoutAbortSec=2").feed(Start())
    assert machine.progress.watchdog_at == 1005
    machine.now = 1004
    machine.feed(Notified(watchdog=True))
    assert machine.progress.watchdog_at == 1009
    assert machine.elapse().at == ("stop-watchdog", "watchdog")
    assert machine.signals[0] == (signal.SIGABRT, "all")
    assert machine.progress.deadline == 1011
    assert "Watchdog timeout (limit 5s)!" in machine.log
    assert machine.die(signum=6).at == ("failed", "watchdog")
    assert Machine(SIMPLE).feed(Start()).feed(Notified(watchdog_trigger=True)).at == (
        "stop-watchdog",
        "watchdog",
    )


def test_stop_while_it_starts():
    machine = Machine("Type=notify\nExecStart=/bin/main\nRestart=always").feed(Start()).feed(Stop())
    assert (machine.progress.sub, machine.progress.start_job) == ("stop-sigterm", "")
    assert machine.die(signum=15).at == ("dead", "success")


def test_start_while_it_stops_starts_it_again():
    machine = Machine(SIMPLE).feed(Start()).feed(Stop()).feed(Start())
    assert (machine.progress.sub, machine.progress.start_job) == ("stop-sigterm", "queued")
    machine.die(signum=15)
    assert "dead" in machine.seen
    assert (machine.at, machine.progress.main) == (("running", "success"), 2)


def test_a_queued_start_is_taken_back_by_a_stop():
    machine = Machine(SIMPLE).feed(Start()).feed(Stop()).feed(Start()).feed(Stop()).die(signum=15)
    assert machine.at == ("dead", "success")


def test_start_and_stop_while_it_waits_for_a_restart():
    machine = Machine(SIMPLE + "\nRestart=always").feed(Start()).die(1).feed(Start())
    assert (machine.progress.sub, machine.progress.start_job) == ("auto-restart", "queued")
    assert machine.elapse().progress.start_job == ""
    machine.die(1).feed(Stop())
    assert (machine.progress.sub, machine.progress.stop_job, machine.progress.wakeup) == (
        "dead",
        False,
        math.inf,
    )


def test_a_stop_forbids_a_restart():
    machine = Machine(SIMPLE + "\nRestart=always").feed(Start()).main_exits(1).feed(Stop()).emptied()
    assert machine.at == ("failed", "exit-code")


def test_start_of_what_runs_and_stop_of_what_does_not():
    machine = Machine(SIMPLE).feed(Stop()).feed(Start()).feed(Start())
    assert machine.programs == ["/bin/main"]
    assert not machine.progress.start_job


def test_release_says_whether_another_run_follows():
    machine = Machine(SIMPLE + "\nRestart=on-failure").feed(Start()).die(1)
    assert [a.restarting for a in machine.actions if isinstance(a, Release)] == [True]
    machine.elapse().die(0)
    assert [a.restarting for a in machine.actions if isinstance(a, Release)] == [True, False]
    assert sum(isinstance(a, Prepare) for a in machine.actions) == 2


FULL = [
    "ExecCondition=/bin/c",
    "ExecStartPre=/bin/a",
    "ExecStartPost=/bin/b",
    "ExecStop=-/bin/s",
    "ExecStopPost=/bin/p",
    "ExecReload=/bin/r",
    "Restart=on-failure",
    "WatchdogSec=30",
    "KillMode=mixed",
    "RemainAfterExit=yes",
    "SendSIGHUP=yes",
    "RestartForceExitStatus=7",
]
HAPPENINGS = [
    "start", "stop", "reload", "main-0", "main-1", "main-9", "control-0", "control-1", "emptied", "elapse",
    "ready", "stopping", "watchdog", "reloading", "trigger",
]  # fmt: skip


@given(
    st.sampled_from(["simple", "exec", "notify", "oneshot"]),
    st.sets(st.sampled_from(FULL)),
    st.lists(st.sampled_from(HAPPENINGS), max_size=40),
    st.sets(st.sampled_from(["/bin/main", "/bin/a", "/bin/s", "/bin/p"]), max_size=1),
)
def test_whatever_happens_a_stop_ends_it(kind, lines, happenings, broken):
    machine = Machine("\n".join([f"Type={kind}", SIMPLE, *sorted(lines)]), "StartLimitBurst=0")
    machine.broken = broken
    for happening in happenings:
        happen(machine, happening)
        check(machine)
    machine.feed(Stop())
    for _ in range(20):
        if machine.progress.sub in AT_REST:
            break
        for happening in ("control-0", "main-9", "emptied", "elapse"):
            happen(machine, happening)
            check(machine)
    assert machine.progress.sub in AT_REST
    assert not machine.progress.stop_job
    assert not machine.progress.start_job


def happen(machine: Machine, what: str) -> None:
    """Only what can happen: no process ends that does not run."""
    progress = machine.progress
    match what.split("-"):
        case ["start"]:
            machine.feed(Start())
        case ["stop"]:
            machine.feed(Stop())
        case ["reload"]:
            machine.feed(Reload())
        case ["main", status] if progress.main:
            machine.main_exits(*(None, 9) if status == "9" else (int(status),))
        case ["control", status] if progress.control:
            machine.control_exits(int(status))
        case ["emptied"] if progress.occupied and not progress.main and not progress.control:
            machine.emptied()
        case ["elapse"] if progress.wakeup < math.inf:
            machine.elapse()
        case ["ready"] if progress.main:
            machine.feed(Notified(ready=True))
        case ["stopping"] if progress.main:
            machine.feed(Notified(stopping=True))
        case ["watchdog"] if progress.main:
            machine.feed(Notified(watchdog=True))
        case ["reloading"] if progress.main:
            machine.feed(Notified(reloading=True))
        case ["trigger"] if progress.main:
            machine.feed(Notified(watchdog_trigger=True))


def check(machine: Machine) -> None:
    progress = machine.progress
    if progress.sub in (*AT_REST, "auto-restart"):
        assert not progress.main
        assert not progress.control
        assert not progress.stop_job
        assert not progress.reload_job
        assert progress.start_job in ("", "queued")
    if progress.sub == "running":
        assert progress.main
        assert not progress.start_job
    if progress.sub in ("running", "exited", "dead"):
        assert progress.result in ("success", "exec-condition") or progress.sub == "dead"
    if progress.active == "deactivating":
        assert progress.wakeup < math.inf
    if progress.start_job == "running":
        assert progress.active in ("activating", "deactivating")
    assert (progress.result == "success") == (progress.reason == "")
