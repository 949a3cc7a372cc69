"""Errors as one line and an exit status."""

import io
import os
import signal
import sys
from collections.abc import Callable

# As shells have it: 128 and the number of SIGINT.
INTERRUPTED = 130
# The extra that a package comes with.
MISSING = {
    "click": "kirsch",
    "cherrypy": "kirsch",
    "httptools": "kirsch",
    "inotify_simple": "kirsch",
    "prometheus_client": "kirsch",
    "cryptography": "kirsch[machines]",
    "kubernetes": "kirsch[kubernetes]",
}


class Failure(Exception):
    """One line for a person: the verb could not do what it was asked."""

    exit_status = 1


class NoProgram(Failure):
    """A command that does not exist, with the exit status that shells have for it."""

    exit_status = 127


class Misuse(Failure):
    """Options that do not go together."""

    exit_status = 2


def interruptible() -> None:
    """Treat SIGTERM and a closed terminal as Ctrl-C, so that the verb tidies up.

    A hangup that is ignored, as by nohup(1), stays ignored.
    """
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    for number in (signal.SIGINT, signal.SIGTERM, *([] if ignored else [signal.SIGHUP])):
        signal.signal(number, signal.default_int_handler)


def with_streams() -> None:
    """Give a process that was started without standard streams (`>&-`) empty ones: what it opens first is not
    to be taken for one of them. What an encoding does not have is written as \\uNNNN."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper) and (out.errors == "strict" or out.encoding.lower() != "utf-8"):
        out.reconfigure(errors="backslashreplace")


def last() -> None:
    """Let Ctrl-C end Python's own shutdown without a message."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def reported(verb: Callable[[], int]) -> int:
    """Run a verb, print its error on standard error, and return its exit status."""
    try:
        return _status(verb)
    finally:
        try:
            sys.stdout.flush()
        except OSError:
            _write_nowhere()


def _status(verb: Callable[[], int]) -> int:
    try:
        status = verb()
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            print(file=sys.stderr)  # ^C, or a question, stands in the line
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has what it wanted.
        return 0
    except OSError as error:
        print(f"kirsch: {_of_system(error)}", file=sys.stderr)
        return 1
    except ImportError as error:
        if not (missing := _missing(error)):
            raise
        print(f"kirsch: {missing}", file=sys.stderr)
        return 1
    except Failure as error:
        print(f"kirsch: {error}", file=sys.stderr)
        return error.exit_status
    except Exception as error:
        if not isinstance(error, _told()):
            raise
        from kirsch.cluster.provision.record import Interrupted

        print(f"kirsch: {error}", file=sys.stderr)
        return INTERRUPTED if isinstance(error, Interrupted) else 1


def _write_nowhere() -> None:
    """Send what Python still has to write at its end to /dev/null."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass


def _missing(error: ImportError) -> str:
    """Return which package to install; empty if none of another distribution is missing."""
    package = (error.name or "").partition(".")[0]
    if package in MISSING:
        from kirsch.install import pip_install

        return f"{package} is not installed: {pip_install(MISSING[package])}"
    # A package of ours without its extra says so itself.
    return str(error) if error.name is None and "pip install" in str(error) else ""


def _of_system(error: OSError) -> str:
    """Return one line for an error of the system: a file, a disk, a folder that is gone."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return "the folder that you are in is gone: go to one that is there"
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if isinstance(error.filename, str) else reason


def _told() -> tuple[type[Exception], ...]:
    """Return the errors whose text is one line for a person. Imported only once there is an error."""
    from kirsch.cluster.api.client import ClientError
    from kirsch.cluster.application import ApplicationError
    from kirsch.cluster.network.inotify import WatchError
    from kirsch.cluster.provision.record import ProvisionError
    from kirsch.unit import UnitError
    from kirsch.websocket import WebSocketError

    return (ClientError, ApplicationError, ProvisionError, UnitError, WatchError, WebSocketError)
