"""A kirschd as plugins on a CherryPy bus, wherever it runs."""

import asyncio
import concurrent.futures
import logging
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cherrypy
from cherrypy.process.plugins import SimplePlugin

from kirsch.bus import AsyncioPlugin, MetricsPlugin, NotifyPlugin
from kirsch.cluster.api import away, fleet, kirsch
from kirsch.cluster.api.answers import CONFIG
from kirsch.cluster.api.peers import Peers
from kirsch.cluster.api.resource import Api
from kirsch.cluster.api.streams import Streams
from kirsch.cluster.model import keys
from kirsch.cluster.model.certificates import Certificates
from kirsch.cluster.node.audit import AuditLog
from kirsch.cluster.node.backup import Nightly
from kirsch.cluster.node.metrics import ClusterCollector, NodeCollector, reconcile_times
from kirsch.cluster.node.node import Node
from kirsch.cluster.registry.base import RegistryError, Unavailable


class DaemonError(Exception):
    """Why kirschd cannot run here: one line."""


@dataclass(frozen=True, slots=True)
class Setup:
    """Differences between kirschd on a machine and the embedded one."""

    make: Callable[[], Awaitable[Node]]  # opens registry and runtime, and raises what they raise
    socket: Path  # of the API
    # One machine of several: it waits for a store that is away, and leaves its units running when it ends.
    member: bool = False
    # The API over TCP.
    listen: tuple[str, int] | None = None
    tls: ssl.SSLContext | None = None
    # For requests to other machines.
    certificates: Certificates | None = None
    # Changes that were asked for over the API; None: nobody else can ask here.
    audit: AuditLog | None = None
    # What goes on as long as the machine is in the cluster.
    upkeep: Callable[[Node], Coroutine[Any, Any, None]] | None = None
    # What goes on as soon as the machine has a node, whether or not the store is there.
    seek: Callable[[Node], Coroutine[Any, Any, None]] | None = None
    # Those that `upkeep` makes, for metrics of their age.
    backups: Nightly | None = None


log = logging.getLogger(__name__)

RETRY = 1.0
# How often the service manager is asked to wait longer, in seconds.
PATIENCE = 10.0
# Seconds that the event loop has to tell its metrics; Prometheus waits for ten.
METRICS_TIMEOUT = 8.0


class NodePlugin(SimplePlugin):
    """Opens a node once the loop runs, closes it before everything else stops.

    An embedded one is open when `start` returns, or an error is raised. A member of a cluster joins when the
    store is there; `joined` says when there is something to tell of the cluster.
    """

    def __init__(
        self,
        bus: Any,
        loop: AsyncioPlugin,
        setup: Setup,
        notify: NotifyPlugin,
        died: Callable[[], None],
    ) -> None:
        super().__init__(bus)
        self.loop = loop
        self.setup = setup
        self.notify = notify
        self.died = died
        self.joined: concurrent.futures.Future[Node] = concurrent.futures.Future()
        self.failure: DaemonError | None = None
        self._node: Node | None = None
        self._closing = asyncio.Lock()
        self._joining: concurrent.futures.Future[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def current(self) -> Node | None:
        """Return the node once this machine has joined."""
        return self.joined.result() if self.joined.done() else None

    def start(self) -> None:
        """Open the node, unless that was done before the bus started, where an error is one line."""
        if self._joining is not None:
            return
        self._joining = self.loop.submit(self._join() if self.setup.member else self._open())
        if not self.setup.member:
            self._joining.result()

    start.priority = 30  # type: ignore[attr-defined]

    def stop(self) -> None:
        joining, self._joining = self._joining, None
        if joining is not None:
            joining.cancel()
            self.loop.run(self._close())

    # The API stays until the units have stopped, for whoever wants to see them stop.
    stop.priority = 10  # type: ignore[attr-defined]

    async def _join(self) -> None:
        waiting = asyncio.create_task(self._wait_aloud())
        try:
            while True:
                try:
                    await self._open()
                    break
                except Unavailable as error:
                    log.info("the store is away: %s", error)
                    await asyncio.sleep(RETRY)
        except (OSError, RegistryError, DaemonError) as error:
            self.failure = DaemonError(f"this machine cannot join: {error}")
            self.died()
        except Exception:
            log.critical("this machine cannot join", exc_info=True)
            self.failure = DaemonError("this machine cannot join; the lines before say why")
            self.died()
        finally:
            waiting.cancel()

    async def _open(self) -> None:
        node = await self.setup.make()
        self._node = node
        try:
            await node.start(self.died)
            if self.setup.seek is not None:
                self._tasks.append(asyncio.create_task(self.setup.seek(node)))
            await node.mirror.reached(1)
        except BaseException:
            await self._close()
            raise
        self._tasks.append(asyncio.create_task(node.sampler.run()))
        self.joined.set_result(node)
        if not self.setup.member:
            return
        while keys.machine(node.machine.id) not in node.mirror.entries:
            await node.mirror.reached(node.mirror.revision + 1)
        log.info("machine %s is in the cluster", node.machine.id)
        self.notify.status("in the cluster")
        self.notify.release()
        if self.setup.upkeep is not None:
            self._tasks.append(asyncio.create_task(self.setup.upkeep(node)))

    async def _wait_aloud(self) -> None:
        """Say what is waited for, and have the service manager wait too."""
        await asyncio.sleep(RETRY)
        self.notify.status("waits for the store, to join the cluster")
        log.warning("the store is away: this machine joins the cluster when it is back")
        while True:
            self.notify.extend(2 * PATIENCE)
            await asyncio.sleep(PATIENCE)

    async def _close(self) -> None:
        async with self._closing:
            node, self._node = self._node, None
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if node is not None:
                await node.close()


class ApiPlugin(SimplePlugin):
    """Mounts the API once there is a node; before, whoever asks is told that the store is away."""

    def __init__(
        self, bus: Any, loop: AsyncioPlugin, node: NodePlugin, setup: Setup, stop: Callable[[], None]
    ) -> None:
        super().__init__(bus)
        self.node = node
        self.setup = setup
        self.stop_bus = stop
        self.loop = loop
        self.metrics = MetricsPlugin(bus)

    def start(self) -> None:
        away.mount(cherrypy.tree)
        self.metrics.subscribe()
        self.metrics.mount(cherrypy.tree)
        self.node.joined.add_done_callback(self._mount)

    start.priority = 40  # type: ignore[attr-defined]

    def _mount(self, joined: "concurrent.futures.Future[Node]") -> None:
        node = joined.result()
        peers = Peers(self.setup.certificates)
        if self.setup.member:
            node.agent.let_go = partial(peers.let_go, node)
        api = Api(
            node,
            self.loop,
            Streams(self.bus, self.loop),
            peers,
            self.setup.member,
            self.stop_bus,
            self.setup.audit,
        )
        self.metrics.add(ClusterCollector(node.cluster))
        ask = partial(self.loop.run, timeout=METRICS_TIMEOUT)
        self.metrics.add(NodeCollector(node, ask, self.setup.backups))
        node.engine.reconciled = reconcile_times(self.metrics.registry)
        cherrypy.tree.mount(kirsch.tree(api), "/kirsch/v1", {"/": CONFIG})
        cherrypy.tree.mount(fleet.tree(api), "/fleet/v1", {"/": fleet.CONFIG})
