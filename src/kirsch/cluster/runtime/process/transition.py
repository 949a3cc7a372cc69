"""What a unit does next: (service, progress, event, now) -> (progress, actions). Pure."""

import math
import signal

from kirsch.bus.child import Exit
from kirsch.cluster.runtime.process.policy import judge_control, judge_main
from kirsch.cluster.runtime.process.progress import (
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
    MainExited,
    Notified,
    NotSpawned,
    Progress,
    Release,
    Reload,
    Signal,
    Spawned,
    Start,
    Stop,
)
from kirsch.cluster.runtime.process.service import Service
from kirsch.cluster.runtime.process.states import States
from kirsch.cluster.runtime.status import EXEC, describe, explain

Step = tuple[Progress, tuple[Action, ...]]


def step(service: Service, progress: Progress, event: Event, now: float) -> Step:
    """The unit's progress after an event, and what to do, in order; a Spawn is always last, and is answered
    before anything else is asked. A `start_job` that is queued when the unit is at rest asks for a Start."""
    machine = _Machine(service, progress, now)
    machine.handle(event)
    return machine.progress, tuple(machine.actions)


class _Machine(States):
    """What each event does."""

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
                self.emptied()
            case Notified():
                self.notified(event)
            case Elapsed():
                self.elapsed()

    # What is asked for

    def start(self) -> None:
        if self.progress.sub in AT_REST:
            self.set(restarts=0)
            self.begin()
        elif self.progress.start_job != "running" and self.progress.sub not in (*WATCHED, "exited"):
            self.set(start_job="queued")

    def stop(self) -> None:
        sub = self.progress.sub
        self.set(start_job="")
        if sub in AT_REST:
            return
        if sub == "auto-restart":
            self.actions.append(Release(restarting=False))
            self.enter("dead", math.inf)
            return
        if not self.progress.stop_job and sub in (*STARTING, *WATCHED, "exited"):
            self.log(f"Stopping {self.service.label}...")
        self.set(stop_job=True)
        if sub in STARTING or sub == "reload":
            self.enter_signal("stop-sigterm")
        elif sub in ("running", "exited"):
            self.enter_chain("stop", self.service.stop, self.service.timeout_stop)

    def reload(self) -> None:
        if self.progress.sub == "running" and self.service.reload:
            self.log(f"Reloading {self.service.label}...")
            self.set(reload_job=True)
            self.enter_chain("reload", self.service.reload, self.service.timeout_start)

    def spawned(self, pid: int) -> None:
        self.set(occupied=True)
        if self.progress.sub != "start":
            self.set(control=pid)
            return
        self.set(main=pid)
        if self.service.type in ("simple", "exec"):
            self.chain_done()

    def not_spawned(self, message: str) -> None:
        self.log(message)
        if self.progress.sub == "start":
            self.main_exited(Exit(code=EXEC), message)
        else:
            self.control_exited(Exit(code=EXEC), message)

    # What happens to processes

    def main_exited(self, exit: Exit, reason: str = "") -> None:
        command = self.service.start[self.progress.command if self.progress.sub == "start" else -1]
        self.set(main=0, main_exit=exit)
        result = "success" if command.tolerant else judge_main(self.service, exit)
        if not reason:
            self.log(f"Main process exited, {describe(exit)}")
        self.fail(result, reason or explain(exit))
        match self.progress.sub:
            case "start":
                self.main_exited_in_start(result)
            case "start-post" | "reload" if result != "success":
                self.enter_signal("stop-sigterm")
            case "running":
                self.enter_running()
            case "stop" if not self.progress.control:
                self.enter_signal("stop-sigterm")
            case "stop-watchdog" | "stop-sigterm" if not self.progress.control:
                self.enter_chain("stop-post", self.service.stop_post, self.service.timeout_stop)

    def main_exited_in_start(self, result: str) -> None:
        if result == "success" and self.service.type == "oneshot":
            if not self.next_command():
                self.chain_done()
            return
        if result == "success" and self.service.type == "notify":
            self.fail("protocol", "ended before it sent READY=1")
        self.enter_signal("stop-sigterm")

    def control_exited(self, exit: Exit, reason: str = "") -> None:
        self.set(control=0)
        chain = self.chain
        if not chain:
            if self.progress.sub in TERMINATING[:2] and not self.progress.main:
                self.enter_chain("stop-post", self.service.stop_post, self.service.timeout_stop)
            return
        command = chain[self.progress.command]
        result = "success" if command.tolerant else judge_control(exit)
        if result == "success":
            if not self.next_command():
                self.chain_done()
            return
        if not reason:
            self.log(f"Control process exited, {describe(exit)}")
        self.control_failed(result, reason or f"{command} {explain(exit)}", exit)

    def control_failed(self, result: str, reason: str, exit: Exit) -> None:
        match self.progress.sub:
            case "condition" if exit.code is not None and exit.code < 255 and exit.code != EXEC:
                self.fail("exec-condition", reason)
                self.enter_signal("stop-sigterm")
            case "condition" | "start-pre" | "start-post":
                self.fail(result, reason)
                self.enter_signal("stop-sigterm")
            case "reload":
                self.set(status=f"reload failed: {reason}")
                self.enter_running()
            case "stop":
                self.fail(result, reason)
                self.enter_signal("stop-sigterm")
            case "stop-post":
                self.fail(result, reason)
                self.enter_signal("final-sigterm")

    def emptied(self) -> None:
        self.set(occupied=False)
        if self.progress.sub in TERMINATING:
            self.enter_chain("stop-post", self.service.stop_post, self.service.timeout_stop)
        elif self.progress.sub in ENDING:
            self.enter_dead("success")

    def notified(self, message: Notified) -> None:
        sub = self.progress.sub
        if message.status is not None:
            self.set(status=message.status)
        if message.extend_timeout and self.progress.deadline < math.inf:
            self.set(deadline=max(self.progress.deadline, self.now + message.extend_timeout))
        if message.watchdog and sub in WATCHED:
            self.set(watchdog_at=self.now + self.service.watchdog)
        if message.watchdog_trigger and sub in WATCHED:
            self.enter_watchdog("The program asked for it by WATCHDOG=trigger.")
        elif message.stopping and sub == "running":
            self.enter("stop-sigterm", self.service.timeout_stop)
        elif message.ready and sub == "start" and self.service.type == "notify":
            self.chain_done()
        elif message.ready and sub == "reload" and not self.progress.control:
            self.enter_running()
        elif message.reloading and sub == "running":
            self.enter("reload", self.service.timeout_start)

    # Time

    def elapsed(self) -> None:
        if self.now >= self.progress.deadline:
            self.set(deadline=math.inf)
            self.timed_out()
        elif self.now >= self.progress.watchdog_at:
            self.enter_watchdog(f"Watchdog timeout (limit {self.service.watchdog:g}s)!")

    def timed_out(self) -> None:
        sub = self.progress.sub
        service = self.service
        match sub:
            case "auto-restart":
                self.set(restarts=self.progress.restarts + 1)
                self.log(f"Scheduled restart job, restart counter is at {self.progress.restarts}.")
                self.begin()
            case "condition" | "start-pre" | "start" | "start-post":
                self.log(f"{sub} operation timed out. Terminating.")
                self.fail("timeout", f"was not started within {service.timeout_start:g} s (in {sub})")
                self.enter_signal("stop-sigterm")
            case "reload":
                self.log("Reload operation timed out. Killing reload process.")
                self.actions.append(Signal(signal.SIGKILL, "control"))
                self.set(status=f"reload failed: it took over {service.timeout_start:g} s")
                self.enter_running()
            case "stop" | "stop-post":
                self.log(f"State '{sub}' timed out. Terminating.")
                slow = self.chain[self.progress.command]
                self.fail("timeout", f"{slow} took over {service.timeout_stop:g} s")
                self.enter_signal("stop-sigterm" if sub == "stop" else "final-sigterm")
            case "stop-watchdog" | "stop-sigterm" | "final-sigterm":
                self.enter_kill(sub)
            case "stop-sigkill":
                self.log("Processes still around after SIGKILL. Ignoring.")
                self.enter_chain("stop-post", service.stop_post, service.timeout_stop)
            case "final-sigkill":
                self.log("Processes still around after final SIGKILL. Entering failed mode.")
                self.enter_dead("timeout")

    def enter_kill(self, sub: str) -> None:
        """What was asked to end did not."""
        self.fail("timeout", f"did not stop within {self.service.timeout_stop:g} s")
        final = sub in ENDING
        if self.service.send_sigkill:
            self.log(f"State '{sub}' timed out. Killing.")
            self.enter_signal("final-sigkill" if final else "stop-sigkill")
        elif final:
            self.log(f"State '{sub}' timed out. Skipping SIGKILL. Entering failed mode.")
            self.enter_dead("timeout", may_restart=False)
        else:
            self.log(f"State '{sub}' timed out. Skipping SIGKILL.")
            self.enter_chain("stop-post", self.service.stop_post, self.service.timeout_stop)
