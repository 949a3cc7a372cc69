"""Units that an earlier kirschd started: what it knew of them, kept as a mark beside each. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from kirsch.cluster.agent.plan import alive
from kirsch.cluster.model import Assignment, to_json
from kirsch.cluster.runtime.base import RuntimeState
from kirsch.unit import Options, UnitName

# The order in the mark of a unit that is being stopped.
STOPPED = -1


@dataclass(frozen=True, slots=True)
class Adopted:
    """The assignment that a unit was started for, what of its options matters before its file is read, and
    the addresses that its links gave it (kirsch.cluster.model.links.addresses)."""

    assignment: Assignment
    options: Options
    linked: Mapping[str, str]


def mark(assignment: Assignment, options: Options, linked: Mapping[str, str]) -> str:
    """Mark kept beside a unit that is started."""
    return to_json(
        {
            "assignment": json.loads(assignment.to_json()),
            "on_partition": options.on_partition,
            "linked": dict(linked),
        }
    )


def ending(assignment: Assignment, options: Options, linked: Mapping[str, str]) -> str:
    """Mark kept beside a unit that is being stopped: for no order that anybody gave, so that it is
    stopped all the same if kirschd ends before, and started again when it is to be."""
    return mark(replace(assignment, order=STOPPED), options, linked)


def adopted(states: Mapping[UnitName, RuntimeState]) -> dict[UnitName, Adopted]:
    """The units that carry a mark; one that cannot be read is none, and what was stopped was not started."""
    units = {}
    for name, state in states.items():
        try:
            values = json.loads(state.mark)
            options = Options(on_partition=values["on_partition"])
            unit = Adopted(Assignment(**values["assignment"]), options, dict(values.get("linked", {})))
        except (ValueError, KeyError, TypeError):
            continue
        if unit.assignment.order != STOPPED or alive(state):
            units[name] = unit
    return units
