"""Readiness checks, Health= of [X-Kirsch] or HealthCmd= of Quadlet's [Container], and roles: HealthRole=."""

import json
import math
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from kirsch.unit.error import UnitError
from kirsch.unit.port import parse_number
from kirsch.unit.value import parse_timespan

_RETRIES = re.compile(r"[1-9][0-9]{0,8}")
# A role is the end of a name in DNS: webdb-replica.
_ROLE = re.compile(r"[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Health:
    """A check. `kind` is "http" (`port` and `path`), "tcp" (`port`) or "command" (`command`, to be executed).

    The times, in seconds, and `retries` (failures in a row that make a unit unhealthy) are None where the
    file does not give them.
    """

    kind: Literal["http", "tcp", "command"]
    port: int = 0
    path: str = ""
    command: tuple[str, ...] = ()
    interval: float | None = None
    timeout: float | None = None
    retries: int | None = None
    start_period: float | None = None


def parse_health(text: str) -> Health:
    """Read http://:PORT/PATH or tcp://:PORT. Raises UnitError."""
    hint = "write http://:8080/readyz or tcp://:5432"
    try:
        url = urlsplit(text)
        if url.scheme not in ("http", "tcp") or not url.netloc:
            raise UnitError(f"{text!r} is not a health check: {hint}")
        host, _, port = url.netloc.rpartition(":")
    except ValueError:
        raise UnitError(f"{text!r} is not a health check: {hint}") from None
    if host:
        raise UnitError(f"{text!r} names a host: a unit is checked at its own address, {hint}")
    if url.scheme == "tcp":
        if url.path or url.query or url.fragment:
            raise UnitError(f"{text!r}: nothing follows the port of a tcp check")
        return Health("tcp", parse_number(port))
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    if not path.isascii() or not path.isprintable() or " " in path:
        raise UnitError(f"{text!r}: a path has no spaces, and other characters than ASCII as %NN")
    return Health("http", parse_number(port), path)


@dataclass(frozen=True, slots=True)
class Role:
    """A role that an instance may have, such as primary, and the check that says whether it has it."""

    name: str
    check: Health


def role_name(text: str) -> str:
    """Return the text if it can name a role. Raises UnitError."""
    if not _ROLE.fullmatch(text):
        raise UnitError(
            f'"{text}" cannot name a role: small letters, digits and "-" inside, a letter first, at most 32'
        )
    return text


def parse_role(text: str) -> Role:
    """Read ROLE CHECK of HealthRole=; a check is written as in Health= or HealthCmd=. Raises UnitError."""
    words = text.split(None, 1)
    if len(words) < 2:
        raise UnitError(f"{text!r} is not a role and its check: write primary http://:8008/primary")
    name, check = role_name(words[0]), words[1]
    if check.startswith(("http:", "tcp:")):
        return Role(name, parse_health(check))
    command = health_command(check)
    if not command:
        raise UnitError(f"{text!r} has no check: write {name} http://:8008/{name}")
    return Role(name, Health("command", command=command))


def health_command(text: str) -> tuple[str, ...]:
    """Return the command of HealthCmd= as podman reads it: JSON array, `CMD WORD...`, or line for /bin/sh.

    Empty for `none`, which switches the check off. Raises UnitError.
    """
    words = _array(text) or text.split()
    keyword = words[0].upper() if words else ""
    if keyword == "NONE":
        return ()
    if keyword == "CMD":
        command = words[1:]
    elif keyword == "CMD-SHELL":
        line = " ".join(words[1:])
        command = ["/bin/sh", "-c", line] if line else []
    elif _array(text) and len(words) > 1:
        command = words
    else:
        command = ["/bin/sh", "-c", words[0] if _array(text) else text]
    if not command:
        raise UnitError(f"{text!r} has no command")
    return tuple(command)


def parse_interval(text: str) -> float:
    """Parse a time span above 0, in seconds; `disable`, podman's word, is math.inf. Raises UnitError."""
    if text == "disable":
        return math.inf
    seconds = parse_timespan(text)
    if not seconds:
        raise UnitError(f"{text!r} is not above 0: write 1s or more")
    return seconds


def parse_retries(text: str) -> int:
    """Parse a number of checks in a row, 1 or more. Raises UnitError."""
    if not _RETRIES.fullmatch(text):
        raise UnitError(f"{text!r} is not a number of retries: write 1 or more")
    return int(text)


def _array(text: str) -> list[str]:
    """Return the strings of a JSON array; an empty list if `text` is something else."""
    try:
        array = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return array if isinstance(array, list) and all(isinstance(each, str) for each in array) else []
