"""secret set, list, rm: values go one way, from a file or a terminal to the cluster."""

import base64
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from kirsch.cli.completion import secrets
from kirsch.cli.errors import Failure, Misuse
from kirsch.cli.output import Column, table
from kirsch.cli.releases import NOW, wait, who
from kirsch.cli.values import JSON, NO_LEGEND, timeout
from kirsch.cli.verb import Noun, Options, argument, flag
from kirsch.cluster.api.client import UNITS, Client
from kirsch.unit.options import secret_name

SECRETS = "/kirsch/v1/secrets"
# As kirsch.cluster.secrets has it; its own words are for what gets past this one.
MOST = 64 << 10
POSTGRES_PORT = 5432

Row = Mapping[str, Any]

secret = Noun("secret")


def _used_by(row: Row, full: bool) -> str:
    return ", ".join(row["units"])


def _set_at(row: Row, full: bool) -> str:
    if row["set"] is None:
        return "missing"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["set"]))


COLUMNS: dict[str, Column] = {
    "secret": lambda row, full: str(row["name"]),
    "set": _set_at,
    "units": _used_by,
}


@secret.verb(
    "set",
    "set a secret to what is on standard input",
    argument("name", "NAME", "letters, digits, and - _ . inside", complete=secrets),
    flag("--new", help="fail if it is there already"),
    flag("--restart", help="restart the units that use it also where one of them is a database"),
    flag("--no-restart", help="restart no unit"),
    NOW,
    timeout(180, "give up waiting for the restart after this time"),
    JSON,
    text="It has at most 64 KiB; on a terminal it is asked for and not shown. Units ask for it by "
    "Secret=NAME in [X-Kirsch]. A unit that waits for it starts; those that run are restarted by a release, "
    "one instance of a service after another. The password of a database that exists is not changed by that: "
    "then no unit is restarted, and what is to be done is said.",
    example="kirsch secret set notes-database < password",
)
def set_(options: Options) -> int:
    """Set a secret, and restart the units that run with the old value."""
    if options.restart and options.no_restart:
        raise Misuse("--restart and --no-restart: give one of them")
    client = options.client()
    path = secret_path(options.name)
    value = _read(options.name)
    body: dict[str, Any] = {"value": base64.b64encode(value).decode(), "replace": not options.new}
    answer = client.put(path, body)
    lines = client.get(UNITS)["units"]
    running = _running(lines, answer["units"]) if not answer["created"] else []
    databases = _databases(lines, running)
    restart = bool(running) and not options.no_restart and (options.restart or not databases)
    if not options.json:
        print(f"Secret {options.name} is {'set' if answer['created'] else 'changed'}", flush=True)
    if restart:
        _restart(client, running, options)
    if options.json:
        print(json.dumps(answer | {"running": running, "restarted": restart}))
    elif restart:
        print(f"Restarted {' '.join(running)}")
    elif running:
        print(
            f"Running units have the old value until they are restarted: kirsch restart {' '.join(running)}"
        )
    if databases and not restart:
        print(
            f"{', '.join(databases)} is a database that exists: its password is changed in it, by ALTER "
            "ROLE, and not by a restart. Units that have the new value cannot log in before that",
            file=sys.stderr,
        )
    return 0


def _restart(client: Client, units: Sequence[str], options: Options) -> None:
    """Restart units by releases, and wait for these. Raises Failure: the secret stays changed."""
    change = [{"name": name, "desiredState": "launched", "again": True} for name in units]
    note = {"who": who(), "message": f"secret {options.name}", "now": options.now}
    for row in client.patch(UNITS, {"change": change, **note})["releases"]:
        try:
            wait(client, row, options.timeout)
        except Failure as error:
            raise Failure(f"secret {options.name} is changed, but {error}") from None


@secret.verb(
    "list",
    "list secrets, never their values",
    NO_LEGEND,
    JSON,
    text="It says when each was set, and which units use it.",
    example="kirsch secret list",
)
def list_(options: Options) -> int:
    """Print a table of secrets, without their values."""
    rows: list[Row] = options.client().get(SECRETS)["secrets"]
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    print(table(rows, COLUMNS, list(COLUMNS), legend=not options.no_legend), end="")
    return 0


@secret.verb(
    "rm",
    "forget secrets",
    argument("names", "NAME", many=True, complete=secrets),
    flag("--force", help="also one that units use"),
    JSON,
    text="A secret that a unit uses stays, unless --force is given: running units keep what they have, and "
    "wait for it at their next start.",
    example="kirsch secret rm notes-database",
)
def remove(options: Options) -> int:
    """Remove secrets, unless units use them."""
    client = options.client()
    removed = []
    for name in dict.fromkeys(options.names):
        client.delete(secret_path(name) + ("?force=yes" if options.force else ""))
        removed.append(name)
        if not options.json:
            print(f"Secret {name} is removed")
    if options.json:
        print(json.dumps({"removed": removed}))
    return 0


def secret_path(name: str) -> str:
    """Return a secret's path in the API. Raises UnitError if it cannot name a secret."""
    return f"{SECRETS}/{quote(secret_name(name), safe='')}"


def _read(name: str) -> bytes:
    """The value: the standard input to its end, or what is typed where nobody can see it."""
    if not sys.stdin.isatty():
        value = sys.stdin.buffer.read(MOST + 1)
    else:
        from getpass import getpass

        try:
            typed = getpass(f"Secret {name}: ")
            if typed != getpass("Once more: "):
                raise Failure("the two are not the same: nothing was set")
        except EOFError:
            raise Failure("nothing was typed: nothing was set") from None
        value = typed.encode(errors="surrogateescape")
    if not value:
        raise Failure(f"the value is empty: `kirsch secret set {name} < FILE`")
    if len(value) > MOST:
        raise Failure(f"the value has more than {MOST >> 10} KiB")
    return value


def _databases(lines: Sequence[Row], units: Sequence[str]) -> list[str]:
    """Return those of the units that serve at PostgreSQL's port."""
    found = {line["name"] for line in lines if POSTGRES_PORT in line["ports"]}
    return [name for name in units if name in found]


def _running(lines: Sequence[Row], users: Sequence[str]) -> list[str]:
    """Return the units that run, and so have the old value."""
    up = {line["name"] for line in lines if line["active"] in ("active", "activating", "reloading")}
    return [name for name in users if name in up]
