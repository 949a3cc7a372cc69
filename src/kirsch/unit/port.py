"""Ports: what a unit exposes to others of the cluster, and what it publishes on its machine."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address

from kirsch.unit.error import UnitError
from kirsch.unit.syntax import Entry

_PORT = re.compile(r"[0-9]{1,5}")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?")
_PUBLISHED = re.compile(
    r"""
    (?: (?: (?: \[(?P<v6>[^\]]*)\] | (?P<v4>[^:\[\]]*) ) : )?
        (?P<host>[^:\[\]]*) : )?
    (?P<container>[^:\[\]]*)
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Port:
    """A port that others may reach: its number, `tcp` or `udp`, and its name if it has one."""

    number: int
    protocol: str = "tcp"
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """A container's port on its machine: `host_ip` None is every address, `host` 0 any free port."""

    host_ip: str | None
    host: int
    container: int
    protocol: str = "tcp"
    entry: Entry | None = field(default=None, compare=False, repr=False)


def parse_port(text: str) -> Port:
    """Read PORT[/tcp|/udp] [NAME] of Expose=. Raises UnitError."""
    words = text.split()
    if not 1 <= len(words) <= 2:
        raise UnitError(f"{text!r} is not a port: write 8080, 8080/udp, or 5432 and a name")
    number, protocol = _split_protocol(words[0])
    name = words[1] if len(words) == 2 else None
    if name is not None and not _NAME.fullmatch(name):
        raise UnitError(f'"{name}" cannot name a port: letters, digits, "-", "_" and "." inside')
    return Port(parse_number(number), protocol, name)


def parse_published(text: str, entry: Entry | None = None) -> Iterator[Published]:
    """Read PublishPort= of podman-systemd.unit(5): [[IP:][HOST]:]CONTAINER[/PROTOCOL], a range as its ports.

    Raises UnitError.
    """
    ports, protocol = _split_protocol(text.strip())
    parts = _PUBLISHED.fullmatch(ports)
    if parts is None:
        raise UnitError(f"{text!r} is not a published port: write [[IP:][HOST]:]CONTAINER[/PROTOCOL]")
    host_ip = parts["v6"] if parts["v6"] is not None else parts["v4"] or None
    if host_ip is not None:
        _check_address(host_ip)
    containers = _range(parts["container"])
    hosts = _range(parts["host"]) if parts["host"] else [0] * len(containers)
    if len(hosts) != len(containers):
        raise UnitError(f"{text!r}: the two ranges differ in length ({len(hosts)} and {len(containers)})")
    for host, container in zip(hosts, containers, strict=True):
        yield Published(host_ip, host, container, protocol, entry)


def parse_number(text: str) -> int:
    """A port's number, 1 to 65535. Raises UnitError."""
    if not _PORT.fullmatch(text) or not 1 <= int(text) <= 65535:
        raise UnitError(f"{text!r} is not a port: a number from 1 to 65535")
    return int(text)


def _split_protocol(text: str) -> tuple[str, str]:
    number, slash, protocol = text.partition("/")
    if slash and protocol not in ("tcp", "udp"):
        raise UnitError(f'"{protocol}" is not a protocol: write tcp or udp')
    return number, protocol or "tcp"


def _range(text: str) -> list[int]:
    first, dash, last = text.partition("-")
    begin = parse_number(first)
    end = parse_number(last) if dash else begin
    if end < begin:
        raise UnitError(f"{text!r} is not a range of ports: it ends before it begins")
    return list(range(begin, end + 1))


def _check_address(text: str) -> None:
    try:
        ip_address(text)
    except ValueError:
        raise UnitError(f'"{text}" is not an IP address') from None
