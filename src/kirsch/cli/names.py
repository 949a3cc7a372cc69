"""Names as people type them: the type may be left out."""

from collections.abc import Iterable, Sequence

from kirsch.cluster.application import resolve
from kirsch.cluster.client import Client


def full_names(client: Client, names: Sequence[str]) -> list[str]:
    """Units' full names, among those that were submitted. Raises ApplicationError."""
    if not names:
        return []
    known = known_names(client)
    return [resolve(name, known) for name in names]


def known_names(client: Client) -> set[str]:
    """All units' names."""
    units: Iterable[dict[str, str]] = client.get("/kirsch/v1/units")["units"]
    return {unit["name"] for unit in units}
