"""Settings in /etc/kirsch/kirschd.toml: which cluster a machine is of, how it is reached and reaches
others."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kirsch.cluster.model.certificates import Certificates
from kirsch.cluster.network.state import MTU, OVERHEAD
from kirsch.cluster.network.subnet import Subnet, SubnetError

MACHINE_ID = Path("/etc/machine-id")
SECRETS = Path("/etc/kirsch/secrets.key")
RUNTIMES = ("systemd", "process")
REBALANCE = ("auto", "manual")
# RFC 8200: what IPv6 asks of a link; and what Ethernet's jumbo frames leave.
LEAST_MTU, MOST_MTU = 1280, 9000 - OVERHEAD
METADATA_KEY = re.compile(r"[A-Za-z0-9_.-]+")

TEXTS = (
    "cluster",
    "name",
    "address",
    "listen",
    "state",
    "run",
    "runtime",
    "machine-id",
    "secrets",
    "rebalance",
)
KNOWN = (*TEXTS, "etcd", "replace-voters", "metadata", "network", "tls")
# Seconds that a machine that keeps etcd is away before another takes its place: longer than a restart.
PATIENCE = 900.0


class SettingsError(Exception):
    """A setting that kirschd cannot run with, in one line."""


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """The flat network: the cluster's subnet, and the bytes that a packet in it has at most."""

    subnet: Subnet
    mtu: int = MTU


@dataclass(frozen=True, slots=True)
class Settings:
    """One machine's settings.

    `address` is where other machines reach it, `listen` where its API is over TCP (None: the Unix socket
    only). `state` is what outlasts a reboot, `run` holds the sockets. `runtime` is "systemd", or "process"
    for a machine without it, whose units are children of kirschd. `machine_id` None is /etc/machine-id's.
    `secrets` is the file with the key that secrets are sealed with.
    `network` None is a cluster without a flat network. `rebalance` is "auto", or "manual" for a leader that
    moves nothing for the sake of Spread=. `replace_voters` is how many seconds a machine that keeps etcd is
    away before a leader gives its place to another; 0: only people do.
    """

    cluster: str
    name: str
    address: str
    etcd: tuple[str, ...]
    listen: tuple[str, int] | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    certificates: Certificates | None = None
    state: Path = Path("/var/lib/kirsch")
    run: Path = Path("/run/kirsch")
    runtime: str = "systemd"
    machine_id: str | None = None
    secrets: Path = SECRETS
    network: NetworkSettings | None = None
    rebalance: str = "auto"
    replace_voters: float = PATIENCE

    @classmethod
    def parse(cls, text: str) -> "Settings":
        """From TOML. Raises SettingsError: unknown and missing keys too, and `listen` without [tls]."""
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"is not TOML: {error}") from None
        for key in values:
            if key not in KNOWN:
                raise SettingsError(f"{key} is no setting; there are {', '.join(KNOWN)}")
        texts = {key: _text(values, key) for key in TEXTS if key in values}
        for key in ("cluster", "name", "address"):
            if key not in texts:
                raise SettingsError(f"{key} is missing")
        certificates = _certificates(values.get("tls"))
        runtime = texts.get("runtime", "systemd")
        if runtime not in RUNTIMES:
            raise SettingsError(f"runtime is to be one of {', '.join(RUNTIMES)}, not {runtime!r}")
        rebalance = texts.get("rebalance", "auto")
        if rebalance not in REBALANCE:
            raise SettingsError(f"rebalance is to be one of {', '.join(REBALANCE)}, not {rebalance!r}")
        listen = _listen(texts["listen"]) if "listen" in texts else None
        if listen and certificates is None:
            raise SettingsError(
                "listen needs [tls]: over TCP both sides show certificates, or nothing is spoken"
            )
        return cls(
            cluster=texts["cluster"],
            name=texts["name"],
            address=texts["address"],
            etcd=_endpoints(values.get("etcd"), secure=certificates is not None),
            listen=listen,
            metadata=_metadata(values.get("metadata", {})),
            certificates=certificates,
            state=_absolute("state", texts.get("state", "/var/lib/kirsch")),
            run=_absolute("run", texts.get("run", "/run/kirsch")),
            runtime=runtime,
            machine_id=_machine_id("machine-id", texts["machine-id"]) if "machine-id" in texts else None,
            secrets=_absolute("secrets", texts.get("secrets", str(SECRETS))),
            network=_network(values.get("network")),
            rebalance=rebalance,
            replace_voters=_seconds("replace-voters", values.get("replace-voters", PATIENCE)),
        )

    @classmethod
    def read(cls, path: Path) -> "Settings":
        """From a file. Raises SettingsError, which names it."""
        try:
            return cls.parse(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError(f"cannot read {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise SettingsError(f"{path}: is not UTF-8") from None
        except SettingsError as error:
            raise SettingsError(f"{path}: {error}") from None

    def machine(self) -> str:
        """The machine's id. Raises SettingsError where /etc/machine-id says none (machine-id(5))."""
        if self.machine_id is not None:
            return self.machine_id
        try:
            found = MACHINE_ID.read_text().strip()
        except (OSError, UnicodeDecodeError):
            found = ""
        return _machine_id(str(MACHINE_ID), found)


def _text(values: Mapping[str, Any], key: str) -> str:
    value = values[key]
    if not isinstance(value, str) or not value or not value.isprintable():
        raise SettingsError(f"{key} is to be a text of one line")
    return value


def _endpoints(value: Any, secure: bool) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise SettingsError('etcd is missing: name the store, such as etcd = ["https://10.0.0.1:2379"]')
    for endpoint in value:
        try:
            parts = urlsplit(endpoint) if isinstance(endpoint, str) else None
            there = parts and parts.scheme in ("http", "https") and parts.hostname and parts.port
        except ValueError:
            parts, there = None, None
        if parts is None or not there or parts.path.strip("/"):
            raise SettingsError(f"etcd: {endpoint!r} is no https://ADDRESS:PORT")
        if parts.scheme == "https" and not secure:
            raise SettingsError(f"etcd: {endpoint} needs [tls]")
    return tuple(value)


def _listen(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not re.fullmatch("[0-9]{1,5}", port, re.ASCII) or int(port) > 65535:
        raise SettingsError(f"listen: {text!r} is no ADDRESS:PORT")
    return host.strip("[]"), int(port)


def _metadata(values: Any) -> Mapping[str, str]:
    if not isinstance(values, dict):
        raise SettingsError("metadata is to be a table")
    for key, value in values.items():
        if not METADATA_KEY.fullmatch(key) or not isinstance(value, str) or not value.isprintable():
            raise SettingsError(f"metadata: {key!r} is to be a key of letters, digits, _ . - with a text")
    return values


def _seconds(key: str, value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < float("inf"):
        raise SettingsError(f"{key} is to be a number of seconds, 0 for never")
    return float(value)


def _network(values: Any) -> NetworkSettings | None:
    if values is None:
        return None
    if not isinstance(values, dict) or not {"subnet"} <= values.keys() <= {"subnet", "mtu"}:
        raise SettingsError("[network] is to have subnet, perhaps mtu, and nothing else")
    mtu = values.get("mtu", MTU)
    if not isinstance(mtu, int) or not LEAST_MTU <= mtu <= MOST_MTU:
        raise SettingsError(f"network.mtu is to be a number from {LEAST_MTU} to {MOST_MTU}")
    try:
        return NetworkSettings(Subnet.parse(_text(values, "subnet")), mtu)
    except SubnetError as error:
        raise SettingsError(f"network.subnet: {error}") from None


def _certificates(values: Any) -> Certificates | None:
    if values is None:
        return None
    names = ("authority", "certificate", "key")
    if not isinstance(values, dict) or set(values) - {"users"} != set(names):
        raise SettingsError(f"[tls] is to have {', '.join(names)}, perhaps users, and nothing else")
    paths = {
        name: _absolute(f"tls.{name}", _text(values, name)) for name in (*names, "users") if name in values
    }
    return Certificates(**paths)


def _absolute(key: str, text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise SettingsError(f"{key}: {text!r} is to be a path from the root")
    return path


def _machine_id(where: str, text: str) -> str:
    if not re.fullmatch("[0-9a-f]{32}", text):
        raise SettingsError(f"{where}: {text!r} is no machine id of 32 hexadecimal digits (machine-id(5))")
    return text
