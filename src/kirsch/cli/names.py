"""Names as people type and read them: units without their type, machines without their ids."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from kirsch.cli.errors import Failure
from kirsch.cli.verb import Options
from kirsch.cluster.api.client import UNITS, Client, ClientError
from kirsch.cluster.application import ApplicationError, resolve
from kirsch.cluster.model import NAME
from kirsch.unit import UnitError, UnitName, matches

# Whole, or its beginning.
_ID = re.compile(r"\b[0-9a-f]{8}(?:[0-9a-f]{24})?\b")
PATTERN = re.compile(r"[*?\[]")
# As many names go into a URL.
MANY = 200


def full_names(client: Client, names: Sequence[str]) -> list[str]:
    """Units' full names, among those that were submitted. Raises ApplicationError."""
    if not names:
        return []
    known = known_names(client, names)
    return [full for name in names for full in expanded(name, known)]


def expanded(name: str, known: Collection[str]) -> list[str]:
    """Return the units that a name means: one, or all that match its * ? and [a-z].

    Templates match only a pattern that nothing else matches. Raises ApplicationError.
    """
    if not PATTERN.search(name):
        return [resolve(name, known)]
    found = matching([name], known)
    if not found:
        raise ApplicationError(f"no unit matches {name}")
    return [each for each in found if "@." not in each] or found


def matching(patterns: Sequence[str], names: Iterable[str]) -> list[str]:
    """Return the names that match a pattern, with their type or without. Raises UnitError."""
    return sorted(
        name
        for name in set(names)
        if any(matches(each, name) or matches(each, name.rpartition(".")[0]) for each in patterns)
    )


def known_names(client: Client, names: Sequence[str]) -> set[str]:
    """The names of those units that can be meant by these."""
    return set(known_units(client, names))


def known_units(client: Client, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The units that can be meant by these names, each with a line of it."""
    asked = _asked(names)
    query = {"unit": asked} if 0 < len(asked) <= MANY else {}
    return {line["name"]: line for line in client.get(UNITS, **query)["units"]}


def _asked(names: Iterable[str]) -> list[str]:
    """Full names and their templates; none where a type is left out: then every unit's is to be looked at."""
    asked: dict[str, None] = {}
    for text in names:
        try:
            name = UnitName.parse(text)
        except UnitError:
            return []
        asked |= dict.fromkeys([name.text, *([name.template.text] if name.template else [])])
    return list(asked)


def machine_names(client: Client, away: Mapping[str, str] | None = None) -> dict[str, str]:
    """Machines' names by their ids: of those that are there, and of those that are known besides as `away`;
    only of these where nobody can be asked."""
    try:
        machines = client.get("/kirsch/v1/machines")["machines"]
    except ClientError:
        machines = []
    return distinct({**(away or {}), **{each["id"]: each["metadata"].get(NAME, "") for each in machines}})


def recorded_names(options: Options) -> dict[str, str]:
    """Machines' names by their ids, of a cluster that this computer has made; none if it knows of none."""
    from kirsch.cluster.provision.record import ClusterRecord, ProvisionError

    cluster = options.where().cluster
    try:
        machines = ClusterRecord.load(cluster).machines if cluster else ()
    except ProvisionError:
        machines = ()
    return {machine.id: machine.name for machine in machines}


def distinct(names: Mapping[str, str]) -> dict[str, str]:
    """Names by ids; what more than one machine is called has the beginning of its id behind it. Pure."""
    count = Counter(names.values())
    return {id: name if count[name] == 1 else f"{name} ({id[:8]}...)" for id, name in names.items() if name}


def named(text: str, names: Mapping[str, str]) -> str:
    """A text with machines' names in place of their ids, as `machine_names` has them; the ids of others are
    shortened as in tables. Pure."""
    beginnings = {id[:8]: name for id, name in names.items()}

    def name(found: re.Match[str]) -> str:
        id = found[0]
        if len(id) == 8:
            return beginnings.get(id, id)
        return names.get(id, f"{id[:8]}...")

    return _ID.sub(name, text)


def reasons_of(line: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Why a unit is as it is, in one line. Pure."""
    return named("; ".join(line["reasons"]), names)


def cluster_name(options: Options) -> str:
    """Return the cluster that was named, or the only one."""
    from kirsch.cluster.provision.record import ClusterRecord

    named = options.cluster or os.environ.get("KIRSCH_CLUSTER")
    if named:
        return str(named)
    names = ClusterRecord.names()
    if len(names) == 1:
        return names[0]
    known = f"there are {', '.join(names)}" if names else "make one: `kirsch cluster create`"
    raise Failure(f"which cluster? Name it with --cluster; {known}")
