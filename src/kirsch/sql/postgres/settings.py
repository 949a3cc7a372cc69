"""Settings read from the environment and checked: values in, a value or one clear line out."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# NAMEDATALEN - 1: PostgreSQL would cut a longer name silently.
MAX_NAME_BYTES = 63


class PostgresError(Exception):
    """PostgreSQL cannot be started as asked; str() is one line for a person."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one PostgreSQL. `password` is None where the environment has none."""

    data: Path
    user: str = "postgres"
    database: str = "postgres"
    password: str | None = field(default=None, repr=False)
    address: str = "127.0.0.1"
    port: int = 5432
    initdb_arguments: tuple[str, ...] = ()
    binaries: Path | None = None
    account: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read the variables named in the package's docstring. Raises PostgresError."""
        user = environment.get("POSTGRES_USER") or "postgres"
        database = environment.get("POSTGRES_DB") or user
        _check_name("POSTGRES_USER", user)
        _check_name("POSTGRES_DB", database)
        binaries = environment.get("KIRSCH_POSTGRES_BIN")
        return cls(
            data=_data(environment),
            user=user,
            database=database,
            password=_password(environment),
            address=environment.get("KIRSCH_ADDRESS") or "127.0.0.1",
            port=_port(environment.get("PGPORT") or "5432"),
            initdb_arguments=_arguments(environment.get("POSTGRES_INITDB_ARGS", "")),
            binaries=Path(binaries).absolute() if binaries else None,
            account=environment.get("KIRSCH_POSTGRES_USER") or None,
        )


def _data(environment: Mapping[str, str]) -> Path:
    # systemd separates several state directories by colons; the first is the unit's main one.
    state = environment.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(environment.get("PGDATA") or Path(state, "data")).absolute()


def _password(environment: Mapping[str, str]) -> str | None:
    password, file = environment.get("POSTGRES_PASSWORD"), environment.get("POSTGRES_PASSWORD_FILE")
    if password and file:
        raise PostgresError("POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE are both set: set one of them")
    if file:
        try:
            password = Path(file).read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise PostgresError(f"POSTGRES_PASSWORD_FILE={file} cannot be read: {reason}") from error
        if not password:
            raise PostgresError(f"POSTGRES_PASSWORD_FILE={file} is empty: write the password into it")
    # initdb reads the first line of its --pwfile only.
    if password and ("\n" in password or "\r" in password):
        raise PostgresError("the password of POSTGRES_USER has more than one line")
    return password or None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise PostgresError(f"PGPORT={text} is not a port: give a number from 1 to 65535")
    return int(text)


def _arguments(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise PostgresError(f"POSTGRES_INITDB_ARGS cannot be split into words: {error}") from error


def _check_name(variable: str, name: str) -> None:
    if len(name.encode()) > MAX_NAME_BYTES:
        raise PostgresError(f"{variable} is longer than the {MAX_NAME_BYTES} bytes PostgreSQL allows a name")
    if not name.isprintable():
        raise PostgresError(f"{variable} holds a character that cannot be printed")
