r"""Which files make a unit known to systemd, and what stands in them. Pure.

A unit's file goes to /run/systemd/system, a Quadlet's to /run/containers/systemd, as it is, byte for byte.
What the cluster adds goes beside it into NAME.d/50-kirsch.conf, which also says that the unit is kirsch's.
The variables themselves stand in a file for root's eyes only, a service's secrets among them, and so does
each secret that becomes a credential (systemd.exec(5)). To a container podman hands secrets on that stay in
such files, in memory: as /run/secrets/NAME, or as a variable, which is a secret to podman too
(podman-secret(1)), so that nothing it shows has the value. Names of hosts are podman's affair for a
container; a service sees a hosts file of its own in place of the machine's. Who asked for endpoints sees
their socket, and nothing else of kirsch's, in /run/kirsch.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kirsch.cluster.network.state import NETWORK
from kirsch.cluster.network.subnet import hardware_address
from kirsch.cluster.runtime.base import ENDPOINTS, Prepared
from kirsch.unit import QUADLET_TYPES, UnitName

UNITS = "run/systemd/system"
QUADLETS = "run/containers/systemd"
RECORDS = "run/kirsch/units"
DROP_IN = "50-kirsch.conf"
# Where a unit sees the folder of the endpoints socket.
INSIDE = "/run/kirsch"
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
    """Record of a unit for the next kirschd: its name, its name in systemd, and the mark that it was started
    with ("" if it was not). `enabled` are the unit files that were enabled."""

    name: str
    service: str
    mark: str = ""
    enabled: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """Return the record as JSON, one line."""
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
    """Return the folder of a unit's own file."""
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


def variable_file(name: UnitName, variable: str) -> str:
    """The path of a secret that becomes a container's variable; no credential begins with a "="."""
    return f"{credentials_folder(name)}/={variable}"


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
    if environment := file_environment(prepared):
        files.append(Written(environment_file(name), _encoded(environment_text(environment)), 0o600))
    # Their folder is root's alone. In a container anybody is to read them, as podman's own secrets.
    mode = 0o444 if name.type == "container" else 0o600
    for each, value in takes_credentials(prepared).items():
        files.append(Written(f"{credentials_folder(name)}/{each}", _encoded(value), mode))
    for each, value in podman_secrets(prepared).items():
        files.append(Written(variable_file(name, each), _encoded(value), 0o600))
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


def file_environment(prepared: Prepared) -> Mapping[str, str]:
    """The variables that are added to this unit by its file of them: to a container's podman no secret."""
    if prepared.name.type not in _SECTIONS:
        return {}
    seen = {ENDPOINTS: f"{INSIDE}/{_split(prepared.endpoints)[1]}"} if shows_endpoints(prepared) else {}
    given = prepared.environment if prepared.name.type == "container" else prepared.variables
    return {**given, **seen}


def podman_secrets(prepared: Prepared) -> Mapping[str, str]:
    """The variables of a container that are secrets of podman's."""
    return prepared.secrets if prepared.name.type == "container" else {}


def shows_endpoints(prepared: Prepared) -> bool:
    """Return True if the unit sees the endpoints socket's folder, mounted at INSIDE."""
    return bool(prepared.endpoints) and (prepared.name.type == "container" or _has_mounts(prepared))


def _has_mounts(prepared: Prepared) -> bool:
    """Return True if a service can have a mount namespace: not with PrivateMounts=no."""
    entry = prepared.file.get("Service", "PrivateMounts")
    return prepared.name.type == "service" and (entry is None or entry.value.lower() not in _NO)


def _split(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition("/")
    return folder, name


def has_hosts_file(prepared: Prepared) -> bool:
    """Return True if a service sees a hosts file of its own."""
    return bool(prepared.hosts) and _has_mounts(prepared)


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
    if environment := file_environment(prepared):
        outside.append(f"EnvironmentFile=/{environment_file(name)}")
        inside.append(f"PodmanArgs={' '.join(f'--env={each}' for each in sorted(environment))}")
    for each in takes_credentials(prepared):
        path = f"/{credentials_folder(name)}/{each}"
        if kind == "container":
            inside.append(f"PodmanArgs={_mount(path, f'/run/secrets/{each}')}")
        else:
            outside.append(f"LoadCredential={each}:{path}")
    if secrets := podman_secrets(prepared):
        outside += _secret_commands(name, secrets)
        inside += [f"PodmanArgs=--secret={secret(name, each)},type=env,target={each}" for each in secrets]
    if shows_endpoints(prepared):
        folder = _split(prepared.endpoints)[0]
        outside += [f"BindReadOnlyPaths={folder}:{INSIDE}"] if kind == "service" else []
        inside.append(f"PodmanArgs={_mount(folder, INSIDE)}")
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


def _mount(source: str, target: str) -> str:
    # Unlike --volume= it takes paths with colons.
    return f"--mount=type=bind,src={source},dst={target},ro"


def secret(name: UnitName, variable: str) -> str:
    """Return podman's name for the secret of a unit's variable: letters, digits, ".", "_" and "-"."""
    digest = hashlib.sha256(f"{name}\0{variable}".encode()).hexdigest()[:16]
    return f"kirsch-{re.sub('[^A-Za-z0-9]+', '-', name.text)[:60].strip('-')}-{digest}"


def _secret_commands(name: UnitName, variables: Iterable[str]) -> list[str]:
    """Before a container starts its variables become podman's secrets, and after it they go. podman keeps no
    value: its driver "shell" reads it where we have it, each time it is wanted."""
    driver = (
        "--driver=shell --driver-opts=list=true --driver-opts=delete=true "
        '--driver-opts="store=cat >/dev/null" --driver-opts="lookup=cat $$2"'
    )
    script = (
        f'make() {{ echo . | podman secret create {driver} "$$1" - >/dev/null; }}; '
        # After a crash it is there still.
        'one() { make "$$@" 2>/dev/null || { podman secret rm "$$1" >/dev/null; make "$$@"; }; }; '
    )
    each = " && ".join(f"one {secret(name, v)} /{variable_file(name, v)}" for v in variables)
    names = " ".join(secret(name, v) for v in variables)
    return [
        f"ExecStartPre=/bin/sh -c '{script}{each}'",
        f"ExecStopPost=-/bin/sh -c 'exec podman secret rm {names} >/dev/null 2>&1'",
    ]


def environment_text(environment: Mapping[str, str]) -> str:
    r"""Variables as EnvironmentFile= reads them (systemd.exec(5)): in double quotes, in which a backslash
    makes " \ ` and $ stand for themselves, and a line may end; no specifiers are expanded there."""
    lines = []
    for name, value in environment.items():
        escaped = "".join(f"\\{each}" if each in '"\\`$' else each for each in value)
        lines.append(f'{name}="{escaped}"\n')
    return "".join(lines)


def is_ours(drop_in: bytes | None) -> bool:
    """Return True if a drop-in has kirsch's marker."""
    return drop_in is not None and drop_in.startswith(MARKER.encode())
