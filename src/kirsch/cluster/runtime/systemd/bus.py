"""systemd's manager over D-Bus (org.freedesktop.systemd1(5)): calls, jobs, and what its signals tell.

The connection is made again when it is lost; a new owner of the manager's name (a systemd that executed
itself anew) counts as a new connection.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from dbus_fast import AuthError, Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.unpack import unpack_variants

SYSTEMD = "org.freedesktop.systemd1"
MANAGER = f"{SYSTEMD}.Manager"
UNIT = f"{SYSTEMD}.Unit"
PROPERTIES = "org.freedesktop.DBus.Properties"
MANAGER_PATH = "/org/freedesktop/systemd1"
UNIT_PATHS = f"{MANAGER_PATH}/unit"
BUS = "org.freedesktop.DBus"

_MATCHES = (
    f"type='signal',sender='{SYSTEMD}',interface='{PROPERTIES}',member='PropertiesChanged',"
    f"path_namespace='{UNIT_PATHS}'",
    f"type='signal',sender='{SYSTEMD}',interface='{MANAGER}',member='JobRemoved'",
    f"type='signal',sender='{SYSTEMD}',interface='{MANAGER}',member='UnitNew'",
    f"type='signal',sender='{SYSTEMD}',interface='{MANAGER}',member='Reloading'",
    f"type='signal',sender='{BUS}',interface='{BUS}',member='NameOwnerChanged',arg0='{SYSTEMD}'",
)
CONNECT_TIMEOUT = 10.0  # seconds, for one attempt
# Calls without an answer: dbus-daemon takes at most 128 of a connection (max_replies_per_connection).
IN_FLIGHT = 100
# Bytes of such calls. Linux gives a Unix socket 212,992 bytes, and counts a message larger than it is.
BUFFER, OVERHEAD = 100_000, 1_000
PATIENCE = 30.0  # seconds a call waits for a connection that is being made anew
ATTEMPTS = 3  # of a call
DELAYS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # seconds between attempts; the last is kept

# What does something each time it is called.
_ONCE = frozenset({"StartUnit", "StopUnit", "ReloadUnit", "StartTransientUnit", "KillUnit"})
# What the bus answers in place of a systemd that is not there just now.
_GONE = frozenset(f"{BUS}.Error.{name}" for name in ("NoReply", "ServiceUnknown", "NameHasNoOwner"))

log = logging.getLogger(__name__)


class BusError(Exception):
    """systemd's refusal in its own words; `name` is the D-Bus error's."""

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class BusLost(BusError):
    """The connection was lost, or cannot be had: whether the call was heard is not known."""


class Listener(Protocol):
    """Receiver of systemd's signals, in the event loop, in their order."""

    def changed(self, path: str, interface: str, values: Mapping[str, Variant]) -> None:
        """Properties of a unit have changed."""

    def appeared(self, unit: str) -> None:
        """systemd has loaded a unit into memory, at each of its reloads again. What has changed of it until
        then it does not tell of."""

    def reloaded(self) -> None:
        """systemd has read all unit files anew, whoever asked for it."""

    async def joined(self) -> None:
        """The connection is there (anew): whatever was known may be out of date. May call, not wait for jobs.
        Raises BusError."""


class SystemdBus:
    """A connection to the system bus at the Unix socket `path`, for one event loop."""

    def __init__(self, path: Path, listener: Listener) -> None:
        self._path = path
        self._listener = listener
        self._bus: MessageBus | None = None
        self._ready = asyncio.Event()
        self._joining = False
        self._closing = False
        self._owner = ""
        self._again = asyncio.Event()
        self._room = _Room()
        self._task: asyncio.Task[None] | None = None
        self.jobs = Jobs()

    async def open(self) -> None:
        """Connect, and tell the listener `joined`. Raises BusError."""
        await self._connect()
        self._task = asyncio.create_task(self._stay_connected(), name="systemd's bus")

    async def close(self) -> None:
        """Let go of the connection; calls under way raise BusLost."""
        self._closing = True
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._disconnect("it is closed")

    async def manager(self, member: str, signature: str = "", *body: Any) -> list[Any]:
        """Call a method of the manager: what it returns. Raises BusError."""
        return await self.call(MANAGER_PATH, MANAGER, member, signature, *body)

    async def property(self, path: str, interface: str, name: str) -> Any:
        """One property of a unit. Raises BusError."""
        return (await self.call(path, PROPERTIES, "Get", "ss", interface, name))[0]

    async def properties(self, path: str, interface: str) -> dict[str, Any]:
        """All properties of an interface. Raises BusError."""
        found: dict[str, Any] = (await self.call(path, PROPERTIES, "GetAll", "s", interface))[0]
        return found

    async def variants(self, path: str, interface: str) -> dict[str, Variant]:
        """All properties of an interface, with their types. Raises BusError."""
        found: dict[str, Variant] = (await self._call(path, PROPERTIES, "GetAll", "s", interface))[0]
        return found

    async def call(
        self, path: str, interface: str, member: str, signature: str = "", *body: Any
    ) -> list[Any]:
        """Call a method of systemd's; wait while the connection is made anew. Raises BusError."""
        unpacked: list[Any] = unpack_variants(await self._call(path, interface, member, signature, *body))
        return unpacked

    async def _call(
        self, path: str, interface: str, member: str, signature: str = "", *body: Any
    ) -> list[Any]:
        """Call a method; where calling twice is harmless, call again after a lost connection."""
        for again in range(ATTEMPTS, 0, -1):
            await self._connected()
            try:
                return await self._ask(SYSTEMD, path, interface, member, signature, *body)
            except BusLost:
                if again == 1 or member in _ONCE or self._joining or self._closing:
                    raise
        raise AssertionError  # the last attempt returns or raises

    async def _connected(self) -> None:
        if self._ready.is_set() or self._joining:
            return
        if self._closing:
            raise BusLost("the connection to systemd is closed")
        try:
            async with asyncio.timeout(PATIENCE):
                await self._ready.wait()
        except TimeoutError:
            raise BusLost(f"systemd cannot be reached over D-Bus ({self._path})") from None

    async def _ask(
        self, destination: str, path: str, interface: str, member: str, signature: str = "", *body: Any
    ) -> list[Any]:
        message = Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
        )
        async with self._room.reserve(body):
            bus = self._bus
            if bus is None:
                raise BusLost("the connection to systemd is lost")
            try:
                reply: Message | None = await bus.call(message)
            except Exception as error:  # whatever ended the connection: EOFError, OSError, AttributeError
                reply, reason = None, f": {error or type(error).__name__}"
            else:
                reason = ""
        if reply is None:
            if bus is self._bus:
                self._is_lost()
            raise BusLost(f"the connection to systemd is lost{reason}")
        if reply.message_type is MessageType.ERROR:
            text, name = str(reply.body[0]) if reply.body else str(reply.error_name), reply.error_name or ""
            if name in _GONE:
                self._is_lost()
                raise BusLost(f"systemd does not answer over D-Bus: {text}", name)
            raise BusError(text, name)
        answer: list[Any] = reply.body
        return answer

    # The connection

    async def _connect(self) -> None:
        """Connect and have the listener look around. Raises BusError."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                self._bus = await MessageBus(bus_address=f"unix:path={_escaped(self._path)}").connect()
        except (OSError, TimeoutError, AuthError, EOFError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise BusLost(f"cannot reach systemd over D-Bus at {self._path}: {reason}") from None
        self._bus.add_message_handler(self._received)
        self._again.clear()
        for match in _MATCHES:
            await self._ask(BUS, "/org/freedesktop/DBus", BUS, "AddMatch", "s", match)
        await self._join()

    async def _join(self) -> None:
        """Hear of systemd's signals from now on, and see how everything stands. Raises BusError."""
        self._joining = True
        try:
            owner = await self._ask(BUS, "/org/freedesktop/DBus", BUS, "GetNameOwner", "s", SYSTEMD)
            self._owner = owner[0]
            try:
                await self._ask(SYSTEMD, MANAGER_PATH, MANAGER, "Subscribe")
            except BusError as error:
                if not error.name.endswith(".AlreadySubscribed"):
                    raise
            await self._listener.joined()
            self._ready.set()
        finally:
            self._joining = False

    async def _stay_connected(self) -> None:
        """Reconnect whenever the connection is lost, until closed."""
        while True:
            await self._lost()
            self._ready.clear()
            self._disconnect("it was lost")
            log.warning("the connection to systemd is lost; it is made anew")
            attempt = 0
            while True:
                try:
                    await self._connect()
                    break
                except BusError as error:
                    self._disconnect(str(error))
                    log.debug("%s", error)
                await asyncio.sleep(DELAYS[min(attempt, len(DELAYS) - 1)])
                attempt += 1
            log.info("systemd is reached again")

    async def _lost(self) -> None:
        """Wait until the connection ends, or systemd's name has another owner."""
        if self._bus is None:
            return
        waits = [
            asyncio.ensure_future(self._bus.wait_for_disconnect()),  # type: ignore[no-untyped-call]
            asyncio.ensure_future(self._again.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def _is_lost(self) -> None:
        """Calls wait from now on until the connection has been made anew."""
        self._ready.clear()
        self._again.set()

    def _disconnect(self, reason: str) -> None:
        bus, self._bus = self._bus, None
        if bus is not None:
            bus.disconnect()
        self.jobs.lose(reason)

    # Signals

    def _received(self, message: Message) -> bool | None:
        if message.message_type is not MessageType.SIGNAL:
            return None
        body = message.body
        match message.member:
            case "PropertiesChanged" if message.path is not None:
                self._listener.changed(message.path, body[0], body[1])
            case "JobRemoved":
                self.jobs.removed(body[1], body[3])
            case "UnitNew":
                self._listener.appeared(body[0])
            case "Reloading" if not body[0]:
                self._listener.reloaded()
            case "NameOwnerChanged" if body[0] == SYSTEMD and body[2] != self._owner:
                self._again.set()
            case _:
                return None
        return True


class _Room:
    """Bound on the calls without an answer, in their order.

    dbus-fast (5.2) takes a full socket for a lost connection, so calls under way must fit into the socket's
    buffer. A call that is larger than BUFFER goes alone, in parts.
    """

    def __init__(self) -> None:
        self._bytes = 0
        self._calls = 0
        self._turn = asyncio.Lock()
        self._answered = asyncio.Event()

    @asynccontextmanager
    async def reserve(self, body: Sequence[Any]) -> AsyncIterator[None]:
        """Wait for room for a call with this body, and keep it until the call is answered."""
        size = min(OVERHEAD + len(repr(body)), BUFFER)
        async with self._turn:
            while self._bytes + size > BUFFER or self._calls >= IN_FLIGHT:
                self._answered.clear()
                await self._answered.wait()
            self._bytes += size
            self._calls += 1
        try:
            yield
        finally:
            self._bytes -= size
            self._calls -= 1
            self._answered.set()


class Jobs:
    """Results of systemd's jobs: JobRemoved may come before the reply that names the job is looked at."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[asyncio.Future[str]]] = {}
        self._results: dict[str, str] = {}
        self._calls = 0

    async def run(self, call: Callable[[], Any], accepted: Callable[[], None] | None = None) -> str:
        """Make a `call` that returns a job's path, and wait for the job's result: done, failed, canceled,
        timeout, dependency, skipped, or one of the others that systemd has. Raises BusError."""
        self._calls += 1
        try:
            path = (await call())[0]
            if accepted:
                accepted()
            if path in self._results:
                return self._results[path]
            future = self._wait(path)
        finally:
            self._calls -= 1
            if not self._calls:
                self._results.clear()
        return await future

    async def result(self, path: str) -> str:
        """The result of a job that is known to be under way. Raises BusLost."""
        return await self._wait(path)

    def removed(self, path: str, result: str) -> None:
        """Settle a job by its JobRemoved signal."""
        for future in self._waiting.pop(path, ()):
            if not future.done():
                future.set_result(result)
        if self._calls:
            self._results[path] = result

    def lose(self, reason: str) -> None:
        """No signal will come: whoever waits is told."""
        waiting, self._waiting = self._waiting, {}
        self._results.clear()
        for futures in waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(BusLost(f"the connection to systemd: {reason}"))

    def _wait(self, path: str) -> "asyncio.Future[str]":
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(path, []).append(future)
        return future


def unit_path(unit: str) -> str:
    """The object of a unit: all but letters and digits, and a leading digit, as _ and two hexadecimals."""
    escaped = []
    for index, byte in enumerate(unit.encode()):
        character = chr(byte)
        plain = byte < 0x80 and character.isalnum() and not (index == 0 and character.isdecimal())
        escaped.append(character if plain else f"_{byte:02x}")
    return f"{UNIT_PATHS}/{''.join(escaped)}"


def states_of(listed: Sequence[Sequence[Any]]) -> dict[str, tuple[str, str, str]]:
    """(load, active, sub) of each unit, from what ListUnitsByNames returns."""
    return {each[0]: (each[2], each[3], each[4]) for each in listed}


def _escaped(path: Path) -> str:
    """A path in a D-Bus address (D-Bus specification, "Server Addresses")."""
    plain = frozenset(b"-0123456789_/.ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz\\*")
    return "".join(chr(byte) if byte in plain else f"%{byte:02x}" for byte in str(path).encode())
