"""Record of a cluster on this computer: its machines and the place of its keys, one folder a cluster.

`$XDG_DATA_HOME/kirsch/clusters/NAME/` (XDG Base Directory Specification) has cluster.json, tls/ and ssh/.
"""

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kirsch.cluster.model.certificates import Certificates
from kirsch.cluster.model.cluster import bracketed

LOOPBACK = "127.0.0.1"
# A name is part of container, network and host names: what is valid in all of them.
NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


class ProvisionError(Exception):
    """Why a cluster cannot be made, changed or found: one line that says what to do."""


class Interrupted(ProvisionError):
    """A person, or who ended us, did not want it after all."""


@dataclass(frozen=True, slots=True)
class MachineRecord:
    """One machine: `address` is where other machines reach it, `host` with the ports where we do.

    `id` is its /etc/machine-id; `container` is empty for a host of its own; `etcd` says whether it is a
    member of the registry's etcd.
    """

    name: str
    id: str
    address: str
    host: str = LOOPBACK
    ssh_port: int = 22
    api_port: int = 7117
    user: str = "root"
    container: str = ""
    etcd: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        """API of the machine over TCP, seen from this computer."""
        return f"https://{bracketed(self.host)}:{self.api_port}"


@dataclass(frozen=True, slots=True)
class ClusterRecord:
    """A cluster: its id, when it was made (ISO 8601, UTC), its machines, ports published on this computer
    (HOST:MACHINE), the subnet of its machines, and `network`, that of its units (empty without a flat
    network); `complete` once all steps of its creation were done. `keeper` is the machine that keeps its
    images, the first unless another was told to."""

    name: str
    id: str
    created: str
    subnet: str
    machines: tuple[MachineRecord, ...] = ()
    published: tuple[str, ...] = ()
    complete: bool = False
    network: str = ""
    keeper: str = ""

    @property
    def folder(self) -> Path:
        """Folder of the cluster's record and keys."""
        return clusters_folder() / self.name

    @property
    def certificates(self) -> Certificates:
        """A person's certificate, for the API."""
        tls = self.folder / "tls"
        return Certificates(tls / "ca.crt", tls / "client.crt", tls / "client.key")

    @property
    def endpoints(self) -> tuple[str, ...]:
        """APIs of all machines, seen from this computer."""
        return tuple(machine.endpoint for machine in self.machines)

    @property
    def members(self) -> tuple[MachineRecord, ...]:
        """The machines whose etcd keeps the registry."""
        return tuple(machine for machine in self.machines if machine.etcd)

    @property
    def etcd(self) -> tuple[str, ...]:
        """etcd's client URLs, as machines reach them."""
        return tuple(map(etcd_url, self.members))

    def machine(self, name: str) -> MachineRecord:
        """The machine of a name, of an address, or of an id or its beginning. Raises ProvisionError."""
        for machine in self.machines:
            if name in (machine.name, machine.address):
                return machine
        found = [m for m in self.machines if len(name) >= 4 and m.id.startswith(name.removesuffix("..."))]
        if len(found) == 1:
            return found[0]
        names = ", ".join(machine.name for machine in self.machines)
        raise ProvisionError(f"cluster {self.name} has no machine {name}; it has {names or 'none'}")

    def save(self) -> None:
        """Write cluster.json, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.chmod(0o700)
        made = self.folder / "cluster.json.new"
        values = asdict(self)
        if not self.keeper:
            del values["keeper"]  # a kirsch before it does not know it
        made.write_text(json.dumps(values, indent=2) + "\n")
        made.chmod(0o600)
        os.replace(made, self.folder / "cluster.json")

    @classmethod
    def change(cls, name: str, changed: "Callable[[ClusterRecord], ClusterRecord]") -> "ClusterRecord":
        """Change the record as it stands, one process at a time: the record as it is then. Raises
        ProvisionError, OSError."""
        with _locked(cls.load(name).folder):
            record = changed(cls.load(name))
            record.save()
            return record

    @classmethod
    def load(cls, name: str) -> "ClusterRecord":
        """The record of a cluster. Raises ProvisionError where there is none, or it cannot be read."""
        path = clusters_folder() / checked_name(name) / "cluster.json"
        try:
            return cls.parse(path.read_text())
        except FileNotFoundError:
            known = ", ".join(cls.names())
            there = f"there are {known}" if known else f"make one: `kirsch cluster create {name}`"
            raise ProvisionError(f"there is no cluster {name}; {there}") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ProvisionError(f"{path}: {error}") from None

    @classmethod
    def parse(cls, text: str) -> "ClusterRecord":
        """A record from JSON. Raises ValueError, KeyError, TypeError."""
        given: dict[str, Any] = json.loads(text)
        known = {each.name for each in fields(cls)} | {each.name for each in fields(MachineRecord)}
        if later := sorted({*given, *(key for each in given["machines"] for key in each)} - known):
            raise ValueError(f"a newer kirsch wrote it, for {later[0]} is not known to this one: use that")
        machines = tuple(MachineRecord(**machine) for machine in given.pop("machines"))
        return cls(machines=machines, published=tuple(given.pop("published")), **given)

    @classmethod
    def names(cls) -> list[str]:
        """The clusters that this computer has a record of."""
        return sorted(path.parent.name for path in clusters_folder().glob("*/cluster.json"))


def etcd_url(machine: MachineRecord) -> str:
    """Return the client URL of a machine's etcd, as machines reach it."""
    return f"https://{bracketed(machine.address)}:2379"


def clusters_folder() -> Path:
    """Return the folder of all clusters' records."""
    return _base("XDG_DATA_HOME", ".local/share") / "kirsch/clusters"


def cache_folder() -> Path:
    """Return the folder of what can be made anew, as wheels."""
    return _base("XDG_CACHE_HOME", ".cache") / "kirsch"


def memory_file(name: str) -> Path:
    """Return the file that names the machine of a cluster that answered last."""
    return cache_folder() / f"last-of-{name}"


def checked_name(name: str) -> str:
    """The name, if a cluster can bear it. Raises ProvisionError."""
    if NAME.fullmatch(name):
        return name
    raise ProvisionError(
        f"{name!r} cannot be a cluster's name: use at most 32 of a-z, 0-9 and -, no - at either end"
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _base(variable: str, otherwise: str) -> Path:
    # The specification: a path that is not absolute is to be ignored.
    given = os.environ.get(variable, "")
    try:
        return Path(given) if given.startswith("/") else Path.home() / otherwise
    except RuntimeError:
        raise ProvisionError(f"you have no home folder here: set HOME, or {variable}") from None


def published(address: str, ports: Iterable[str]) -> str:
    """The address at which this computer has a port that an address names, of those published
    (HOST:PORT:MACHINE-PORT); empty if none leads there. Pure."""
    url = urlsplit(address)
    wanted = url.port or (443 if url.scheme == "https" else 80)
    for each in ports:
        host, port, inside = each.rsplit(":", 2)
        if int(inside) == wanted:
            shown = "localhost" if host == LOOPBACK else host
            return url._replace(netloc=f"{shown}:{port}").geturl()
    return ""
