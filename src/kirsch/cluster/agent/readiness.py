"""Readiness and roles of units: each one's checks are made again and again, at its own address."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from math import isfinite

from kirsch.cluster.runtime.base import Runtime
from kirsch.unit import Health, Options, Role, UnitName

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


@dataclass(frozen=True, slots=True)
class Condition:
    """Last answer of a unit's checks: `role` is the role it has, "" for none."""

    ready: bool = False
    role: str = ""


UNREADY = Condition()


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


async def ask(health: Health, roles: Sequence[Role], address: str, run: RunCommand) -> Condition:
    """Make a unit's checks once: of its roles it has the first that says so, while it is ready.

    Raises Silent.
    """
    timeout = health.timeout or TIMEOUT
    if not await check(health, address, run, timeout):
        return UNREADY
    for role in roles:
        if await check(role.check, address, run, timeout):
            return Condition(True, role.name)
    return Condition(True)


async def follow(
    health: Health | None,
    address: str,
    run: RunCommand,
    tell: Callable[[Condition], None],
    pace: Pace = PACE,
    known: Condition = UNREADY,
    roles: Sequence[Role] = (),
) -> None:
    """Ask until cancelled, and tell each change from what is known. Without a Health= a unit that stays
    active is ready."""
    if health is None:
        await asyncio.sleep(SETTLE)
        tell(Condition(True))
        return
    silences = 0
    while True:
        try:
            answer, silences = await ask(health, roles, address, run), 0
        except Silent:
            silences += 1
            answer = known if silences < (health.retries or RETRIES) else UNREADY
        if answer != known:
            known = answer
            tell(known)
        # HealthInterval=disable is podman's word for HealthCmd= alone; here somebody waits for the answer.
        interval = health.interval if health.interval and isfinite(health.interval) else pace.later
        waited_for = not known.ready or (roles and not known.role)
        await asyncio.sleep(min(pace.eager, interval) if waited_for else interval)


class Readiness:
    """Asks each serving unit's Health= in a task of its own."""

    def __init__(self, runtime: Runtime, changed: Callable[[], None]) -> None:
        self.runtime = runtime
        self.changed = changed
        self._tasks: dict[UnitName, asyncio.Task[None]] = {}
        self._conditions: dict[UnitName, Condition] = {}

    def serves(self, name: UnitName) -> bool:
        """True if the unit is active, and not on its way out."""
        return name in self._tasks

    def condition(self, name: UnitName) -> Condition:
        """Return what the unit's checks said last."""
        return self._conditions.get(name, UNREADY)

    def enter(self, name: UnitName, options: Options, address: str, known: Condition = UNREADY) -> None:
        """The unit became active, or is found so and was in a `known` condition: ask after it from now on."""
        if name not in self._tasks:
            self._conditions[name] = known
            self._tasks[name] = asyncio.create_task(
                self._follow(name, options, address), name=f"health {name}"
            )

    def leave(self, name: UnitName) -> None:
        """The unit is no longer active, or is about to stop."""
        self._conditions.pop(name, None)
        if task := self._tasks.pop(name, None):
            task.cancel()

    async def _follow(self, name: UnitName, options: Options, address: str) -> None:
        async def run(command: Sequence[str], timeout: float) -> int:
            return await self.runtime.run(name, command, timeout)

        def tell(condition: Condition) -> None:
            self._conditions[name] = condition
            self.changed()

        checks = [role.check for role in options.roles] + ([options.health] if options.health else [])
        boxed = options.boxed or (self.runtime.durable and name.type == "container")
        costly = boxed and any(check.kind == "command" for check in checks)
        pace = IN_CONTAINER if costly else PACE
        await follow(options.health, address, run, tell, pace, self.condition(name), options.roles)
