"""One command in the foreground: it has our terminal, and nothing of it outlives us.

Between us and the command stands a fork of ours, the minder: a child subreaper (prctl(2)), so that whatever
descends from the command ends up as its child. It kills what the command leaves behind, and everything when
we are gone, even by kill -9. All of us stay in one process group and session: what the terminal sends
(Ctrl-C, Ctrl-Z, a new size) reaches the command, and the shell can stop and continue us as a whole.
"""

import ctypes
import os
import resource
import signal
import subprocess
from types import FrameType
from typing import NoReturn

from kirsch.bus.process.command import ChildError, Command, resolve_credentials, resolve_limits
from kirsch.bus.process.shim import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, descendants

# The terminal sends these to the command as well; what it does about them is its affair.
SHARED = (signal.SIGINT, signal.SIGQUIT)
PASSED_ON = (signal.SIGTERM, signal.SIGHUP)

_prctl = ctypes.CDLL(None, use_errno=True).prctl


def foreground(command: Command) -> int:
    """Run a command until it ends; its exit status, 128+N where signal N ended it. Raises ChildError."""
    read, write = os.pipe()
    parent = os.getpid()
    minder = os.fork()
    if minder == 0:
        os.close(read)
        _mind(command, parent, write)
    os.close(write)

    def pass_on(signum: int, _: FrameType | None) -> None:
        os.kill(minder, signum)

    _handle(pass_on)
    with os.fdopen(read, "rb") as pipe:
        trouble = pipe.read().decode()
    _, status = os.waitpid(minder, 0)
    if trouble:
        raise ChildError(trouble)
    return _exit_status(os.waitstatus_to_exitcode(status))


def _mind(command: Command, parent: int, report: int) -> NoReturn:
    """Start the command in the fork, wait for it, and leave nothing of it. Never returns."""
    status = 1
    try:
        _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        _handle(lambda *_: None)  # until there is a command
        _prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() == parent:
            status = _run(command, parent, report)
    except (ChildError, OSError, ValueError, subprocess.SubprocessError) as error:
        os.write(report, (getattr(error, "strerror", None) or str(error)).encode())
    finally:
        _kill_all()
        os._exit(status)


def _run(command: Command, parent: int, report: int) -> int:
    process = _start(command)
    os.close(report)

    def pass_on(signum: int, _: FrameType | None) -> None:
        if os.getppid() != parent:
            _kill_all()
        else:
            process.send_signal(signum)

    _handle(pass_on)
    if os.getppid() != parent:
        return 1
    return _exit_status(process.wait())


def _start(command: Command) -> "subprocess.Popen[bytes]":
    """Start the command as its user, within its limits. Raises ChildError, OSError."""
    credentials = resolve_credentials(command.user, command.group)
    if credentials.uid is not None and os.geteuid() != 0:
        raise ChildError(f"only root can run a command as {command.user}")
    for limit, values in resolve_limits(command.limits).items():
        resource.setrlimit(limit, values)
    os.nice(command.nice)
    return subprocess.Popen(
        command.argv,
        env=command.environment,
        cwd=command.directory,
        user=credentials.uid,
        group=credentials.gid,
        extra_groups=credentials.groups,
        umask=-1 if command.umask is None else command.umask,
        # One thread only, and no lock that it could hold.
        preexec_fn=lambda: tie(signal.SIGKILL),
    )


def tie(signum: int) -> None:
    """Have this process sent a signal when its parent ends, however that happens (prctl(2))."""
    _prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0)


def _kill_all() -> None:
    """Kill all that descends from us; returns when nothing is left."""
    while True:
        for pid in descendants(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _handle(pass_on: "signal._HANDLER") -> None:
    """Install handlers; SIG_IGN would be inherited by the command."""
    for signum in SHARED:
        signal.signal(signum, lambda *_: None)
    for signum in PASSED_ON:
        signal.signal(signum, pass_on)


def _exit_status(code: int) -> int:
    return 128 - code if code < 0 else code
