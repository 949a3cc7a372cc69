"""State machine of a service: (service, progress, event, now) -> (progress, actions). Pure.

States, their order and the log's words are those of systemd's service manager (systemd.service(5),
systemd.kill(5)). Two things differ: nothing outlives a unit, and a unit whose command cannot be executed has
failed to start, whatever its Type=.
"""

import enum
import math
import signal
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kirsch.bus.process.child import Exit
from kirsch.cluster.runtime.command_line import CommandLine
from kirsch.cluster.runtime.progress import (
    AT_REST,
    ENDING,
    STARTING,
    TERMINATING,
    WATCHED,
    Action,
    ControlExited,
    Elapsed,
    Emptied,
    Event,
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
from kirsch.cluster.runtime.service import Service
from kirsch.cluster.runtime.status import EXEC, describe, explain


class Trigger(enum.Enum):
    """Reasons to leave a state."""

    START = enum.auto()  # asked for, or the delay before a restart is over
    STOP = enum.auto()  # asked for
    RELOAD = enum.auto()  # asked for, or announced by the program (RELOADING=1)
    DONE = enum.auto()  # the state's commands succeeded; for "start", the main process is up as Type= has it
    FAILED = enum.auto()  # one of the state's commands failed
    MAIN_EXITED = enum.auto()  # the main process ended; where it matters, after its commands beside it
    EMPTY = enum.auto()  # no process of the unit is left
    TIMEOUT = enum.auto()
    WATCHDOG = enum.auto()  # the watchdog's message is late, or the program asked to be aborted
    STOPPING = enum.auto()  # the program announced its end (STOPPING=1)


T = Trigger
# The state after each trigger; a trigger that a state does not have changes nothing. What it also takes to
# leave some states (a process beside the main one, SendSIGKILL=no) is in the methods of _Machine, and so is
# what happens on entering one: "running" is where the main process decides between running, exited and stop.
TRANSITIONS: Mapping[str, Mapping[Trigger, str]] = {
    "dead": {T.START: "condition"},
    "failed": {T.START: "condition"},
    "auto-restart": {T.START: "condition", T.STOP: "dead"},
    "condition": {
        T.DONE: "start-pre",
        T.FAILED: "stop-sigterm",
        T.TIMEOUT: "stop-sigterm",
        T.STOP: "stop-sigterm",
    },
    "start-pre": {
        T.DONE: "start",
        T.FAILED: "stop-sigterm",
        T.TIMEOUT: "stop-sigterm",
        T.STOP: "stop-sigterm",
    },
    "start": {
        T.DONE: "start-post",
        T.FAILED: "stop-sigterm",
        T.TIMEOUT: "stop-sigterm",
        T.STOP: "stop-sigterm",
    },
    "start-post": {
        T.DONE: "running",
        T.FAILED: "stop-sigterm",
        T.MAIN_EXITED: "stop-sigterm",
        T.TIMEOUT: "stop-sigterm",
        T.WATCHDOG: "stop-watchdog",
        T.STOP: "stop-sigterm",
    },
    "running": {
        T.RELOAD: "reload",
        T.MAIN_EXITED: "running",
        T.WATCHDOG: "stop-watchdog",
        T.STOPPING: "stop-sigterm",
        T.STOP: "stop",
    },
    "exited": {T.STOP: "stop"},
    "reload": {
        T.DONE: "running",
        T.FAILED: "running",
        T.MAIN_EXITED: "stop-sigterm",
        T.TIMEOUT: "running",
        T.WATCHDOG: "stop-watchdog",
        T.STOP: "stop-sigterm",
    },
    "stop": {
        T.DONE: "stop-sigterm",
        T.FAILED: "stop-sigterm",
        T.MAIN_EXITED: "stop-sigterm",
        T.TIMEOUT: "stop-sigterm",
    },
    "stop-watchdog": {T.MAIN_EXITED: "stop-post", T.EMPTY: "stop-post", T.TIMEOUT: "stop-sigkill"},
    "stop-sigterm": {T.MAIN_EXITED: "stop-post", T.EMPTY: "stop-post", T.TIMEOUT: "stop-sigkill"},
    "stop-sigkill": {T.EMPTY: "stop-post", T.TIMEOUT: "stop-post"},
    "stop-post": {T.DONE: "final-sigterm", T.FAILED: "final-sigterm", T.TIMEOUT: "final-sigterm"},
    "final-sigterm": {T.EMPTY: "dead", T.TIMEOUT: "final-sigkill"},
    "final-sigkill": {T.EMPTY: "dead", T.TIMEOUT: "dead"},
}
# Fields of Service: the commands that a state runs, one after the other.
_COMMANDS = {
    "condition": "condition",
    "start-pre": "start_pre",
    "start": "start",
    "start-post": "start_post",
    "reload": "reload",
    "stop": "stop",
    "stop-post": "stop_post",
}
# Fields of Service: the signal that a state sends first, and the time that a state may take.
_SIGNALS = {
    "stop-watchdog": "watchdog_signal",
    "stop-sigterm": "kill_signal",
    "stop-sigkill": "final_kill_signal",
    "final-sigterm": "kill_signal",
    "final-sigkill": "final_kill_signal",
}
_TIMEOUTS = {
    **dict.fromkeys((*STARTING, "reload"), "timeout_start"),
    **dict.fromkeys(("stop", "stop-post", *TERMINATING, *ENDING), "timeout_stop"),
    "stop-watchdog": "timeout_abort",
    "auto-restart": "restart_delay",
}
_KILLING = ("stop-sigkill", "final-sigkill")
# systemd.service(5), SuccessExitStatus=: signals that end a daemon cleanly.
_CLEAN_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)
_CLEAN_RESULTS = ("success", "exec-condition")

Step = tuple[Progress, tuple[Action, ...]]


def step(service: Service, progress: Progress, event: Event, now: float) -> Step:
    """Return the unit's progress after an event, and what to do, in order.

    A Spawn is always last, and is answered before anything else is asked. A `start_job` that is queued when
    the unit is at rest asks for a Start.
    """
    machine = _Machine(service, progress, now)
    machine.handle(event)
    return machine.progress, tuple(machine.actions)


class _Machine:
    """One step: the progress so far, and the actions that it asks for."""

    def __init__(self, service: Service, progress: Progress, now: float) -> None:
        self.service = service
        self.progress = progress
        self.now = now
        self.actions: list[Action] = []

    def handle(self, event: Event) -> None:
        match event:
            case Start():
                self.start()
            case Stop():
                self.stop()
            case Reload():
                self.reload()
            case Spawned(pid):
                self.spawned(pid)
            case NotSpawned(message):
                self.not_spawned(message)
            case MainExited(exit):
                self.main_exited(exit)
            case ControlExited(exit):
                self.control_exited(exit)
            case Emptied():
                self.set(occupied=False)
                self.trigger(T.EMPTY)
            case Notified():
                self.notified(event)
            case Elapsed():
                self.elapsed()

    def set(self, **changes: Any) -> None:
        self.progress = replace(self.progress, **changes)

    def log(self, text: str) -> None:
        self.actions.append(Log(text))

    def fail(self, result: str, reason: str) -> None:
        """Record a failure; the first of a run is its result."""
        if self.progress.result == "success" and result != "success":
            self.set(result=result, reason=reason)

    # Jobs

    def start(self) -> None:
        if self.progress.sub in AT_REST:
            # An order, unlike a restart, begins the count of the start limit anew (systemctl's reset-failed).
            self.set(restarts=0, starts=())
            self.begin()
        elif self.progress.start_job != "running" and self.progress.sub not in (*WATCHED, "exited"):
            self.set(start_job="queued")

    def begin(self) -> None:
        """Begin a run, unless what is left of the last or the start limit forbids it."""
        service = self.service
        self.set(start_job="running", command=0)
        if self.progress.occupied:
            self.refuse("resources", "processes of its last run are left, which SendSIGKILL=no spares")
            return
        recent = tuple(t for t in self.progress.starts if t > self.now - service.start_limit_interval)
        if 0 < service.start_limit_burst <= len(recent) and service.start_limit_interval > 0:
            self.log("Start request repeated too quickly.")
            reason = self.progress.reason
            if self.progress.result != "start-limit-hit":
                limit = f"it was started {len(recent)} times within {service.start_limit_interval:g} s"
                reason = "; ".join(filter(None, (reason, f"{limit}, so it is not started again")))
            self.refuse("start-limit-hit", reason)
            return
        self.set(starts=(*recent, self.now), result="success", reason="", status="", main_exit=None)
        if service.condition or service.start_pre or service.type in ("oneshot", "notify"):
            self.log(f"Starting {service.label}...")
        self.actions.append(Prepare())
        self.trigger(T.START)

    def refuse(self, result: str, reason: str) -> None:
        self.set(result=result, reason=reason)
        self.enter_dead(may_restart=False)

    def stop(self) -> None:
        sub = self.progress.sub
        self.set(start_job="")
        if sub in AT_REST:
            return
        if sub == "auto-restart":
            self.actions.append(Release(restarting=False))
            self.wait("dead")
            return
        if not self.progress.stop_job and sub in (*STARTING, *WATCHED, "exited"):
            self.log(f"Stopping {self.service.label}...")
        self.set(stop_job=True)
        self.trigger(T.STOP)

    def reload(self) -> None:
        if self.progress.sub == "running" and self.service.reload:
            self.log(f"Reloading {self.service.label}...")
            self.set(reload_job=True)
            self.trigger(T.RELOAD)

    # Processes

    def spawned(self, pid: int) -> None:
        self.set(occupied=True)
        if self.progress.sub != "start":
            self.set(control=pid)
            return
        self.set(main=pid)
        if self.service.type in ("simple", "exec"):
            self.trigger(T.DONE)

    def not_spawned(self, message: str) -> None:
        self.log(message)
        if self.progress.sub == "start":
            self.main_exited(Exit(code=EXEC), message)
        else:
            self.control_exited(Exit(code=EXEC), message)

    def main_exited(self, exit: Exit, reason: str = "") -> None:
        sub = self.progress.sub
        command = self.service.start[self.progress.command if sub == "start" else -1]
        self.set(main=0, main_exit=exit)
        result = "success" if command.tolerant else judge_main(self.service, exit)
        if not reason:
            self.log(f"Main process exited, {describe(exit)}")
        self.fail(result, reason or explain(exit))
        if sub == "start":
            self.main_exited_in_start(result)
        elif sub in ("start-post", "reload"):
            # Well or not, the commands beside it go on; only a failure ends them.
            if result != "success":
                self.trigger(T.MAIN_EXITED)
        elif sub == "running" or not self.progress.control:
            self.trigger(T.MAIN_EXITED)

    def main_exited_in_start(self, result: str) -> None:
        if result == "success" and self.service.type == "oneshot":
            if not self.next_command():
                self.trigger(T.DONE)
            return
        if result == "success" and self.service.type == "notify":
            self.fail("protocol", "ended before it sent READY=1")
        self.trigger(T.FAILED)

    def control_exited(self, exit: Exit, reason: str = "") -> None:
        self.set(control=0)
        if not self.commands:
            # Asked to stop, with a command beside the main process that had ended before.
            if not self.progress.main:
                self.trigger(T.MAIN_EXITED)
            return
        command = self.commands[self.progress.command]
        result = "success" if command.tolerant else judge_control(exit)
        if result == "success":
            if not self.next_command():
                self.trigger(T.DONE)
            return
        if not reason:
            self.log(f"Control process exited, {describe(exit)}")
        reason = reason or f"{command} {explain(exit)}"
        if self.progress.sub == "reload":
            self.set(status=f"reload failed: {reason}")
        elif self.progress.sub == "condition" and exit.code is not None and exit.code not in (255, EXEC):
            self.fail("exec-condition", reason)
        else:
            self.fail(result, reason)
        self.trigger(T.FAILED)

    def notified(self, message: Notified) -> None:
        sub = self.progress.sub
        if message.status is not None:
            self.set(status=message.status)
        if message.extend_timeout and self.progress.deadline < math.inf:
            self.set(deadline=max(self.progress.deadline, self.now + message.extend_timeout))
        if message.watchdog and sub in WATCHED:
            self.set(watchdog_at=self.now + self.service.watchdog)
        if message.watchdog_trigger and sub in WATCHED:
            self.watchdog("The program asked for it by WATCHDOG=trigger.")
        elif message.stopping and sub == "running":
            self.wait(TRANSITIONS[sub][T.STOPPING])  # it stops by itself: no signal
        elif message.ready and self.waits_for_ready:
            self.trigger(T.DONE)
        elif message.reloading and sub == "running":
            self.wait(TRANSITIONS[sub][T.RELOAD])  # it reloads by itself: no command

    @property
    def waits_for_ready(self) -> bool:
        if self.progress.sub == "start":
            return self.service.type == "notify"
        return self.progress.sub == "reload" and not self.progress.control

    # Time

    def elapsed(self) -> None:
        if self.now >= self.progress.deadline:
            self.set(deadline=math.inf)
            self.timed_out()
        elif self.now >= self.progress.watchdog_at:
            self.watchdog(f"Watchdog timeout (limit {self.service.watchdog:g}s)!")

    def watchdog(self, line: str) -> None:
        self.log(line)
        self.fail("watchdog", "did not feed its watchdog")
        self.trigger(T.WATCHDOG)

    def timed_out(self) -> None:
        """Say what took too long; where it goes from there is in the table."""
        sub, service = self.progress.sub, self.service
        match sub:
            case "auto-restart":
                self.set(restarts=self.progress.restarts + 1)
                self.log(f"Scheduled restart job, restart counter is at {self.progress.restarts}.")
                self.begin()
                return
            case "condition" | "start-pre" | "start" | "start-post":
                self.log(f"{sub} operation timed out. Terminating.")
                self.fail("timeout", f"was not started within {service.timeout_start:g} s (in {sub})")
            case "reload":
                self.log("Reload operation timed out. Killing reload process.")
                self.actions.append(Signal(signal.SIGKILL, "control"))
                self.set(status=f"reload failed: it took over {service.timeout_start:g} s")
            case "stop" | "stop-post":
                self.log(f"State '{sub}' timed out. Terminating.")
                slow = self.commands[self.progress.command]
                self.fail("timeout", f"{slow} took over {service.timeout_stop:g} s")
            case "stop-watchdog" | "stop-sigterm" | "final-sigterm":
                self.not_terminated()
                return
            case "stop-sigkill":
                self.log("Processes still around after SIGKILL. Ignoring.")
            case "final-sigkill":
                self.log("Processes still around after final SIGKILL. Entering failed mode.")
                self.fail("timeout", "")
        self.trigger(T.TIMEOUT)

    def not_terminated(self) -> None:
        """Kill what did not end when asked to, unless SendSIGKILL=no."""
        sub = self.progress.sub
        self.fail("timeout", f"did not stop within {self.service.timeout_stop:g} s")
        if self.service.send_sigkill:
            self.log(f"State '{sub}' timed out. Killing.")
            self.trigger(T.TIMEOUT)
        elif sub in ENDING:
            self.log(f"State '{sub}' timed out. Skipping SIGKILL. Entering failed mode.")
            self.enter_dead(may_restart=False)
        else:
            self.log(f"State '{sub}' timed out. Skipping SIGKILL.")
            self.trigger(T.EMPTY)

    # States

    def trigger(self, trigger: Trigger) -> None:
        """Go where the table says."""
        following = TRANSITIONS[self.progress.sub].get(trigger)
        if following in _COMMANDS:
            self.enter_commands(following)
        elif following in _SIGNALS:
            self.enter_signal(following)
        elif following == "running":
            self.enter_running()
        elif following == "dead":
            self.enter_dead()

    def wait(self, sub: str) -> None:
        """Enter a state, with its timeout and the watchdog that holds in it."""
        timeout: float = getattr(self.service, _TIMEOUTS[sub]) if sub in _TIMEOUTS else math.inf
        watchdog_at = self.progress.watchdog_at if sub in WATCHED else math.inf
        if sub in WATCHED and watchdog_at == math.inf:
            watchdog_at = self.now + self.service.watchdog
        self.set(sub=sub, deadline=self.now + timeout, watchdog_at=watchdog_at)

    @property
    def commands(self) -> tuple[CommandLine, ...]:
        """The commands of the present state."""
        sub = self.progress.sub
        found: tuple[CommandLine, ...] = getattr(self.service, _COMMANDS[sub]) if sub in _COMMANDS else ()
        return found

    def enter_commands(self, sub: str) -> None:
        """Run a state's commands, one after the other."""
        self.wait(sub)
        self.set(command=0)
        if self.commands:
            self.spawn()
        else:
            self.trigger(T.DONE)

    def next_command(self) -> bool:
        """Spawn the next command of the state; False when there is none."""
        if self.progress.command + 1 >= len(self.commands):
            return False
        self.set(command=self.progress.command + 1)
        self.spawn()
        return True

    def spawn(self) -> None:
        """Spawn a command; each has the whole of its state's timeout."""
        sub = self.progress.sub
        self.set(deadline=self.now + getattr(self.service, _TIMEOUTS[sub]))
        self.actions.append(Spawn(self.commands[self.progress.command], main=sub == "start"))

    def enter_running(self) -> None:
        """Decide by the main process between running, exited, and the end of the run."""
        progress = self.progress
        if progress.result != "success":
            self.enter_signal("stop-sigterm")
        elif not progress.main and not self.service.remain_after_exit:
            self.enter_commands("stop")
        else:
            self.wait("running" if progress.main else "exited")
            if progress.reload_job:
                self.log(f"Reloaded {self.service.label}.")
            if progress.start_job == "running":
                self.log(f"{self.verb} {self.service.label}.")
            self.set(reload_job=False, start_job="")

    @property
    def verb(self) -> str:
        return "Finished" if self.service.type == "oneshot" else "Started"

    def enter_signal(self, sub: str) -> None:
        """Ask processes to end, or kill them, and wait for that; go on at once when there are none."""
        service, progress = self.service, self.progress
        kill = sub in _KILLING
        target = "all" if kill or service.kill_mode in ("control-group", "none") else "main"
        if not (progress.occupied if target == "all" else progress.main or progress.control):
            self.nothing_to_signal(sub)
            return
        self.wait(sub)
        self.actions.append(Signal(getattr(service, _SIGNALS[sub]), target))
        if not kill:
            self.actions.append(Signal(signal.SIGCONT, target))
            if service.send_sighup:
                self.actions.append(Signal(signal.SIGHUP, target))

    def nothing_to_signal(self, sub: str) -> None:
        """Kill what KillMode= did not ask to end; pass over the state where nothing is left."""
        left = self.service.send_sigkill and self.progress.occupied and sub not in _KILLING
        if left:
            self.enter_signal("final-sigkill" if sub in ENDING else "stop-sigkill")
        elif sub in ENDING:
            self.enter_dead()
        else:
            self.enter_commands("stop-post")

    def enter_dead(self, may_restart: bool = True) -> None:
        """End the run, and restart the unit where Restart= says so."""
        progress, service = self.progress, self.service
        failed = progress.result not in _CLEAN_RESULTS
        restarting = (
            may_restart
            and not progress.stop_job
            and wants_restart(service, progress.result, progress.main_exit)
        )
        self.log_end(failed)
        self.set(stop_job=False, reload_job=False, main=0, control=0)
        if progress.start_job == "running":
            self.set(start_job="")
        self.actions.append(Release(restarting))
        self.wait("auto-restart" if restarting else "failed" if failed else "dead")

    def log_end(self, failed: bool) -> None:
        progress, label = self.progress, self.service.label
        if failed:
            self.log(f"Failed with result '{progress.result}'.")
        elif progress.result == "exec-condition":
            self.log("Skipped due to 'exec-condition'.")
        else:
            self.log("Deactivated successfully.")
        if progress.start_job == "running":
            self.log(f"Failed to start {label}." if failed else f"{self.verb} {label}.")
        elif progress.stop_job:
            self.log(f"Stopped {label}.")


# Results and restarts (systemd.service(5))


def judge_main(service: Service, exit: Exit) -> str:
    """Return the result of the main process's exit: success, exit-code or signal."""
    clean = service.type != "oneshot" and exit.signal in _CLEAN_SIGNALS
    return "success" if clean or exit in service.success else judge_control(exit)


def judge_control(exit: Exit) -> str:
    """Return the result for the processes of ExecStartPre=, ExecStop= and so on."""
    if exit.code == 0:
        return "success"
    return "exit-code" if exit.signal is None else "signal"


def wants_restart(service: Service, result: str, exit: Exit | None) -> bool:
    """Apply Restart= to a run that ended with `result`; `exit` is its main process's, None if it had none."""
    if exit is not None and exit in service.restart_prevent:
        return False
    if exit is not None and exit in service.restart_force:
        return True
    match service.restart:
        case "always":
            return result != "exec-condition"
        case "on-success":
            return result == "success"
        case "on-failure":
            return result not in _CLEAN_RESULTS
        case "on-abnormal":
            return result not in (*_CLEAN_RESULTS, "exit-code")
        case "on-abort":
            return result == "signal"
        case "on-watchdog":
            return result == "watchdog"
    return False
