"""What an exit means for a unit, and whether it is restarted after it (systemd.service(5)). Pure."""

import signal

from kirsch.bus.child import Exit
from kirsch.cluster.runtime.process.service import Service

# systemd.service(5), SuccessExitStatus=: signals that end a daemon cleanly.
CLEAN_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)
CLEAN_RESULTS = ("success", "exec-condition")


def judge_main(service: Service, exit: Exit) -> str:
    """The result that the main process's exit makes: success, exit-code or signal."""
    clean = service.type != "oneshot" and exit.signal in CLEAN_SIGNALS
    return "success" if clean or exit in service.success else judge_control(exit)


def judge_control(exit: Exit) -> str:
    """The same for the processes of ExecStartPre=, ExecStop= and so on."""
    if exit.code == 0:
        return "success"
    return "exit-code" if exit.signal is None else "signal"


def wants_restart(service: Service, result: str, exit: Exit | None) -> bool:
    """Restart= for a run that ended with `result`, its main process with `exit` (None: it had none)."""
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
            return result not in CLEAN_RESULTS
        case "on-abnormal":
            return result not in (*CLEAN_RESULTS, "exit-code")
        case "on-abort":
            return result == "signal"
        case "on-watchdog":
            return result == "watchdog"
    return False
