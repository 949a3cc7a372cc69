"""Names as people type them: the type may be left out."""

from collections.abc import Iterable, Sequence
from typing import Any

from kirsch.cluster.api.client import UNITS, Client
from kirsch.cluster.application import resolve
from kirsch.unit import UnitError, UnitName

# As many names go into a URL.
MANY = 200


def full_names(client: Client, names: Sequence[str]) -> list[str]:
    """Units' full names, among those that were submitted. Raises ApplicationError."""
    if not names:
        return []
    known = known_names(client, names)
    return [resolve(name, known) for name in names]


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
