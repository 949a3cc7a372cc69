"""From what went wrong to one line and an exit status."""

import os
import signal
import sys
from collections.abc import Callable

# As shells have it: 128 and the number of SIGINT.
INTERRUPTED = 130


class Failure(Exception):
    """A verb that could not do what it was asked: one line for a person."""

    exit_status = 1


class Misuse(Failure):
    """Options that do not go together."""

    exit_status = 2


def interruptible() -> None:
    """Have what ends us (a service manager, a terminal that is closed) be as Ctrl-C, which has us tidy up.
    A hangup that is ignored, as by nohup(1), stays so."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    for number in (signal.SIGINT, signal.SIGTERM, *([] if ignored else [signal.SIGHUP])):
        signal.signal(number, signal.default_int_handler)


def reported(verb: Callable[[], int]) -> int:
    """Run a verb; say what went wrong on standard error."""
    try:
        status = verb()
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has what it wanted; Python must not complain at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if not isinstance(error, _told()):
            raise
        from kirsch.cluster.provision.record import Interrupted

        print(f"kirsch: {error}", file=sys.stderr)
        if isinstance(error, Interrupted):
            return INTERRUPTED
        return error.exit_status if isinstance(error, Failure) else 1


def _told() -> tuple[type[Exception], ...]:
    """The errors that are one line for a person; what defines them is imported when there is one."""
    from kirsch.cluster.application import ApplicationError
    from kirsch.cluster.client import ClientError
    from kirsch.cluster.provision.record import ProvisionError
    from kirsch.unit import UnitError
    from kirsch.websocket import WebSocketError

    return (Failure, ClientError, ApplicationError, ProvisionError, UnitError, WebSocketError)
