"""The endpoints socket: one line of JSON with all endpoints at once, and again at each change. Read-only.

What a balancer sees of the cluster, and all it sees: services, units, addresses, ports, readiness.
"""

import asyncio
import json
import os
from pathlib import Path

from kirsch.cluster.model import Endpoint, keys
from kirsch.cluster.registry.mirror import Mirror


class EndpointsServer:
    """Serves a mirror's endpoints on a Unix socket of mode 0600. For one event loop.

    A `shared` one lies alone in a folder that units are given, whoever they run as, so both are open to all;
    the folder above it is the owner's.
    """

    def __init__(self, mirror: Mirror, path: Path, shared: bool = False) -> None:
        self.mirror = mirror
        self.path = path
        self.shared = shared
        self._clients: set[asyncio.Event] = set()
        self._server: asyncio.Server | None = None
        mirror.listen(self._take_notice)

    async def start(self) -> None:
        """Listen on the socket."""
        if self.shared:
            self._make_folders()
        self.path.unlink(missing_ok=True)
        before = os.umask(0o111 if self.shared else 0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, self.path)
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

    def line(self) -> bytes:
        """Return the line that clients are sent now."""
        known = (Endpoint.parse(entry.value) for entry in self.mirror.held_below(keys.ENDPOINTS))
        # What has no address yet can be nobody's server.
        endpoints = [endpoint.public() for endpoint in known if endpoint.address]
        return json.dumps({"endpoints": endpoints}).encode() + b"\n"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        changed = asyncio.Event()
        self._clients.add(changed)
        gone = asyncio.create_task(reader.read(1))
        last = b""
        # Until kirschd has read the store it knows of no endpoint, which is not to say that there is none.
        known = asyncio.create_task(self.mirror.reached(1))
        try:
            await asyncio.wait((known, gone), return_when=asyncio.FIRST_COMPLETED)
            while not gone.done():
                changed.clear()
                line = self.line()
                if line != last:
                    writer.write(line)
                    await writer.drain()
                    last = line
                news = asyncio.create_task(changed.wait())
                await asyncio.wait((news, gone), return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
        except ConnectionError:
            pass
        finally:
            self._clients.discard(changed)
            known.cancel()
            gone.cancel()
            writer.close()

    def _take_notice(self, changed: frozenset[str]) -> None:
        if any(key.startswith(keys.ENDPOINTS) for key in changed):
            for client in self._clients:
                client.set()
