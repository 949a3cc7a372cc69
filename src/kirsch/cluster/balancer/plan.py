"""From the endpoints there are and the servers HAProxy has to the commands in between: pure."""

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

from kirsch.cluster.balancer.haproxy import (
    Command,
    Server,
    State,
    add_server,
    delete_server,
    enable_health,
    set_address,
    set_state,
    shutdown_sessions,
)
from kirsch.cluster.model import Endpoint

# Explicit, for a server added at run time takes nothing from `default-server`, nor HAProxy's own defaults of
# its pool: without these it would have a new connection for each request.
SERVER_OPTIONS = "check inter 500ms fall 2 rise 1 pool-max-conn -1 pool-purge-delay 5s"
DRAIN_SECONDS = 30.0


class BalancerError(Exception):
    """Why a balancer cannot run: what a person did, or has to do."""


@dataclass(frozen=True, slots=True)
class Backend:
    """A backend of HAProxy's file, and the service whose ready endpoints are its servers.

    `port` is a port's number or its name in Expose=; `role` the role that they are to have, "" for the
    one that the service's own name leads to.
    """

    name: str
    service: str
    port: str
    role: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """From BACKEND=SERVICE[/ROLE]:PORT. Raises BalancerError."""
        found = re.fullmatch(r"([\w.:-]+)=([^\s:=/]+)(?:/([a-z0-9-]+))?:([\w-]+)", text, re.ASCII)
        if not found:
            raise BalancerError(f"{text}: write a backend as BACKEND=SERVICE:PORT, as in notes=notes:8080")
        return cls(found[1], found[2], found[4], found[3] or "")

    def has(self, endpoint: Endpoint) -> bool:
        """True if the endpoint is to be one of its servers while it is ready."""
        return endpoint.service == self.service and endpoint.serves_as(self.role)

    def port_of(self, endpoint: Endpoint) -> int | None:
        """The number of the TCP port meant, None when the endpoint exposes no such port."""
        for port in endpoint.ports:
            if port.protocol == "tcp" and self.port in (str(port.number), port.name):
                return port.number
        return None


def server_name(endpoint: Endpoint) -> str:
    """`notes:1.container` for notes@1.container: HAProxy's names have no @."""
    slot = "" if endpoint.slot == "-" else f"-{endpoint.slot}"
    return re.sub(r"[^\w.:-]", "_", endpoint.unit.replace("@", ":") + slot, flags=re.ASCII)


def without_port(endpoints: Iterable[Endpoint], backends: Iterable[Backend]) -> list[str]:
    """A line for each endpoint that is passed over because it lacks the port its backend names."""
    endpoints = list(endpoints)
    return [
        f"{endpoint.unit} exposes no tcp port {backend.port}: it is no server of backend {backend.name}"
        for backend in backends
        for endpoint in endpoints
        if backend.has(endpoint) and backend.port_of(endpoint) is None
    ]


def wanted(
    endpoints: Iterable[Endpoint], backends: Iterable[Backend]
) -> dict[tuple[str, str], tuple[str, int]]:
    """A server for each ready endpoint: by backend and name, its address and port."""
    endpoints = list(endpoints)
    servers = {}
    for backend in backends:
        for endpoint in endpoints:
            port = backend.port_of(endpoint)
            if endpoint.ready and backend.has(endpoint) and port is not None:
                servers[backend.name, server_name(endpoint)] = (endpoint.address, port)
    return servers


def plan(
    endpoints: Iterable[Endpoint],
    servers: Iterable[Server],
    backends: Iterable[Backend],
    options: str = SERVER_OPTIONS,
    drain: float = DRAIN_SECONDS,
    fixed: Container[tuple[str, str]] = (),
) -> list[Command]:
    """Return the commands for HAProxy that lead to a server for each ready endpoint, and no other.

    `servers` are those of `backends` that a balancer added. One that has to go is drained first, put in
    maintenance and deleted once nothing is in flight on it. After `drain` seconds its sessions are cut, and
    at once where it answers no check: they wait in vain. That takes several rounds: plan again, until nothing
    is superfluous. Servers that HAProxy began with (`fixed`) cannot be deleted, and stay in maintenance.
    """
    target = wanted(endpoints, backends)
    present = {(server.backend, server.name): server for server in servers}
    commands = []
    for key, (address, port) in target.items():
        if key not in present:
            commands += add(*key, address, port, options)
        else:
            commands += keep(present[key], address, port)
    for key, server in present.items():
        if key not in target:
            commands += remove(server, drain, fixed=key in fixed)
    return commands


def timed(
    servers: Iterable[Server], began: Mapping[tuple[str, str], float], now: float
) -> tuple[list[Server], dict[tuple[str, str], float]]:
    """Return servers with the seconds for which each is sent no new requests, and when that began: `began`
    is what the round before has returned."""
    servers = list(servers)
    out = {(s.backend, s.name) for s in servers if s.state is not State.READY}
    since = {key: began.get(key, now) for key in out}
    return [replace(s, since=now - since.get((s.backend, s.name), now)) for s in servers], since


def superfluous(
    servers: Iterable[Server],
    target: Container[tuple[str, str]],
    fixed: Container[tuple[str, str]] = (),
) -> bool:
    """Return True while a server is still to be removed."""
    keys = {(server.backend, server.name): server.state for server in servers}
    going = {key: state for key, state in keys.items() if key not in target}
    return any(key not in fixed or state is not State.MAINTENANCE for key, state in going.items())


def add(backend: str, name: str, address: str, port: int, options: str) -> list[Command]:
    """A new server with traffic at once: HAProxy takes it for up until a check says otherwise."""
    return [
        add_server(backend, name, address, port, options),
        *([enable_health(backend, name)] if "check" in options.split() else []),
        set_state(backend, name, State.READY),
    ]


def keep(server: Server, address: str, port: int) -> list[Command]:
    """Return the commands that bring a server to its address and let traffic in."""
    commands = []
    if (server.address, server.port) != (address, port):
        commands.append(set_address(server.backend, server.name, address, port))
    if server.state is State.DRAIN:
        # Another may be at its address by now. In maintenance HAProxy closes idle connections to the one that
        # was there before; it would send requests on them, which nobody answers.
        commands.append(set_state(server.backend, server.name, State.MAINTENANCE))
    if server.state is not State.READY:
        commands.append(set_state(server.backend, server.name, State.READY))
    return commands


def remove(server: Server, drain: float, *, fixed: bool = False) -> list[Command]:
    """The next step of a server's way out."""
    if server.state is State.READY:
        return [set_state(server.backend, server.name, State.DRAIN)]
    if server.sessions:
        overdue = server.silent or server.since >= drain
        return [shutdown_sessions(server.backend, server.name)] if overdue else []
    if server.state is State.DRAIN:
        return [set_state(server.backend, server.name, State.MAINTENANCE)]
    return [] if fixed else [delete_server(server.backend, server.name)]
