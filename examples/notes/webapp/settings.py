"""Settings: what the environment says about where to listen and where the database is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import URL
from sqlalchemy.exc import ArgumentError

from kirsch.sql import database_url

DRIVER = "postgresql+psycopg"


class SettingsError(ValueError):
    """A variable is missing or wrong; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to listen (`address`, `port`), the database's URL, the name of this instance, the names, beside
    local ones, under which browsers may ask for the application, the seconds between SIGTERM and the end of
    service, and the format of the log (text, json)."""

    address: str
    port: int
    database: URL
    instance: str
    hosts: frozenset[str]
    drain: float
    log: Literal["text", "json"]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read them from the variables kirsch and its links give a unit. Raises SettingsError."""
        address = environment.get("KIRSCH_ADDRESS") or "127.0.0.1"
        port = _port("PORT", environment.get("PORT") or "8080")
        return cls(
            address=address,
            port=port,
            database=_database(environment),
            instance=_instance(environment) or f"{address}:{port}",
            hosts=frozenset(environment.get("NOTES_HOSTS", "").lower().split()),
            drain=_seconds("NOTES_DRAIN", environment.get("NOTES_DRAIN") or "2"),
            log=_log_format(environment.get("NOTES_LOG") or "text"),
        )


def _database(environment: Mapping[str, str]) -> URL:
    if given := environment.get("DATABASE_URL"):
        return _parse_url(given)
    user = _required(environment, "POSTGRES_ENV_POSTGRES_USER", "name it in the database unit's ExposeEnv=")
    password = environment.get("POSTGRES_PASSWORD") or environment.get("POSTGRES_ENV_POSTGRES_PASSWORD")
    if not password:
        raise SettingsError("POSTGRES_PASSWORD is not set: give it to this unit, or set DATABASE_URL")
    return URL.create(
        DRIVER,
        username=user,
        password=password,
        host=_required(environment, "POSTGRES_PORT_5432_TCP_ADDR", "link the unit (Link=webdb:postgres)"),
        port=_port("POSTGRES_PORT_5432_TCP_PORT", environment.get("POSTGRES_PORT_5432_TCP_PORT") or "5432"),
        # As in the official image, the database is named after the user unless it has a name.
        database=environment.get("POSTGRES_ENV_POSTGRES_DB") or user,
    )


def _parse_url(text: str) -> URL:
    try:
        url = database_url(text)
    except (ArgumentError, ValueError):
        # The text is left out of the message: it may hold a password.
        raise SettingsError(
            "DATABASE_URL is not a URL like postgresql://user:password@host:5432/notes"
        ) from None
    if url.drivername != DRIVER:
        raise SettingsError(
            f"DATABASE_URL names {url.drivername}: the notes are kept in PostgreSQL (postgresql://)"
        )
    return url


def _required(environment: Mapping[str, str], name: str, advice: str) -> str:
    value = environment.get(name)
    if not value:
        raise SettingsError(f"{name} is not set: {advice}, or set DATABASE_URL")
    return value


def _port(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise SettingsError(f"{name} is {text!r}: a port is a number from 1 to 65535")
    return int(text)


def _seconds(name: str, text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]+)?", text):
        raise SettingsError(f"{name} is {text!r}: it is a number of seconds, less than 1000")
    return float(text)


def _log_format(text: str) -> Literal["text", "json"]:
    if text not in ("text", "json"):
        raise SettingsError(f"NOTES_LOG is {text!r}: it is text or json")
    return "json" if text == "json" else "text"


def _instance(environment: Mapping[str, str]) -> str:
    """The unit's name without its type: `notes@1` of `notes@1.container`."""
    return environment.get("KIRSCH_UNIT", "").rpartition(".")[0]
