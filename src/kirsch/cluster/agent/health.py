"""Whether a unit is ready: Health= asked again and again, at the unit's own address."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from math import isfinite

from kirsch.unit import Health

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between two questions: `eager` until a unit is ready, for somebody waits for it; then `later`,
    for a change is news and no wait, unless the file says how often."""

    eager: float
    later: float


PACE = Pace(0.1, 1.0)
# podman takes a twentieth of a second of a processor for a command in a container.
IN_CONTAINER = Pace(0.5, 5.0)
# A program that cannot run has mostly ended by then.
SETTLE = 0.25
TIMEOUT = 3.0
RETRIES = 3

RunCommand = Callable[[Sequence[str], float], Awaitable[int]]


class Silent(Exception):
    """No answer in time: said of a busy unit too, so it is believed only after some tries."""


async def check(health: Health, address: str, run: RunCommand, timeout: float) -> bool:
    """Ask once. http is ready at a status below 400, tcp when it connects, a command when it exits with 0.

    Raises Silent when there is no answer within `timeout` seconds.
    """
    try:
        async with asyncio.timeout(timeout):
            if health.kind == "command":
                return await run(health.command, timeout) == 0
            return await _connect(health, address)
    except TimeoutError:
        raise Silent from None
    except (OSError, ValueError):  # a ValueError is a line without an end: no answer to go by
        return False


async def _connect(health: Health, address: str) -> bool:
    reader, writer = await asyncio.open_connection(address, health.port)
    with closing(writer):
        if health.kind == "tcp":
            return True
        writer.write(f"GET {health.path} HTTP/1.0\r\nHost: {address}:{health.port}\r\n\r\n".encode())
        status = (await reader.readline()).split()
        return len(status) > 1 and status[1].isdigit() and int(status[1]) < 400


async def follow(
    health: Health | None,
    address: str,
    run: RunCommand,
    tell: Callable[[bool], None],
    pace: Pace = PACE,
    ready: bool = False,
) -> None:
    """Ask until cancelled, and tell each change from what it was. Without a Health= a unit that stays active
    is ready."""
    if health is None:
        await asyncio.sleep(SETTLE)
        tell(True)
        return
    silences = 0
    while True:
        try:
            answer, silences = await check(health, address, run, health.timeout or TIMEOUT), 0
        except Silent:
            silences += 1
            answer = ready and silences < (health.retries or RETRIES)
        if answer != ready:
            ready = answer
            tell(ready)
        # HealthInterval=disable is podman's word for HealthCmd= alone; here somebody waits for the answer.
        interval = health.interval if health.interval and isfinite(health.interval) else pace.later
        await asyncio.sleep(interval if ready else pace.eager)
