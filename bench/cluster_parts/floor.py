"""What systemd alone takes for so many services: run on a machine, with its dbus-fast: `python - COUNT`.

Files written, one Reload, all started at once and waited for by JobRemoved; then stopped and removed. Prints
the seconds until all ran.
"""

import asyncio
import sys
import time
from pathlib import Path

from dbus_fast import BusType, Message
from dbus_fast.aio import MessageBus

NAME = "org.freedesktop.systemd1"
UNIT = "[Service]\nExecStart=/bin/sleep infinity\n"
FOLDER = Path("/run/systemd/system")


async def main(count: int) -> None:
    """Measure once."""
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    done: asyncio.Queue[str] = asyncio.Queue()
    await bus.call(
        Message(
            destination="org.freedesktop.DBus",
            path="/org/freedesktop/DBus",
            interface="org.freedesktop.DBus",
            member="AddMatch",
            signature="s",
            body=[f"type='signal',sender='{NAME}',member='JobRemoved'"],
        )
    )
    bus.add_message_handler(lambda m: done.put_nowait(m.body[2]) if m.member == "JobRemoved" else None)
    await call(bus, "Subscribe")
    units = [f"floor-{number}.service" for number in range(count)]
    began = time.perf_counter()
    for unit in units:
        (FOLDER / unit).write_text(UNIT)
    await call(bus, "Reload")
    await together(bus, "StartUnit", units, done)
    print(time.perf_counter() - began)
    await together(bus, "StopUnit", units, done)
    for unit in units:
        (FOLDER / unit).unlink()
    await call(bus, "Reload")


async def together(bus: MessageBus, member: str, units: list[str], done: "asyncio.Queue[str]") -> None:
    """All jobs at once, until each is done."""
    left = set(units)
    calls = asyncio.gather(*(call(bus, member, "ss", [unit, "replace"]) for unit in units))
    while left:
        left.discard(await done.get())
    await calls


async def call(bus: MessageBus, member: str, signature: str = "", body: list[str] | None = None) -> Message:
    """One call of the manager. Raises RuntimeError with what it says."""
    answer = await bus.call(
        Message(
            destination=NAME,
            path="/org/freedesktop/systemd1",
            interface=f"{NAME}.Manager",
            member=member,
            signature=signature,
            body=body or [],
        )
    )
    if answer is None or answer.error_name:
        raise RuntimeError(answer.body if answer else "no answer")
    return answer


asyncio.run(main(int(sys.argv[1])))
