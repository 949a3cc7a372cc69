"""The cluster as values: machines, units, links, endpoints, and the registry's keys. Pure."""

from kirsch.cluster.model.cluster import (
    DESIRED_STATES,
    NAME,
    Assignment,
    Cluster,
    DesiredState,
    Endpoint,
    Machine,
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
    "Unit",
    "UnitRecord",
    "UnitState",
    "finished",
    "settled",
    "to_json",
]
