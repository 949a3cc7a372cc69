"""The cluster as values: machines, endpoints, and all that the engine decides upon. Pure."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from kirsch.cluster.model.release import Release
from kirsch.cluster.model.unit import Assignment, Move, Unit, UnitState, known_fields, to_json
from kirsch.unit import Port, UnitName

# The metadata that has a machine's own name.
NAME = "hostname"


def bracketed(host: str) -> str:
    """Return a host as it stands in a URL: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that is there. `runs` are the unit types it can run; `cpu` in cores, `memory` in bytes.

    `etcd` is True where etcd is installed, so that the machine can keep the registry.

    `apart` is why no unit can be in the flat network there, empty if one can; `nameless` why units' names are
    not answered there, `unwatched` why what others do to the flat network there is not seen at once.

    `metadata` is what it said of itself, changed by what people set since; a cordoned machine gets no
    new units, and those of a drained one move elsewhere. `api` is the port of its API over TCP, 0 for none.
    """

    id: str
    address: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    runs: tuple[str, ...] = ("service",)
    cpu: float = 1.0
    memory: int = 1 << 30
    runtime: str = "systemd"
    api: int = 0
    apart: str = ""
    nameless: str = ""
    unwatched: str = ""
    etcd: bool = False
    cordoned: bool = False
    drained: bool = False

    def to_json(self) -> str:
        """Return the JSON stored under machines/ID."""
        values = asdict(self)
        del values["cordoned"], values["drained"]
        if not self.unwatched:
            del values["unwatched"]  # kirschds before it do not know it
        if not self.etcd:
            del values["etcd"]
        return to_json(values)

    @classmethod
    def parse(cls, text: str, settings: str | None = None) -> Self:
        """Parse the JSON of machines/ID and, if there is one, of machine-settings/ID."""
        values = known_fields(cls, json.loads(text))
        values["runs"] = tuple(values["runs"])
        changes = json.loads(settings) if settings else {}
        for key, value in changes.get("metadata", {}).items():
            if key == NAME:
                continue  # people know the machine by it; it could be set once
            if value is None:
                values["metadata"].pop(key, None)
            else:
                values["metadata"][key] = value
        drained = changes.get("drained", False)
        return cls(**values, cordoned=drained or changes.get("cordoned", False), drained=drained)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Address and ports at which one unit's slot serves. `env` is what its ExposeEnv= lets links see.

    `role` is the role it has at present, "" for none; `leads` is False where the service's own name is not to
    lead here: its HealthRole= has roles, and this is not the first of them.
    """

    service: str
    unit: str
    slot: str
    machine: str
    address: str
    ports: tuple[Port, ...] = ()
    ready: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    role: str = ""
    leads: bool = True

    @property
    def has_roles(self) -> bool:
        """True if the unit has a HealthRole=."""
        return bool(self.role) or not self.leads

    def serves_as(self, role: str) -> bool:
        """Return True if this is what users of the service in a role, "" for its own name, are led to."""
        return self.role == role if role else self.leads

    def public(self) -> dict[str, Any]:
        """Return the public fields: everything but `env` and the machine."""
        values = {
            "service": self.service,
            "unit": self.unit,
            "slot": self.slot,
            "address": self.address,
            "ports": [{"number": p.number, "protocol": p.protocol, "name": p.name} for p in self.ports],
            "ready": self.ready,
        }
        # kirschds before it do not know roles.
        return values | {"role": self.role, "leads": self.leads} if self.has_roles else values

    def to_json(self) -> str:
        """Return the JSON stored under endpoints/SERVICE/NAME/SLOT."""
        return to_json(self.public() | {"env": dict(self.env), "machine": self.machine})

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the JSON stored under endpoints/SERVICE/NAME/SLOT."""
        values = known_fields(cls, json.loads(text))
        ports = tuple(Port(p["number"], p["protocol"], p["name"]) for p in values.pop("ports"))
        return cls(**values, ports=ports)


@dataclass(frozen=True, slots=True)
class Cluster:
    """All that the engine decides upon, at one moment.

    `schedule` maps a unit to the machines it is put on, `states` to what those say of it, `homes` a sticky
    unit to its machine, `moves` one that is on its way to where from. `lapsed` are machines lost so lately
    that what stops by itself on a machine cut off may not have stopped yet. `addresses` are the slots of
    units that were given one.
    """

    machines: Mapping[str, Machine] = field(default_factory=dict)
    units: Mapping[UnitName, Unit] = field(default_factory=dict)
    schedule: Mapping[UnitName, Mapping[str, Assignment]] = field(default_factory=dict)
    states: Mapping[UnitName, Mapping[str, UnitState]] = field(default_factory=dict)
    homes: Mapping[UnitName, str] = field(default_factory=dict)
    moves: Mapping[UnitName, Move] = field(default_factory=dict)
    lapsed: frozenset[str] = frozenset()
    endpoints: tuple[Endpoint, ...] = ()
    addresses: Mapping[UnitName, frozenset[str]] = field(default_factory=dict)
    releases: Mapping[tuple[str, int], Release] = field(default_factory=dict)
    # Those of them that are not over, in the order of their keys.
    active: tuple[Release, ...] = ()

    def under_way(self, application: str) -> tuple[Release, ...]:
        """Return the releases of an application that are not over."""
        return tuple(release for release in self.active if release.application == application)

    @property
    def leading(self) -> frozenset[str]:
        """Machines with an instance that leads its service, by a HealthRole=."""
        return frozenset(
            each.machine for each in self.endpoints if each.ready and each.has_roles and each.leads
        )

    def reservations(self) -> dict[str, tuple[float, int]]:
        """Return the cores and the bytes of memory that units reserve on each machine that has any."""
        found: dict[str, tuple[float, int]] = {}
        for name, places in self.schedule.items():
            if unit := self.units.get(name):
                for machine in places:
                    cpu, memory = found.get(machine, (0.0, 0))
                    found[machine] = cpu + unit.options.cpu, memory + unit.options.memory
        return found
