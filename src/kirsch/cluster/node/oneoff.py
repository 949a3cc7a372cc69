"""One-off commands (`kirsch run`, `kirsch exec`): as whom, where and with which variables they run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from kirsch.bus.process.command import Command
from kirsch.cluster.model import Cluster, Endpoint, links
from kirsch.cluster.node.node import Node
from kirsch.cluster.node.units import Refused
from kirsch.cluster.secrets import Secrets, variable
from kirsch.unit import Link, UnitName

# What a command that is no unit's is called in its links' ALIAS_NAME.
NOBODY = UnitName.parse("run.service")
POSTGRES_PORT = 5432


@dataclass(frozen=True, slots=True)
class Context:
    """Context in which a command runs; `directory`, `user`, `group`, `umask` are None where they are the
    caller's.

    `secrets` names those of the variables that nobody else is to see. `hosts` are names that links give,
    `dns` is who is asked for others. Of a unit whose processes run in a container `container` is what makes
    another such: podman's arguments, the image last; empty for others."""

    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str | None = None
    user: str | None = None
    group: str | None = None
    umask: int | None = None
    nice: int = 0
    limits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    hosts: Mapping[str, str] = field(default_factory=dict)
    dns: str = ""
    container: tuple[str, ...] = ()

    @classmethod
    def of(cls, command: Command) -> "Context":
        """Return the context that a runtime gives a unit's commands."""
        return cls(
            dict(command.environment or {}),
            command.directory,
            command.user,
            command.group,
            command.umask,
            command.nice,
            command.limits,
        )


async def running(node: Node, name: UnitName) -> Context:
    """Return the context of a running unit's processes. Raises Refused (404, 409), ChildError."""
    if name not in node.cluster().units:
        raise Refused(404, f"there is no unit {name}")
    command = await node.runtime.context(name)
    if command is None:
        raise Refused(409, f"{name} does not run: start it, or use `kirsch run {name} COMMAND`")
    return Context.of(command)


async def prepared(node: Node, name: UnitName | None, linked: Sequence[Link]) -> Context:
    """Return the context that a new process of a unit would have, nothing where no unit is named, and the
    variables of links.

    Raises Refused (404, 409), UnitError, ChildError, RegistryError, OSError.
    """
    cluster = node.cluster()
    context = Context() if name is None else await _of_unit(node, cluster, name)
    variables: dict[str, str] = {}
    secrets = {context.environment[each] for each in context.secrets}
    for link in linked:
        # Of two databases the first is the one that psql opens.
        given, values = await link_variables(cluster, name or NOBODY, link, node.secrets)
        variables, secrets = given | variables, secrets | values
    environment = {**context.environment, **variables}
    return replace(
        context,
        environment=environment,
        secrets=tuple(sorted(each for each, value in environment.items() if value in secrets)),
        hosts=links.hosts(linked, cluster.endpoints),
        dns=node.names.address if node.names is not None else "",
    )


async def link_variables(
    cluster: Cluster, unit: UnitName, link: Link, kept: Secrets
) -> tuple[dict[str, str], set[str]]:
    """Return what a person's link gives: docker's variables, the target's secrets among its ALIAS_ENV_…, and
    if it is a PostgreSQL what its clients open it by; and which values are secret. Raises Refused (404, 409),
    SecretError."""
    # One that was destroyed may serve until it has stopped.
    there = [each for each in cluster.endpoints if UnitName.parse(each.unit) in cluster.units]
    found = links.endpoints_of(link, there)
    if not found and not any(links.targets(link, name) for name in cluster.units):
        raise Refused(404, f"there is no unit or service {link.target} to link to")
    endpoint = next((endpoint for endpoint in found if endpoint.ready), None)
    if endpoint is None:
        raise Refused(409, f"{link.text} is not ready: `kirsch why` says what it waits for")
    options = cluster.units[UnitName.parse(endpoint.unit)].options
    secrets = {e.env: variable(e.name, await kept.get(e.name)) for e in options.secrets if e.env}
    users: dict[str, str] = {}
    for each in options.secrets:
        login = kept.login(each.name)
        if login and endpoint.env.get("POSTGRES_USER") == login.owner:
            users["POSTGRES_USER"] = login.role
            # A database that has no name of its own has the owner's.
            users["POSTGRES_DB"] = endpoint.env.get("POSTGRES_DB", login.owner)
    known = replace(endpoint, env={**endpoint.env, **secrets, **users})
    endpoints = [known if other is endpoint else other for other in there]
    given = links.variables(unit, [link], endpoints) | postgres_variables(known, secrets)
    return given, set(secrets.values())


def postgres_variables(endpoint: Endpoint, secrets: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that psql and all users of libpq read (PostgreSQL's documentation, "Environment
    Variables"), of an endpoint with PostgreSQL's port or the variables of its official image; nothing of any
    other. Pure."""
    ports = [port.number for port in endpoint.ports if port.protocol == "tcp"]
    named = any(name.startswith("POSTGRES_") for name in endpoint.env)
    if not ports or not (named or POSTGRES_PORT in ports):
        return {}
    user = endpoint.env.get("POSTGRES_USER", "postgres")
    variables = {
        "PGHOST": endpoint.address,
        "PGPORT": str(POSTGRES_PORT if POSTGRES_PORT in ports else ports[0]),
        "PGUSER": user,
        "PGDATABASE": endpoint.env.get("POSTGRES_DB", user),
    }
    password = secrets.get("POSTGRES_PASSWORD", endpoint.env.get("POSTGRES_PASSWORD"))
    return variables | ({"PGPASSWORD": password} if password else {})


async def _of_unit(node: Node, cluster: Cluster, name: UnitName) -> Context:
    unit = cluster.units.get(name)
    if name.is_template:
        raise Refused(409, f"{name} is a template: name an instance of it")
    if unit is None:
        hint = f"; `kirsch load {name}` makes it from its template" if name.template in cluster.units else ""
        raise Refused(404, f"there is no unit {name}{hint}")
    if missing := node.secrets.missing(secret.name for secret in unit.options.secrets):
        raise Refused(409, f"{name} has no secret {missing[0]} yet: kirsch secret set {missing[0]} < FILE")
    if waits := links.unready(unit.options.links, cluster.endpoints):
        raise Refused(409, f"{name} is linked to {waits[0]}, which is not ready")
    ready = await node.agent.preparation.prepare(name, unit.file, unit.options, cluster.endpoints)
    if boxed := await node.runtime.container_arguments(ready):
        return Context(environment=dict(ready.variables), secrets=tuple(ready.secrets), container=boxed)
    command = await node.runtime.context(ready)
    return Context.of(command) if command else Context()
