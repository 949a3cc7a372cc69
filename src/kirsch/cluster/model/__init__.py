"""The cluster as values: machines, units, links, endpoints, releases, and the registry's keys. Pure."""

from kirsch.cluster.model.cluster import NAME, Cluster, Endpoint, Machine
from kirsch.cluster.model.release import Release
from kirsch.cluster.model.unit import (
    DESIRED_STATES,
    Assignment,
    DesiredState,
    Move,
    Unit,
    UnitRecord,
    UnitState,
    finished,
    settled,
    to_json,
)

__all__ = [
    "DESIRED_STATES",
    "NAME",
    "Assignment",
    "Cluster",
    "DesiredState",
    "Endpoint",
    "Machine",
    "Move",
    "Release",
    "Unit",
    "UnitRecord",
    "UnitState",
    "finished",
    "settled",
    "to_json",
]
