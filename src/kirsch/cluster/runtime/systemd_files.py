r"""Which files make a unit known to systemd, and what stands in them. Pure.

A unit's file goes to /run/systemd/system, a Quadlet's to /run/containers/systemd, as it is, byte for byte.
What the cluster adds goes beside it into NAME.d/50-kirsch.conf, which also says that the unit is kirsch's.
The variables themselves, among which secrets are, stand in a file for root's eyes only, and so does each
secret that becomes a credential (systemd.exec(5)); a container finds it as /run/secrets/NAME. Names of hosts
are podman's affair for a container; a service sees a hosts file of its own in place of the machine's.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from kirsch.cluster.network.subnet import hardware_address
from kirsch.cluster.network.wanted import NETWORK
from kirsch.cluster.runtime.base import Prepared
from kirsch.unit import QUADLET_TYPES, UnitName

UNITS = "run/systemd/system"
QUADLETS = "run/containers/systemd"
RECORDS = "run/kirsch/units"
DROP_IN = "50-kirsch.conf"
MARKER = "# Made by kirsch for a unit of its own; it goes with the unit.\n"

# Sections that take EnvironmentFile= and LoadCredential= (systemd.exec(5)).
_SECTIONS = {
    "service": "Service",
    "socket": "Socket",
    "mount": "Mount",
    "swap": "Swap",
    "container": "Service",
}

# systemd.syntax(7).
_NO = frozenset({"no", "n", "false", "f", "off", "0"})
# Network= of a container that has another's network (podman-run(1)).
_OTHERS = re.compile(r"container:|ns:|.*\.container(?:\W|$)")


@dataclass(frozen=True, slots=True)
class Written:
    """One file to be: `path` is relative to the machine's root."""

    path: str
    content: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Record:
    """What is kept of a unit for the kirschd that comes after this one: its name, its name in systemd, and
    the mark it was started with ("" if it was not). `enabled` are the unit files that were enabled."""

    name: str
    service: str
    mark: str = ""
    enabled: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """As it is written."""
        values = {"name": self.name, "service": self.service, "mark": self.mark, "enabled": self.enabled}
        return json.dumps(values).encode() + b"\n"

    @classmethod
    def parse(cls, data: bytes) -> "Record":
        """Raises ValueError for what is no record."""
        values = json.loads(data)
        try:
            name, service, mark = (values[key] for key in ("name", "service", "mark"))
            return cls(str(name), str(service), str(mark), tuple(map(str, values.get("enabled", ()))))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a record: {error}") from None


def folder(name: UnitName) -> str:
    """Where a unit's own file goes."""
    return QUADLETS if name.type in QUADLET_TYPES else UNITS


def unit_file(name: UnitName) -> str:
    """The path of a unit's own file."""
    return f"{folder(name)}/{name}"


def drop_in(name: UnitName) -> str:
    """The path of what the cluster adds to a unit."""
    return f"{folder(name)}/{name}.d/{DROP_IN}"


def record_file(name: UnitName) -> str:
    """The path of a unit's record."""
    return f"{RECORDS}/{_stem(name)}.json"


def environment_file(name: UnitName) -> str:
    """The path of a unit's variables."""
    return f"{RECORDS}/{_stem(name)}.env"


def credentials_folder(name: UnitName) -> str:
    """The path of the folder with a unit's credentials."""
    return f"{RECORDS}/{_stem(name)}.secrets"


def hosts_file(name: UnitName) -> str:
    """The path of what a unit sees as /etc/hosts."""
    return f"{RECORDS}/{_stem(name)}.hosts"


def _stem(name: UnitName) -> str:
    # systemd reads EnvironmentFile= as a glob, in which a backslash is an escape; no name has a "=".
    return name.text.replace("\\", "=")


def compose(prepared: Prepared, merges: bool = True, machine_hosts: bytes = b"") -> list[Written]:
    """The files of a unit, in the order in which they are written: its own file comes last. Where Quadlet
    does not merge drop-ins, what the cluster adds to one stands at the end of its own file too.
    `machine_hosts` is the machine's own /etc/hosts."""
    name = prepared.name
    files = []
    if takes_environment(prepared):
        files.append(Written(environment_file(name), _encoded(environment_text(prepared.environment)), 0o600))
    for each, value in takes_credentials(prepared).items():
        files.append(Written(f"{credentials_folder(name)}/{each}", _encoded(value), 0o600))
    if has_hosts_file(prepared):
        files.append(Written(hosts_file(name), hosts_text(prepared.hosts).encode() + machine_hosts))
    added, content = _encoded(drop_in_text(prepared)), bytes(prepared.file)
    files.append(Written(drop_in(name), added))
    if name.type in QUADLET_TYPES and not merges:
        content = extend(content, added)
    return [*files, Written(unit_file(name), content)]


def extend(content: bytes, added: bytes) -> bytes:
    """A unit's file with what is added to it."""
    return content + _SEPARATOR + added


def original(content: bytes) -> bytes:
    """A unit's file without what `extend` has added to it."""
    before, separator, _ = content.rpartition(_SEPARATOR + MARKER.encode())
    return before if separator else content


_SEPARATOR = b"\n\n"


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def takes_credentials(prepared: Prepared) -> Mapping[str, str]:
    """The credentials that this unit is given."""
    return prepared.credentials if prepared.name.type in _SECTIONS else {}


def takes_environment(prepared: Prepared) -> bool:
    """Whether variables are added to this unit."""
    return bool(prepared.environment) and prepared.name.type in _SECTIONS


def has_hosts_file(prepared: Prepared) -> bool:
    """Whether a service sees a hosts file of its own: that takes a mount namespace, which a service that says
    PrivateMounts=no does not want."""
    if not prepared.hosts or prepared.name.type != "service":
        return False
    entry = prepared.file.get("Service", "PrivateMounts")
    return entry is None or entry.value.lower() not in _NO


def added_hosts(prepared: Prepared) -> Mapping[str, str]:
    """The entries in a container's hosts file; podman takes none where others' network is used."""
    if not prepared.hosts or prepared.name.type != "container" or prepared.file.get("Container", "Pod"):
        return {}
    networks = (entry.value for entry in prepared.file.values("Container", "Network"))
    return {} if any(_OTHERS.match(network) for network in networks) else prepared.hosts


def hosts_text(hosts: Mapping[str, str]) -> str:
    """Lines of a hosts file (hosts(5)), names of one address together."""
    names: dict[str, list[str]] = {}
    for name, address in hosts.items():
        names.setdefault(address, []).append(name)
    return "".join(f"{address} {' '.join(each)}\n" for address, each in names.items())


def drop_in_text(prepared: Prepared) -> str:
    """The drop-in. A container's variables are put into podman's environment, and handed on by their names:
    so no value is in a command line, nor in a file that all may read."""
    name, kind = prepared.name, prepared.name.type
    inside, outside = [], []
    if takes_environment(prepared):
        outside.append(f"EnvironmentFile=/{environment_file(name)}")
        inside.append(f"PodmanArgs={' '.join(f'--env={each}' for each in sorted(prepared.environment))}")
    for each in takes_credentials(prepared):
        outside.append(f"LoadCredential={each}:/{credentials_folder(name)}/{each}")
        inside.append(f"PodmanArgs=--volume=%d/{each}:/run/secrets/{each}:ro")
    if prepared.address:
        inside += [f"Network={NETWORK}", f"IP={prepared.address}"]
        inside.append(f"PodmanArgs=--mac-address={hardware_address(prepared.address)}")
    if has_hosts_file(prepared):
        outside.append(f"BindReadOnlyPaths=/{hosts_file(name)}:/etc/hosts")
    # AddHost= came with podman 5.3; this every Quadlet takes.
    inside += [f"PodmanArgs=--add-host={host}:{at}" for host, at in added_hosts(prepared).items()]
    if prepared.dns and not prepared.file.get("Container", "DNS"):
        inside.append(f"PodmanArgs=--dns={prepared.dns}")
    lines = [f"[{_SECTIONS[kind]}]", *outside] if outside else []
    if inside and kind == "container":
        lines += ["[Container]", *inside]
    return MARKER + "".join(f"{line}\n" for line in lines)


def environment_text(environment: Mapping[str, str]) -> str:
    r"""Variables as EnvironmentFile= reads them (systemd.exec(5)): in double quotes, in which a backslash
    makes " \ ` and $ stand for themselves, and a line may end; no specifiers are expanded there."""
    lines = []
    for name, value in environment.items():
        escaped = "".join(f"\\{each}" if each in '"\\`$' else each for each in value)
        lines.append(f'{name}="{escaped}"\n')
    return "".join(lines)


def is_ours(drop_in: bytes | None) -> bool:
    """Whether a drop-in says that its unit is kirsch's."""
    return drop_in is not None and drop_in.startswith(MARKER.encode())
