"""Connecting again and again, where waiting blocks: threads' clients do so, and gevent's."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from kirsch.websocket.backoff import Backoff, passes
from kirsch.websocket.errors import HandshakeError

log = logging.getLogger("kirsch.websocket")

C = TypeVar("C", bound=AbstractContextManager[Any])


def reconnection(
    connect: Callable[[], C], wait: Callable[[float], object], backoff: Backoff | None
) -> Iterator[C]:
    """Connections, each when the one before has ended; `wait` waits, for seconds.

    Raises HandshakeError: what time does not heal, or the last one when `backoff` ends.
    """
    backoff = backoff or Backoff()
    failed: HandshakeError | None = None
    while True:
        try:
            connection = connect()
        except HandshakeError as error:
            if not passes(error):
                raise
            failed = error
        else:
            failed, since = None, time.monotonic()
            with connection:
                yield connection
            backoff.lasted(time.monotonic() - since)
        delay = next(backoff, None)
        if delay is None:
            if failed is not None:
                raise failed
            return
        if failed is not None:
            log.info("%s: trying again in %.1f s", failed, delay)
        wait(delay)
