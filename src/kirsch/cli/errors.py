"""From what went wrong to one line and an exit status."""

import os
import sys
from collections.abc import Callable

from kirsch.cluster.client import ClientError


class Failure(Exception):
    """A verb that could not do what it was asked: one line for a person."""


def reported(verb: Callable[[], int]) -> int:
    """Run a verb; say what went wrong on standard error."""
    from kirsch.cluster.application import ApplicationError
    from kirsch.unit import UnitError

    try:
        status = verb()
        sys.stdout.flush()
        return status
    except (Failure, ClientError, ApplicationError, UnitError) as error:
        print(f"kirsch: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (head, less) has what it wanted; Python must not complain at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
