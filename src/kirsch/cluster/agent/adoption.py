"""Units that an earlier kirschd started: what it knew of them, kept as a mark beside each. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from kirsch.cluster.model import Assignment, to_json
from kirsch.cluster.runtime.base import RuntimeState
from kirsch.unit import Options, UnitName


@dataclass(frozen=True, slots=True)
class Adopted:
    """The assignment that a unit was started for, what of its options matters before its file is read, and
    the addresses that its links gave it (kirsch.cluster.links.addresses)."""

    assignment: Assignment
    options: Options
    linked: Mapping[str, str]


def mark(assignment: Assignment, options: Options, linked: Mapping[str, str]) -> str:
    """What is kept beside a unit that is started."""
    return to_json(
        {
            "assignment": json.loads(assignment.to_json()),
            "on_partition": options.on_partition,
            "linked": dict(linked),
        }
    )


def adopted(states: Mapping[UnitName, RuntimeState]) -> dict[UnitName, Adopted]:
    """The units that carry a mark; one that cannot be read is none."""
    units = {}
    for name, state in states.items():
        try:
            values = json.loads(state.mark)
            options = Options(on_partition=values["on_partition"])
            units[name] = Adopted(Assignment(**values["assignment"]), options, dict(values.get("linked", {})))
        except (ValueError, KeyError, TypeError):
            continue
    return units
