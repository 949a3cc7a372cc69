"""Settings: what the environment says about where to listen and where the broker is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from kirsch.amqp import Broker, BrokerError, broker_from


class SettingsError(ValueError):
    """A variable is missing or wrong; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to listen (`address`, `port`), the broker, the name of this instance, the names, beside local
    ones, under which browsers may open the page, the seconds between SIGTERM and the end of service, and the
    format of the log."""

    address: str
    port: int
    broker: Broker
    instance: str
    hosts: frozenset[str]
    drain: float
    log: Literal["text", "json"]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read them from the variables kirsch and its links give a unit. Raises SettingsError."""
        address = environment.get("KIRSCH_ADDRESS") or "127.0.0.1"
        port = _port(environment.get("PORT") or "8080")
        try:
            broker = broker_from(environment)
        except BrokerError as error:
            raise SettingsError(str(error)) from None
        return cls(
            address=address,
            port=port,
            broker=broker,
            instance=environment.get("KIRSCH_UNIT", "").rpartition(".")[0] or f"{address}:{port}",
            hosts=frozenset(environment.get("CHAT_HOSTS", "").lower().split()),
            drain=_seconds(environment.get("CHAT_DRAIN") or "2"),
            log=_log_format(environment.get("CHAT_LOG") or "text"),
        )


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise SettingsError(f"PORT is {text!r}: a port is a number from 1 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]+)?", text):
        raise SettingsError(f"CHAT_DRAIN is {text!r}: it is a number of seconds, less than 1000")
    return float(text)


def _log_format(text: str) -> Literal["text", "json"]:
    if text not in ("text", "json"):
        raise SettingsError(f"CHAT_LOG is {text!r}: it is text or json")
    return "json" if text == "json" else "text"
