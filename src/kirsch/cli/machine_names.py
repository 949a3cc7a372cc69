"""Machines by the names that people know them by, in place of their ids."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from kirsch.cli.verb import Options
from kirsch.cluster.api.client import Client, ClientError
from kirsch.cluster.model import NAME

# Whole, or its beginning.
_ID = re.compile(r"\b[0-9a-f]{8}(?:[0-9a-f]{24})?\b")


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
