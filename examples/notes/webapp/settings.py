"""Settings: what the environment says about where to listen and where the database is."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, takewhile

from sqlalchemy import URL
from sqlalchemy.exc import ArgumentError

from kirsch.sql import database_url
from kirsch.web import SettingsError, Site, port_of

DRIVER = "postgresql+psycopg"


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the site listens and how it behaves there, and the database's URL."""

    site: Site
    database: URL

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read them from the variables kirsch and its links give a unit. Raises SettingsError."""
        return cls(Site.from_environment(environment, "NOTES"), _database(environment))


def _database(environment: Mapping[str, str]) -> URL:
    if given := environment.get("DATABASE_URL"):
        return _parse_url(given)
    user = _required(environment, "POSTGRES_ENV_POSTGRES_USER", "name it in the database unit's ExposeEnv=")
    password = environment.get("POSTGRES_PASSWORD") or environment.get("POSTGRES_ENV_POSTGRES_PASSWORD")
    if not password:
        raise SettingsError("POSTGRES_PASSWORD is not set: give it to this unit, or set DATABASE_URL")
    host = _required(environment, "POSTGRES_PORT_5432_TCP_ADDR", "link the unit (Link=webdb:postgres)")
    port = port_of("POSTGRES_PORT_5432_TCP_PORT", environment.get("POSTGRES_PORT_5432_TCP_PORT") or "5432")
    # Of a database with replicas each may come to lead: the link numbers them.
    members = dict.fromkeys((host, *_members(environment)))
    one = len(members) == 1
    return URL.create(
        DRIVER,
        username=user,
        password=password,
        host=host if one else None,
        port=port if one else None,
        # As in the official image, the database is named after the user unless it has a name.
        database=environment.get("POSTGRES_ENV_POSTGRES_DB") or user,
        query={} if one else {"host": tuple(f"{each}:{port}" for each in members)},
    )


def _members(environment: Mapping[str, str]) -> list[str]:
    numbered = (environment.get(f"POSTGRES_{number}_PORT_5432_TCP_ADDR") for number in count(1))
    return [address for address in takewhile(bool, numbered) if address]


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
