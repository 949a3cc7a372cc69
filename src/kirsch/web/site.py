"""Settings of a site, as the environment of a unit says."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


class SettingsError(ValueError):
    """A variable or an option is missing or wrong; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Site:
    """Place to listen at (`address`, `port`), the name of this instance, the names, beside local ones, under
    which browsers may ask for the site, the seconds between SIGTERM and the end of service, and the format of
    the log."""

    address: str
    port: int
    instance: str
    hosts: frozenset[str]
    drain: float
    log: Literal["text", "json"]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], prefix: str) -> "Site":
        """From what kirsch gives a unit (KIRSCH_ADDRESS, KIRSCH_UNIT), PORT, and PREFIX_HOSTS, PREFIX_DRAIN,
        PREFIX_LOG. Raises SettingsError."""
        address = environment.get("KIRSCH_ADDRESS") or "127.0.0.1"
        port = port_of("PORT", environment.get("PORT") or "8080")
        drain, log = f"{prefix}_DRAIN", f"{prefix}_LOG"
        return cls(
            address=address,
            port=port,
            # `notes@1` of `notes@1.container`.
            instance=environment.get("KIRSCH_UNIT", "").rpartition(".")[0] or f"{address}:{port}",
            hosts=frozenset(environment.get(f"{prefix}_HOSTS", "").lower().split()),
            drain=_seconds(drain, environment.get(drain) or "2"),
            log=_log_format(log, environment.get(log) or "text"),
        )


def port_of(name: str, text: str) -> int:
    """The port that a variable or an option called `name` says. Raises SettingsError."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise SettingsError(f"{name} is {text!r}: a port is a number from 1 to 65535")
    return int(text)


def _seconds(name: str, text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]+)?", text):
        raise SettingsError(f"{name} is {text!r}: it is a number of seconds, less than 1000")
    return float(text)


def _log_format(name: str, text: str) -> Literal["text", "json"]:
    if text not in ("text", "json"):
        raise SettingsError(f"{name} is {text!r}: it is text or json")
    return "json" if text == "json" else "text"
