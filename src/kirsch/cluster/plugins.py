"""The parts of kirschd on its bus: the node in the event loop, the API over HTTP."""

from collections.abc import Awaitable, Callable
from typing import Any

import cherrypy
from cherrypy.process.plugins import SimplePlugin

from kirsch.bus import AsyncioPlugin, MetricsPlugin
from kirsch.cluster.api import fleet, kirsch
from kirsch.cluster.api.answers import CONFIG
from kirsch.cluster.api.streams import Streams
from kirsch.cluster.metrics import ClusterCollector, reconcile_times
from kirsch.cluster.node import Node


class NodePlugin(SimplePlugin):
    """Opens a node once the loop runs, closes it (which stops its units) before everything else stops."""

    def __init__(
        self, bus: Any, loop: AsyncioPlugin, make: Callable[[], Awaitable[Node]], died: Callable[[], None]
    ) -> None:
        super().__init__(bus)
        self.died = died
        self.loop = loop
        self.make = make
        self.node: Node | None = None

    def start(self) -> None:
        """Open the node, unless that was done before the bus started, where an error is one line."""
        if self.node is None:
            self.node = self.loop.run(self._open())

    start.priority = 30  # type: ignore[attr-defined]

    def stop(self) -> None:
        node, self.node = self.node, None
        if node is not None:
            self.loop.run(node.close())

    # The API stays until the units have stopped, for whoever wants to see them stop.
    stop.priority = 10  # type: ignore[attr-defined]

    async def _open(self) -> Node:
        node = await self.make()
        try:
            await node.start(self.died)
        except BaseException:
            await node.close()
            raise
        return node


class ApiPlugin(SimplePlugin):
    """Mounts the API once there is a node, ends its streams when the node is gone."""

    def __init__(self, bus: Any, loop: AsyncioPlugin, node: NodePlugin, stop: Callable[[], None]) -> None:
        super().__init__(bus)
        self.node = node
        self.stop_bus = stop
        self.loop = loop
        self.streams = Streams(loop)

    def start(self) -> None:
        node = self.node.node
        if node is None:
            return
        kirsch_tree = kirsch.tree(node, self.loop, self.streams, self.stop_bus)
        cherrypy.tree.mount(kirsch_tree, "/kirsch/v1", {"/": CONFIG})
        metrics = MetricsPlugin(self.bus)
        metrics.add(ClusterCollector(node.cluster))
        node.engine.reconciled = reconcile_times(metrics.registry)
        metrics.subscribe()
        metrics.mount(cherrypy.tree)
        fleet_tree = fleet.tree(node, self.loop, self.streams)
        cherrypy.tree.mount(fleet_tree, "/fleet/v1", {"/": fleet.CONFIG})

    start.priority = 40  # type: ignore[attr-defined]

    def stop(self) -> None:
        self.streams.close()

    stop.priority = 20  # type: ignore[attr-defined]
