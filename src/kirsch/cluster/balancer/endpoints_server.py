"""The endpoints socket: one line of JSON with all endpoints at once, and again at each change.

What a balancer sees of the cluster, and all it sees: services, units, addresses, ports, readiness. Each line
has a number. A balancer may answer with that number, in a line, once its servers are as it was told: a unit
that stops waits for that, so that no request is sent to it any more. Each line also says how often, in
seconds, a balancer is to report what its backends did.
"""

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from kirsch.cluster.balancer.report import Counts, read_report
from kirsch.cluster.model import Endpoint, keys
from kirsch.cluster.registry.mirror import Mirror
from kirsch.unit import UnitName

# Seconds for which a unit that stops waits for balancers.
PATIENCE = 2.0
# Bytes of the longest line that is read.
LONGEST = 1 << 20


@dataclass(eq=False, slots=True)
class _Client:
    """A balancer. `sent` is the number of the last line that it was sent, `applied` the one that it answered
    last; None where it does not answer."""

    changed: asyncio.Event = field(default_factory=asyncio.Event)
    line: bytes = b""
    sent: int = 0
    applied: int | None = None


class EndpointsServer:
    """Serves a mirror's endpoints on a Unix socket of mode 0600. For one event loop.

    A `shared` one lies alone in a folder that units are given, whoever they run as, so both are open to all;
    the folder above it is the owner's.
    """

    def __init__(self, mirror: Mirror, path: Path, shared: bool = False) -> None:
        self.mirror = mirror
        self.path = path
        self.shared = shared
        # Told of each report; seconds between two of a balancer's.
        self.on_report: Callable[[str, Counts], None] | None = None
        self.report_interval = 0.0
        self._clients: set[_Client] = set()
        self._number = 0
        # Set, and made anew, when a client has answered or endpoints have changed.
        self._news = asyncio.Event()
        self._server: asyncio.Server | None = None
        mirror.listen(self._take_notice)

    async def start(self) -> None:
        """Listen on the socket."""
        if self.shared:
            self._make_folders()
        self.path.unlink(missing_ok=True)
        before = os.umask(0o111 if self.shared else 0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, self.path, limit=LONGEST)
        finally:
            os.umask(before)

    async def close(self) -> None:
        """Stop listening and let the clients go."""
        if self._server:
            self._server.close()
            self.path.unlink(missing_ok=True)

    def _make_folders(self) -> None:
        """A folder that is there stays: units have it mounted."""
        folder, above = self.path.parent, self.path.parent.parent
        above.mkdir(mode=0o700, exist_ok=True)
        above.chmod(0o700)
        folder.mkdir(mode=0o755, exist_ok=True)
        folder.chmod(0o755)

    async def let_go(self, unit: UnitName, machine: str) -> None:
        """Return once no balancer here sends anything to a machine's unit, or after a while."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while self._serves(unit, machine) or any(map(self._is_behind, self._clients)):
                    await self._news.wait()

    def _serves(self, unit: UnitName, machine: str) -> bool:
        known = (Endpoint.parse(entry.value) for entry in self.mirror.held_below(keys.ENDPOINTS))
        return any(e.ready and (e.unit, e.machine) == (unit.text, machine) for e in known)

    def _is_behind(self, client: _Client) -> bool:
        """True for a client that answers, and has not yet to what is known now."""
        if client.applied is None:
            return False
        return client.applied < client.sent or client.line != self.line()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def line(self) -> bytes:
        """Return the endpoints that clients are sent now."""
        known = (Endpoint.parse(entry.value) for entry in self.mirror.held_below(keys.ENDPOINTS))
        # What has no address yet can be nobody's server.
        endpoints = [endpoint.public() for endpoint in known if endpoint.address]
        return json.dumps(endpoints).encode()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = _Client()
        self._clients.add(client)
        gone = asyncio.create_task(self._listen(reader, client))
        # Until kirschd has read the store it knows of no endpoint, which is not to say that there is none.
        known = asyncio.create_task(self.mirror.reached(1))
        try:
            await asyncio.wait((known, gone), return_when=asyncio.FIRST_COMPLETED)
            while not gone.done():
                client.changed.clear()
                line = self.line()
                if line != client.line:
                    self._number += 1
                    client.line, client.sent = line, self._number
                    answer = (client.sent, self.report_interval, line)
                    writer.write(b'{"number": %d, "figures": %g, "endpoints": %s}\n' % answer)
                    await writer.drain()
                news = asyncio.create_task(client.changed.wait())
                await asyncio.wait((news, gone), return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
        except ConnectionError:
            pass
        finally:
            self._clients.discard(client)
            self._tell()
            known.cancel()
            gone.cancel()
            writer.close()

    async def _listen(self, reader: asyncio.StreamReader, client: _Client) -> None:
        """Take a client's answers until it goes, or says what is none."""
        with suppress(ValueError, ConnectionError):  # a line too long, or a client that was killed
            while answer := await reader.readline():
                if answer.startswith(b"{"):
                    self._take_report(answer)
                else:
                    client.applied = max(int(answer), client.applied or 0)
                    self._tell()

    def _take_report(self, line: bytes) -> None:
        """Pass a balancer's report on. Raises ValueError where it is none."""
        unit, counts = read_report(line)
        if self.on_report is not None:
            self.on_report(unit, counts)

    def _take_notice(self, changed: frozenset[str]) -> None:
        if any(key.startswith(keys.ENDPOINTS) for key in changed):
            for client in self._clients:
                client.changed.set()
            self._tell()
