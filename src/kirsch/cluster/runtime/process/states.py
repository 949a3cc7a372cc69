"""A unit's states and how one leads to the next; what leads into them is in `transition`. Pure.

The states, their order and the words of the log are those of systemd's service manager (systemd.service(5),
systemd.kill(5)); two things are not: nothing outlives a unit, and a unit whose command cannot be executed has
failed to start whatever its Type=.
"""

import math
import signal
from dataclasses import replace
from typing import Any

from kirsch.cluster.runtime.process.command_line import CommandLine
from kirsch.cluster.runtime.process.policy import CLEAN_RESULTS, wants_restart
from kirsch.cluster.runtime.process.progress import (
    ENDING,
    WATCHED,
    Action,
    Log,
    Prepare,
    Progress,
    Release,
    Signal,
    Spawn,
)
from kirsch.cluster.runtime.process.service import Service


class States:
    """A unit's progress during one step, and the actions that the step asks for.

    Methods named `enter_` go to a state; each ends by spawning something, waiting, or entering the next.
    """

    def __init__(self, service: Service, progress: Progress, now: float) -> None:
        self.service = service
        self.progress = progress
        self.now = now
        self.actions: list[Action] = []

    # Values

    def enter(self, sub: str, timeout: float, **changes: Any) -> None:
        watched = sub in WATCHED and self.service.watchdog < math.inf
        if not watched:
            changes["watchdog_at"] = math.inf
        elif self.progress.watchdog_at == math.inf:
            changes["watchdog_at"] = self.now + self.service.watchdog
        self.set(sub=sub, deadline=self.now + timeout, **changes)

    def set(self, **changes: Any) -> None:
        self.progress = replace(self.progress, **changes)

    def fail(self, result: str, reason: str) -> None:
        """The first thing that goes wrong is the result of the run."""
        if self.progress.result == "success" and result != "success":
            self.set(result=result, reason=reason)

    def log(self, text: str) -> None:
        self.actions.append(Log(text))

    # Starting

    def begin(self) -> None:
        """Start afresh, by itself or because it was asked for."""
        service = self.service
        self.set(start_job="running", command=0)
        if self.progress.occupied:
            self.refuse("resources", "processes of its last run are left, which SendSIGKILL=no spares")
            return
        recent = tuple(t for t in self.progress.starts if t > self.now - service.start_limit_interval)
        if 0 < service.start_limit_burst <= len(recent) and service.start_limit_interval > 0:
            self.log("Start request repeated too quickly.")
            limit = f"it was started {len(recent)} times in {service.start_limit_interval:g} s"
            self.refuse("start-limit-hit", ", ".join(filter(None, (self.progress.reason, limit))))
            return
        self.set(starts=(*recent, self.now), result="success", reason="", status="", main_exit=None)
        if service.condition or service.start_pre or service.type in ("oneshot", "notify"):
            self.log(f"Starting {service.label}...")
        self.actions.append(Prepare())
        self.enter_chain("condition", service.condition, service.timeout_start)

    def refuse(self, result: str, reason: str) -> None:
        self.set(result=result, reason=reason)
        self.enter_dead("success", may_restart=False)

    # Commands, one after the other

    @property
    def chain(self) -> tuple[CommandLine, ...]:
        """The commands of the present state, run one after the other."""
        service = self.service
        return {
            "condition": service.condition,
            "start-pre": service.start_pre,
            "start": service.start,
            "start-post": service.start_post,
            "reload": service.reload,
            "stop": service.stop,
            "stop-post": service.stop_post,
        }.get(self.progress.sub, ())

    def enter_chain(self, sub: str, commands: tuple[CommandLine, ...], timeout: float) -> None:
        self.enter(sub, timeout, command=0)
        if commands:
            self.spawn(timeout)
        else:
            self.chain_done()

    def spawn(self, timeout: float) -> None:
        """Each command of a chain has the whole of the timeout."""
        self.set(deadline=self.now + timeout)
        main = self.progress.sub == "start"
        self.actions.append(Spawn(self.chain[self.progress.command], main))

    def next_command(self) -> bool:
        """Spawn the next command of the chain; False when there is none."""
        if self.progress.command + 1 >= len(self.chain):
            return False
        self.set(command=self.progress.command + 1)
        stopping = self.progress.sub in ("stop", "stop-post")
        self.spawn(self.service.timeout_stop if stopping else self.service.timeout_start)
        return True

    def chain_done(self) -> None:
        service = self.service
        match self.progress.sub:
            case "condition":
                self.enter_chain("start-pre", service.start_pre, service.timeout_start)
            case "start-pre":
                self.enter_chain("start", service.start, service.timeout_start)
            case "start":
                self.enter_chain("start-post", service.start_post, service.timeout_start)
            case "start-post" | "reload":
                self.enter_running()
            case "stop":
                self.enter_signal("stop-sigterm")
            case "stop-post":
                self.enter_signal("final-sigterm")

    # Up, and down again

    def enter_watchdog(self, line: str) -> None:
        self.log(line)
        self.fail("watchdog", "did not feed its watchdog")
        self.enter_signal("stop-watchdog")

    def enter_running(self) -> None:
        """Running, or over, whichever the main process is."""
        progress = self.progress
        if progress.result != "success":
            self.enter_signal("stop-sigterm")
        elif not progress.main and not self.service.remain_after_exit:
            self.enter_chain("stop", self.service.stop, self.service.timeout_stop)
        else:
            self.enter("running" if progress.main else "exited", math.inf)
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
        kill = sub in ("stop-sigkill", "final-sigkill")
        target = "all" if kill or service.kill_mode in ("control-group", "none") else "main"
        if not (progress.occupied if target == "all" else progress.main or progress.control):
            self.nothing_to_signal(sub)
            return
        self.enter(sub, service.timeout_abort if sub == "stop-watchdog" else service.timeout_stop)
        if kill:
            number = service.final_kill_signal
        else:
            number = service.watchdog_signal if sub == "stop-watchdog" else service.kill_signal
        self.actions.append(Signal(number, target))
        if not kill:
            self.actions.append(Signal(signal.SIGCONT, target))
            if service.send_sighup:
                self.actions.append(Signal(signal.SIGHUP, target))

    def nothing_to_signal(self, sub: str) -> None:
        kill = self.service.send_sigkill and self.progress.occupied
        if sub in ENDING and (kill and sub != "final-sigkill"):
            self.enter_signal("final-sigkill")
        elif sub in ENDING:
            self.enter_dead("success")
        elif kill and sub != "stop-sigkill":
            self.enter_signal("stop-sigkill")
        else:
            self.enter_chain("stop-post", self.service.stop_post, self.service.timeout_stop)

    def enter_dead(self, result: str, may_restart: bool = True) -> None:
        """The run is over."""
        self.fail(result, "")
        progress, service = self.progress, self.service
        failed = progress.result not in CLEAN_RESULTS
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
        if restarting:
            self.enter("auto-restart", service.restart_delay)
        else:
            self.enter("failed" if failed else "dead", math.inf)

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
