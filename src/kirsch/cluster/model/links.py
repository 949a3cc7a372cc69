"""Links between units: docker's variables and hosts entries, who waits for whom, who stops first. Pure.

The variables are docker's (`docker run --link`): the alias in capitals, `-` and `.` as `_`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from kirsch.cluster.model import Endpoint, Unit
from kirsch.unit import Link, Options, UnitFile, UnitName, split_words

# So far goes who uses whom, in practice; what is deeper is placed late, and that is all.
DEEPEST = 8
# Types of units that serve: a timer is called after a service, and is none of its instances.
SERVING = frozenset({"service", "socket", "container", "pod", "kube"})


def targets(link: Link, name: UnitName) -> bool:
    """A link names a unit in full, or, of those that serve, one without its type, or a service."""
    return link.target in _called(name)


def _called(name: UnitName) -> tuple[str, ...]:
    if name.type not in SERVING:
        return (name.text,)
    return name.text, name.text.rpartition(".")[0], name.service


def host_name(text: str) -> str:
    """A unit's name as a host's: what that cannot have (hostname(7)) is "-"; notes@1 is notes-1."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", text).strip("-.")


def endpoints_of(link: Link, endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """The endpoints a link means, in the order of their units and slots: of a service those in the role that
    it asks for, of one unit all."""
    return [e for e in _of_target(link, endpoints) if link.target != e.service or e.serves_as(link.role)]


def _of_target(link: Link, endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """Return the endpoints of a link's target, whatever their role."""
    found = [endpoint for endpoint in endpoints if targets(link, UnitName.parse(endpoint.unit))]
    return sorted(found, key=lambda endpoint: (endpoint.unit, endpoint.slot))


def _numbered(link: Link, endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """Return the ready endpoints that a link's numbered variables tell of: of a service with roles every one,
    if no role is asked for, as the next to lead is among them."""
    found = endpoints_of(link, endpoints) if link.role else _of_target(link, endpoints)
    return [endpoint for endpoint in found if endpoint.ready]


def unready(links: Iterable[Link], endpoints: Sequence[Endpoint]) -> list[str]:
    """The targets that have no ready endpoint yet: what a unit has to wait for."""
    return [link.text for link in links if not any(e.ready for e in endpoints_of(link, endpoints))]


def variables(
    unit: UnitName, links: Iterable[Link], endpoints: Sequence[Endpoint], domain: str = ""
) -> dict[str, str]:
    """The environment that a unit's links give it.

    One endpoint gives ALIAS_PORT…, several give the first ready one under the plain names and each ready
    one under ALIAS_1_…, ALIAS_2_….

    A role goes from instance to instance while the unit runs: where names below `domain` are answered for it,
    the plain variables have the name of a service with roles in place of an address.
    """
    environment: dict[str, str] = {}
    for link in links:
        alias = re.sub(r"[-.]", "_", link.alias).upper()
        first = next((endpoint for endpoint in endpoints_of(link, endpoints) if endpoint.ready), None)
        if first is None:
            continue
        follows = domain and first.has_roles and link.target == first.service
        host = f"{host_name(link.text)}.{domain}" if follows else first.address
        environment |= _one(alias, f"/{unit}/{link.alias}", first, host)
        if len(numbered := _numbered(link, endpoints)) > 1:
            for number, endpoint in enumerate(numbered, 1):
                environment |= _one(
                    f"{alias}_{number}", f"/{unit}/{link.alias}_{number}", endpoint, endpoint.address
                )
    return environment


def _one(alias: str, name: str, endpoint: Endpoint, host: str) -> dict[str, str]:
    environment = {f"{alias}_NAME": name}
    ports = sorted(endpoint.ports, key=lambda port: (port.number, port.protocol))
    for port in ports:
        prefix = f"{alias}_PORT_{port.number}_{port.protocol.upper()}"
        url = f"{port.protocol}://{host}:{port.number}"
        environment |= {
            prefix: url,
            f"{prefix}_ADDR": host,
            f"{prefix}_PORT": str(port.number),
            f"{prefix}_PROTO": port.protocol,
        }
        environment.setdefault(f"{alias}_PORT", url)
    return environment | {f"{alias}_ENV_{name}": value for name, value in endpoint.env.items()}


def hosts(links: Iterable[Link], endpoints: Sequence[Endpoint]) -> dict[str, str]:
    """The entries in a hosts file that a unit's links give it, each name with its address: the alias and the
    target's own name lead to its first ready endpoint. An alias goes before another target's name."""
    aliases: dict[str, str] = {}
    names: dict[str, str] = {}
    for link in links:
        address = next((e.address for e in endpoints_of(link, endpoints) if e.ready), None)
        if address is not None:
            aliases[link.alias] = address
            names.setdefault(host_name(link.text), address)
    return aliases | {name: address for name, address in names.items() if name and name not in aliases}


def ready(links: Iterable[Link], endpoints: Sequence[Endpoint]) -> dict[str, Endpoint]:
    """Return the ready endpoints that a unit's links tell it of, each by the unit and slot that serves."""
    return {f"{e.unit}/{e.slot}": e for link in links for e in _numbered(link, endpoints)}


def addresses(links: Iterable[Link], endpoints: Sequence[Endpoint]) -> dict[str, str]:
    """The addresses that a unit's links give it, each by the unit and slot that serves there."""
    return {which: endpoint.address for which, endpoint in ready(links, endpoints).items()}


def moved(known: Mapping[str, str], links: Iterable[Link], endpoints: Sequence[Endpoint]) -> list[str]:
    """Of addresses that a unit was given, what serves at another one by now: units and slots."""
    now = addresses(links, endpoints)
    return sorted(which for which, address in known.items() if now.get(which, address) != address)


def exposed_environment(file: UnitFile, options: Options) -> dict[str, str]:
    """The values of the variables that ExposeEnv= names, as the unit's own Environment= lines set them.

    Raises UnitError for lines that cannot be read.
    """
    # [Service] of a Quadlet file is about podman, not about what runs in the container.
    sections = ("Container", "X-Kirsch-Process") if file.has("Container") else ("Service",)
    environment: dict[str, str] = {}
    for section in sections:
        for entry in file.values(section, "Environment"):
            with file.at(entry):
                words = split_words(entry.value)
            for word in words:
                name, _, value = word.partition("=")
                environment[name] = value
    return {name: environment[name] for name in options.expose_env if name in environment}


def used_first(units: Sequence[Unit]) -> list[Unit]:
    """Units in their order, but those that others are linked to before these."""
    if not any(unit.options.links for unit in units):
        return list(units)
    called: dict[str, list[UnitName]] = {}
    for unit in units:
        for word in set(_called(unit.name)):
            called.setdefault(word, []).append(unit.name)
    depths = dict.fromkeys((unit.name for unit in units), 0)
    linked = [unit for unit in units if unit.options.links]
    for _ in range(DEEPEST):
        for unit in linked:
            others = (other for link in unit.options.links for other in called.get(link.target, ()))
            depths[unit.name] = max((depths[other] + 1 for other in others if other != unit.name), default=0)
    return sorted(units, key=lambda unit: depths[unit.name])


def circle(
    units: Mapping[UnitName, Sequence[Link]], roots: Iterable[UnitName] | None = None
) -> list[UnitName]:
    """The units of a circle of links, in order, the first again at the end; empty if there is none.

    Units in a circle would wait for each other for ever. With `roots` only circles that these lead to are
    looked for.
    """
    called: dict[str, list[UnitName]] = {}
    for name in units:
        for word in set(_called(name)):
            called.setdefault(word, []).append(name)

    def others(name: UnitName) -> Iterator[UnitName]:
        return iter(sorted({other for link in units[name] for other in called.get(link.target, ())}))

    done: set[UnitName] = set()
    for root in sorted(units if roots is None else roots):
        if root in done:
            continue
        path, stack = [root], [others(root)]
        while stack:
            following = next(stack[-1], None)
            if following is None:
                done.add(path.pop())
                stack.pop()
            elif following in path:
                return [*path[path.index(following) :], following]
            elif following not in done:
                path.append(following)
                stack.append(others(following))
    return []
