"""Which names lead to which addresses: UNIT, SERVICE and SERVICE-ROLE below kirsch.internal. Pure.

`.internal` is the top of names that no public server will ever know (ICANN resolution 2024.07.29.06).
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from kirsch.cluster.model import Endpoint
from kirsch.cluster.model.links import SERVING, host_name
from kirsch.cluster.registry.snapshot import read_name
from kirsch.unit import UnitName

DOMAIN = "kirsch.internal"

# Labels as DNS has them (RFC 1035, 2.3.4), of a unit's characters; an @ is let be, for who asks for it.
_NAME = re.compile(r"(?=.{1,200}$)[A-Za-z0-9_@-]{1,63}(?:\.[A-Za-z0-9_@-]{1,63})*")


def records(endpoints: Iterable[Endpoint], units: Iterable[UnitName]) -> dict[str, tuple[str, ...]]:
    """The addresses that each name leads to, both sorted: those of ready endpoints only.

    A name that no host can have is there as one that it can, too (notes@1 as notes-1, the role replica of
    webdb as webdb-replica), unless one of `units` is called that. A service's own name leads to its
    first role.
    """
    taken = {name for unit in units for name in _called(unit)}
    found: dict[str, set[str]] = {}
    for endpoint in endpoints:
        unit = read_name(endpoint.unit)
        if not endpoint.ready or not endpoint.address or unit.type not in SERVING:
            continue
        called = [name for name in _called(unit) if name != unit.service or endpoint.leads]
        for name in [*called, f"{unit.service}/{endpoint.role}"] if endpoint.role else called:
            spelled = host_name(name)
            for each in {name} if spelled in taken else {name, spelled}:
                if _NAME.fullmatch(each):
                    found.setdefault(each, set()).add(endpoint.address)
    return {f"{name}.{DOMAIN}": tuple(sorted(found[name])) for name in sorted(found)}


def _called(unit: UnitName) -> Iterator[str]:
    yield unit.text
    yield unit.text.rpartition(".")[0]
    yield unit.service


def text(names: Mapping[str, Iterable[str]]) -> str:
    """Format records as a hosts file (hosts(5)): one line for each address, with all of its names."""
    by_address: dict[str, list[str]] = {}
    for name, addresses in names.items():
        for address in addresses:
            by_address.setdefault(address, []).append(name)
    return "".join(f"{address} {' '.join(names)}\n" for address, names in sorted(by_address.items()))
