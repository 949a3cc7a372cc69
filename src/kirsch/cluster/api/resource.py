"""Base of every resource of both APIs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import cherrypy

from kirsch.bus import AsyncioPlugin
from kirsch.cluster.api.answers import json_answer
from kirsch.cluster.api.peers import Peers
from kirsch.cluster.api.streams import Streams
from kirsch.cluster.engine.status import Overview
from kirsch.cluster.node.audit import AuditLog
from kirsch.cluster.node.node import Node


@dataclass(frozen=True, slots=True)
class Api:
    """Environment of the APIs: this machine's node, its event loop, and the other machines' APIs.

    `member`: this is one machine of several. `stop` ends this kirschd.
    """

    node: Node
    loop: AsyncioPlugin
    streams: Streams
    peers: Peers
    member: bool
    stop: Callable[[], None]
    audit: AuditLog | None = None
    overview: Overview = field(default_factory=Overview)


@dataclass
class Resource:
    """A thing with a URL: its methods are HTTP's (CherryPy's MethodDispatcher)."""

    api: Api
    exposed: bool = field(default=True, init=False)

    @property
    def node(self) -> Node:
        """Node of this machine."""
        return self.api.node

    @property
    def loop(self) -> AsyncioPlugin:
        """Event loop of the node."""
        return self.api.loop

    def read_answer(self, value: dict[str, Any]) -> bytes:
        """Answer with what is known of the cluster, and from when that is while the store is away."""
        as_of = stale_since(self.node)
        return json_answer(value | {"asOf": as_of} if as_of else value)


def stale_since(node: Node) -> str:
    """Return when the store answered last (RFC 3339, UTC), and set the header; empty while it answers."""
    seconds = node.as_of()
    if seconds is None:
        return ""
    as_of = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    cherrypy.response.headers["Kirsch-As-Of"] = as_of
    return as_of


Item = TypeVar("Item", bound=Resource)


class Collection(Resource, Generic[Item]):
    """A resource with others below it, one a name: /units/notes@1.container is that of /units."""

    def item(self, name: str) -> Item:
        """The resource of that name; whether there is such a thing is its to say."""
        raise NotImplementedError

    def _cp_dispatch(self, vpath: list[str]) -> Item:
        return self.item(vpath.pop(0))
