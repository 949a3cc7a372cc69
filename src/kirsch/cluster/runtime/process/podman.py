"""Containers under the process runtime: a `.container` without [X-Kirsch-Process], run by podman.

`podman run` stays in the foreground, as a unit's process like any other: its lines are the container's, and
what it started is below the unit's shim. Containers of one kirschd share a network of podman's, in which each
has an address for life; exposed ports are published at the unit's own loopback address, so that processes
reach a container and containers reach each other. No DNS is asked: links are in the container's hosts file.
"""

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from kirsch.cluster.model.podman import parse_version
from kirsch.cluster.runtime.base import ENDPOINTS, Prepared
from kirsch.cluster.runtime.command_line import CommandLine
from kirsch.cluster.runtime.directives import Section
from kirsch.cluster.runtime.environment import parse_assignment
from kirsch.cluster.runtime.host import Host
from kirsch.cluster.runtime.known import mistake
from kirsch.cluster.runtime.service import Service, read_podman_service
from kirsch.cluster.runtime.status import Statuses
from kirsch.unit import Options, UnitError, UnitFile, UnitName, parse_boolean, parse_timespan, split_words

LABEL = "io.kirsch.state"
TIMEOUT = 60.0  # seconds, for a call of podman
STOP = 10  # seconds, as podman-stop(1) has them
SECRETS = "/run/secrets"
SOCKET = "/run/kirsch/endpoints"  # where a container of the host's network finds its endpoints socket
OLDEST = (4, 3)  # podman before that has other networks, and other secrets
# Variables of our own that podman needs: where a user's containers are, how registries are reached.
PASSED = (
    *("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "DBUS_SESSION_BUS_ADDRESS", "TMPDIR"),
    *("CONTAINERS_CONF", "CONTAINERS_REGISTRIES_CONF", "CONTAINERS_STORAGE_CONF", "REGISTRY_AUTH_FILE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
)
# Directives of [Container] that are one option of podman-run(1): with the last value, with each value, with
# each word of each value, or without one.
LAST = {
    "User": "--user",
    "WorkingDir": "--workdir",
    "HostName": "--hostname",
    "ShmSize": "--shm-size",
    "StopSignal": "--stop-signal",
    "PidsLimit": "--pids-limit",
    "Memory": "--memory",
    "Timezone": "--tz",
    "UserNS": "--userns",
}
EACH = {
    "AddDevice": "--device",
    "AddHost": "--add-host",
    "DNS": "--dns",
    "DNSOption": "--dns-option",
    "DNSSearch": "--dns-search",
    "GroupAdd": "--group-add",
    "Mount": "--mount",
    "Secret": "--secret",
    "Tmpfs": "--tmpfs",
    "Ulimit": "--ulimit",
}
WORDS = {
    "AddCapability": "--cap-add",
    "Annotation": "--annotation",
    "DropCapability": "--cap-drop",
    "Environment": "--env",
    "Label": "--label",
    "Sysctl": "--sysctl",
}
SWITCHES = {
    "EnvironmentHost": "--env-host",
    "NoNewPrivileges": "--security-opt=no-new-privileges",
    "ReadOnly": "--read-only",
    "RunInit": "--init",
}
# Read elsewhere, or kirsch's own affair: names, addresses, health, what systemd is told.
READ = frozenset(
    [
        *("Image", "Exec", "Entrypoint", "EnvironmentFile", "Volume", "Network", "PodmanArgs", "PublishPort"),
        *("Pull", "StopTimeout", "ContainerName", "AutoUpdate", "Notify", "NetworkAlias", "ServiceName"),
        *("LogDriver", "LogOpt", "HealthCmd", "HealthInterval", "HealthTimeout", "HealthRetries"),
        *("HealthStartPeriod", "HealthOnFailure", "Group"),
    ]
)
REFUSED = {"Pod": "pods are systemd's", "Rootfs": "write Image=", "IP": "kirsch gives addresses"}
# Networks that need none of ours (podman-run(1)).
OTHERS = ("host", "none", "private")


def check(host: Host, name: UnitName, file: UnitFile) -> list[str]:
    """Return warnings for what a container would not have here. Raises UnitError if it cannot run."""
    section = Section(name, file, "Container", host.specifiers)
    _image(section)
    _arguments(section)
    list(_options(section, host.directory))
    if not shutil.which("podman", path=host.path):
        raise file.error(
            "it needs podman, which is not on PATH, or a section [X-Kirsch-Process] to run without"
        )
    for entry in file.entries("Container"):
        if words := mistake(entry):
            section.warn_of_name(entry, words)
        elif entry.value and entry.name not in {*LAST, *EACH, *WORDS, *SWITCHES, *READ}:
            section.warn(entry, f"{entry.name}= is not honoured by the process runtime")
    network = section.text("Network")
    if network != "host" and Options.parse(file, name).endpoints:
        section.warn(
            file.get("X-Kirsch", "Endpoints"),
            "no container reaches the addresses that Endpoints= tells: give it Network=host, or "
            "[X-Kirsch-Process] to run without podman",
        )
    if network and network not in OTHERS:
        entry = section.entries("Network")[-1]
        section.warn(entry, f"Network={network} is not honoured: all units of an application share a network")
    return [*read_podman_service(name, file, host.specifiers)[1], *section.warnings]


@dataclass(frozen=True, slots=True)
class Network:
    """A network of podman's: its name and its addresses."""

    name: str
    subnet: IPv4Network

    def address(self, loopback: str) -> str:
        """Return the address of a container in it whose unit has a loopback address. The gateway has the
        network's first address. Raises ValueError where it has no more."""
        number = int(IPv4Address(loopback)) % 256 + 1
        if number > 254:
            raise ValueError("a computer runs at most 253 containers of an application")
        return str(self.subnet.network_address + number)


class Containers:
    """Containers of one kirschd. Everything here blocks; `state` is the folder of its state."""

    def __init__(self, host: Host, state: Path) -> None:
        self._host = host
        self._id = hashlib.sha256(str(state.absolute()).encode()).hexdigest()[:12]
        # There while containers may be left: a kirschd that was killed removes none.
        self._marker = state / "containers"
        self._network: Network | None = None
        self._swept = False
        # Addresses of units in the network, by their loopback addresses.
        self._addresses: dict[str, str] = {}

    def sweep(self) -> None:
        """Remove what a kirschd that was killed has left here."""
        if not self._swept and self._marker.exists():
            self._remove()
        self._swept = True

    def close(self) -> None:
        """Remove the network, and what is left in it."""
        if self._network is not None:
            self._remove()
            self._network = None

    def register(self, prepared: Prepared) -> None:
        """Give a unit its address in the network. Raises UnitError."""
        try:
            if self._network is None:
                self._marker.touch()
                self._network = self._made()
            loopback = prepared.environment.get("KIRSCH_ADDRESS", "")
            if loopback:
                self._addresses[loopback] = self._network.address(loopback)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise UnitError(f"{prepared.name}: {_told(error)}", prepared.file.file) from None

    def service(self, prepared: Prepared) -> Service:
        """Return the service that runs podman for a registered unit. Raises UnitError."""
        name, file = prepared.name, prepared.file
        service, _ = read_podman_service(name, file, self._host.specifiers)
        section = Section(name, file, "Container", self._host.specifiers)
        box = self._name(name)
        grace = round(section.last("StopTimeout", parse_timespan) or STOP)
        before, after = [*service.start_pre], []
        added = [f"--env={key}={value}" for key, value in self._environment(prepared, section).items()]
        for options, start, stop in self._secrets(prepared, box):
            added += options
            before += start
            after += stop
        words = [
            *("run", "--replace", f"--name={box}", f"--label={LABEL}={self._id}", "--log-driver=none"),
            *("--no-healthcheck", f"--stop-timeout={grace}", *self._connected(prepared, section)),
            *_options(section, self._host.directory),
            *added,
        ]
        if entrypoint := section.text("Entrypoint"):
            words.append(f"--entrypoint={entrypoint}")
        words.append(_image(section))
        # As Quadlet's ExecStart= is read: in Exec= two dollar signs are one, and ${NAME} is a variable.
        literal = [word.replace("$", "$$") for word in words]
        return replace(
            service,
            start=(CommandLine("ExecStart", "podman", (*literal, *_arguments(section))),),
            start_pre=tuple(before),
            # podman run exits as the container does: with 143 after SIGTERM.
            success=service.success | Statuses.parse([str(128 + signal.SIGTERM)]),
            stop=(*service.stop, _podman("ExecStop", "stop", "--ignore", f"--time={grace}", box)),
            stop_post=(
                *service.stop_post,
                _podman("ExecStopPost", "rm", "--force", "--ignore", "--volumes", "--time=0", box),
                *after,
            ),
            timeout_stop=max(service.timeout_stop, grace + 10.0),
            pass_environment=(*service.pass_environment, *PASSED),
            inside=("podman", "exec", box),
        )

    def _name(self, name: UnitName) -> str:
        return f"kirsch-{self._id}-{re.sub('[^A-Za-z0-9_.-]', '-', name.text.rpartition('.')[0])}"

    def _environment(self, prepared: Prepared, section: Section) -> Mapping[str, str]:
        """Return the variables that the cluster adds, with addresses as the container sees them."""
        own = prepared.environment.get("KIRSCH_ADDRESS", "")
        variables = dict(prepared.environment)
        if section.text("Network") != "host":
            for text, address in self._addresses.items():
                if text == own:
                    continue
                pattern = re.compile(rf"(?<![\d.]){re.escape(text)}(?![\d.])")
                variables = {key: pattern.sub(address, value) for key, value in variables.items()}
            # Ports are published by podman; inside, a program is to be reached from outside.
            variables["KIRSCH_ADDRESS"] = "0.0.0.0"  # noqa: S104
        if prepared.credentials:
            variables["CREDENTIALS_DIRECTORY"] = SECRETS
        if prepared.endpoints and section.text("Network") == "host":
            variables[ENDPOINTS] = SOCKET
        return variables

    def _connected(self, prepared: Prepared, section: Section) -> Iterator[str]:
        """Options of the network: addresses, names of others, published ports. Raises UnitError."""
        options = Options.parse(prepared.file, prepared.name)
        network = section.text("Network")
        if network in OTHERS:
            yield f"--network={network}"
        if network in ("none", "private"):
            return
        if network == "host":
            yield from (f"--add-host={name}:{address}" for name, address in prepared.hosts.items())
            if prepared.endpoints:
                yield f"--volume={prepared.endpoints}:{SOCKET}"
            return
        loopback = prepared.environment.get("KIRSCH_ADDRESS", "")
        if self._network is not None and loopback in self._addresses:
            yield f"--network={self._network.name}"
            yield f"--ip={self._addresses[loopback]}"
        for name, address in prepared.hosts.items():
            if address not in self._addresses:
                raise UnitError(
                    f"{prepared.name}: it links to {name}, which is a process here, and no container reaches "
                    "that: give both [X-Kirsch-Process], or neither",
                    prepared.file.file,
                )
            yield f"--add-host={name}:{self._addresses[address]}"
        everywhere: dict[tuple[int, str], int] = {}
        for port in options.published:
            at = port.host_ip or "127.0.0.1"
            where = f"{f'[{at}]' if ':' in at else at}:{port.host or ''}:{port.container}"
            yield f"--publish={where}/{port.protocol}"
            if at == "0.0.0.0":  # noqa: S104
                everywhere[port.host, port.protocol] = port.container
        lowest = 1 if os.geteuid() == 0 else unprivileged_port()
        for each in options.expose:
            number, protocol = each.number, each.protocol
            taken = everywhere.get((number, protocol))
            if taken not in (None, number):
                raise UnitError(
                    f"{prepared.name}: PublishPort= takes port {number} of every address for its port "
                    f"{taken}, so Expose={number} has none: write PublishPort=IP:{number}:{taken}",
                    prepared.file.file,
                )
            if taken is None and number >= lowest and loopback:
                yield f"--publish={loopback}:{number}:{number}/{protocol}"

    def _secrets(
        self, prepared: Prepared, box: str
    ) -> Iterator[tuple[list[str], list[CommandLine], list[CommandLine]]]:
        """Options for each secret, what makes it before a start, and what removes it after a stop.

        podman keeps no value: its driver "shell" reads it where we have it, in memory. Raises UnitError.
        """
        try:
            secrets = {name: _written(f"{box}-{name}", value) for name, value in prepared.secrets.items()}
            files = {name: _readable(box, name, value) for name, value in prepared.credentials.items()}
        except OSError as error:
            raise UnitError(f"{prepared.name}: a secret cannot be kept: {error.strerror}") from None
        # No secret of podman's: it cannot mount one below a read-only root.
        mounts = [f"--volume={path}:{SECRETS}/{name}:ro,Z" for name, path in files.items()]
        if mounts:
            yield mounts, [], []
        for name, path in secrets.items():
            secret = path.name
            driver = "--driver=shell --driver-opts=list=true --driver-opts=delete=true"
            store = f"--driver-opts='store=cat >/dev/null' --driver-opts=lookup={shlex.quote(f'cat {path}')}"
            script = f"echo . | podman secret create {driver} {store} {secret} - >/dev/null"
            remove = _podman("ExecStopPost", "secret", "rm", secret, tolerant=True)
            make = CommandLine("ExecStartPre", "/bin/sh", ("-c", script), literal=True)
            silent = f"podman secret rm {secret} >/dev/null 2>&1 || true"
            clear = CommandLine("ExecStartPre", "/bin/sh", ("-c", silent), literal=True)
            yield [f"--secret={secret},type=env,target={name}"], [clear, make], [remove]

    def _made(self) -> Network:
        name = f"kirsch-{self._id}"
        version = self._run("version", "--format", "{{.Client.Version}}").strip()
        if parse_version(version) < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            raise ValueError(f"containers need podman {oldest} or newer; this is {version or 'an older one'}")
        if not (found := self._run("network", "inspect", name, fails=True)):
            self._run("network", "create", "--disable-dns", f"--label={LABEL}={self._id}", name)
            found = self._run("network", "inspect", name)
        return Network(name, IPv4Network(json.loads(found)[0]["subnets"][0]["subnet"]))

    def _remove(self) -> None:
        try:
            mine = f"label={LABEL}={self._id}"
            if left := self._run("ps", "--all", "--quiet", "--filter", mine).split():
                self._run("rm", "--force", "--ignore", "--volumes", "--time=0", *left)
            secrets = self._run("secret", "ls", "--format", "{{.Name}}").split()
            if ours := [name for name in secrets if name.startswith(f"kirsch-{self._id}-")]:
                self._run("secret", "rm", *ours)
            self._run("network", "rm", "--force", f"kirsch-{self._id}", fails=True)
            for path in _memory().glob(f"kirsch-{self._id}-*"):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            self._marker.unlink(missing_ok=True)
        except (OSError, subprocess.SubprocessError):
            pass  # the marker stays, and the next kirschd tries again

    def _run(self, *arguments: str, fails: bool = False) -> str:
        done = subprocess.run(
            ["podman", *arguments],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT, check=not fails,
            env={**self._host.environment, "PATH": self._host.path},
        )  # fmt: skip
        return done.stdout if done.returncode == 0 else ""


def _podman(directive: str, *arguments: str, tolerant: bool = False) -> CommandLine:
    return CommandLine(directive, "podman", arguments, tolerant=tolerant, literal=True)


def _options(section: Section, directory: Path) -> Iterator[str]:
    """Options of podman-run(1) that directives of [Container] are. Raises UnitError."""
    for name, reason in REFUSED.items():
        for entry in section.entries(name):
            raise section.file.error(f"{name}= cannot be given to a container here: {reason}", entry)
    for directive, option in LAST.items():
        if (value := section.text(directive)) is not None:
            group = section.text("Group") if directive == "User" else None
            yield f"{option}={value}" + (f":{group}" if group else "")
    for directive, option in EACH.items():
        yield from (
            f"{option}={section.parse(entry, section.specify)}" for entry in section.entries(directive)
        )
    for directive, option in WORDS.items():
        words = section.words(section.entries(directive), str)
        if directive == "Environment":
            for entry in section.entries(directive):
                section.parse(entry, lambda text: [parse_assignment(word) for word in split_words(text)])
        yield from (f"{option}={word}" for word in words)
    for directive, option in SWITCHES.items():
        if section.last(directive, parse_boolean):
            yield option
    for entry in section.entries("EnvironmentFile"):
        text = section.parse(entry, section.specify)
        path = directory / text.removeprefix("-")
        if not text.startswith("-") or path.exists():
            yield f"--env-file={path}"
    for entry in section.entries("Volume"):
        yield f"--volume={_volume(section.parse(entry, section.specify), directory)}"
    if pull := section.text("Pull"):
        yield f"--pull={pull}"
    elif (section.text("Image") or "").startswith("localhost/"):
        yield "--pull=never"
    yield from section.words(section.entries("PodmanArgs"), str)


def _volume(text: str, directory: Path) -> str:
    """Return a volume as podman-run(1) has it: paths from the application's folder, names as Quadlet's."""
    source, colon, rest = text.partition(":")
    if not colon:
        return text
    if source.endswith(".volume"):
        return f"systemd-{source.removesuffix('.volume')}:{rest}"
    if source.startswith("."):
        return f"{(directory / source).resolve()}:{rest}"
    return f"{Path(source).expanduser()}:{rest}" if source.startswith("~") else text


def _image(section: Section) -> str:
    image = section.text("Image")
    if not image:
        raise section.file.error("it has no Image=, so there is nothing to run")
    return image


def _arguments(section: Section) -> list[str]:
    """Words of Exec=, the variables in them not yet replaced. Raises UnitError."""
    return section.words(section.entries("Exec")[-1:], str)


def _written(name: str, value: str) -> Path:
    """Keep a secret in memory where there is such a folder, for its owner alone. Raises OSError."""
    path = _memory() / name
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(value.encode("utf-8", "surrogateescape"))
    return path


def _readable(box: str, name: str, value: str) -> Path:
    """Keep a secret that whichever user of a container may read, in a folder of its owner alone. Raises
    OSError."""
    folder = _memory() / f"{box}-files"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = _written(f"{folder.name}/{name}", value)
    path.chmod(0o444)
    return path


def _memory() -> Path:
    """Return a folder in memory: the user's own, or root's."""
    return Path(os.environ.get("XDG_RUNTIME_DIR") or ("/run" if os.geteuid() == 0 else "/dev/shm"))  # noqa: S108


def unprivileged_port() -> int:
    """Return the lowest port that a user may bind (ip-sysctl)."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        return 1024


def _told(error: Exception) -> str:
    """Return the last line of what podman said, or the error."""
    said = (
        (error.stderr or "").strip().splitlines() if isinstance(error, subprocess.CalledProcessError) else []
    )
    return f"podman: {said[-1]}" if said else str(error)
