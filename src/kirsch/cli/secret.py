"""secret set, rotate, list, rm: values go one way, from a file or a terminal to the cluster."""

import base64
import json
import subprocess
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
from kirsch.cli.verb import WHERE, Noun, Options, argument, flag
from kirsch.cluster.api.client import UNITS, Client, unit_path
from kirsch.cluster.secrets import made_up, rotation
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
            "ROLE, and not by a restart. Units that have the new value cannot log in before that. "
            f"`kirsch secret rotate {options.name}` makes up a password, and changes all",
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
    "rotate",
    "change a database's password, losing no request",
    argument("name", "NAME", "the secret that the database and its users have", complete=secrets),
    NOW,
    timeout(180, "give up waiting for the restart after this time"),
    JSON,
    text="The password is made up. Until all users have it the old one is good too, so no request is lost. "
    "It is for PostgreSQL whose POSTGRES_USER is its superuser, as that of images/postgres and of "
    "kirsch.sql.postgres is; users are linked to it. A rotation that was interrupted goes on when this is "
    "said again.",
    example="kirsch secret rotate notes-database",
)
def rotate(options: Options) -> int:
    """Change a database's password in the database and in the secret, and restart its users."""
    client, name = options.client(), options.name
    path = secret_path(name)
    row = next((row for row in client.get(SECRETS)["secrets"] if row["name"] == name), None)
    if row is None or row["set"] is None:
        raise Failure(f"secret {name} is not set: `kirsch secret set {name} < FILE` sets it")
    try:
        lines = client.get(UNITS)["units"]
        database = rotation.database(name, row["units"], lines)
        users = rotation.running(name, row["units"], lines, database)
        exposed = rotation.exposed(database, _text(client, database))
        for unit in users:
            rotation.told(unit, _text(client, unit), name, exposed)
    except rotation.RotationError as error:
        raise Failure(str(error)) from None
    login = row["login"]
    if login is None:
        password = made_up()
        verifier = rotation.verifier(password)
        said = _psql(options, database, f"\\set verifier '{verifier}'\n{rotation.BEGIN}")
        login = dict(zip(("owner", "role"), said.split("|"), strict=True))
        value = base64.b64encode(password.encode()).decode()
        client.put(path, {"value": value, "replace": True, "login": login})
        lines = client.get(UNITS)["units"]
        users = rotation.running(name, row["units"], lines, database)
    elif not options.json:
        print(f"A rotation of {name} was interrupted; it goes on", flush=True)
    try:
        _restart(client, users, options)
    except (Failure, KeyboardInterrupt) as error:
        print(f"The old password is good too until `kirsch secret rotate {name}` has ended", file=sys.stderr)
        raise error from None
    try:
        # Another instance may take writes by now.
        database = rotation.database(name, row["units"], client.get(UNITS)["units"])
    except rotation.RotationError as error:
        raise Failure(f"{error}. Both passwords are good; say it again then") from None
    _psql(options, database, rotation.END, f"--set=role={login['role']}")
    client.post(path, {"login": None})
    if options.json:
        print(json.dumps({"name": name, "database": database, "restarted": users}))
    else:
        print(f"{database} has another password, in secret {name}; restarted {' '.join(users) or 'nothing'}")
    return 0


def _text(client: Client, unit: str) -> str:
    return str(client.get(unit_path(unit))["text"])


def _psql(options: Options, database: str, commands: str, *more: str) -> str:
    """Have a database carry commands out, as `kirsch run` opens it: the last line of the answer. Raises
    Failure."""
    where = [f"--{each}={given}" for each in WHERE if (given := getattr(options, each, None))]
    psql = ["psql", "--no-psqlrc", "--quiet", "--no-align", "--tuples-only", *more]
    argv = [sys.executable, "-m", "kirsch.cli.main", *where, "run", "--link", f"{database}:kirsch", database]
    done = subprocess.run([*argv, *psql], input=commands, capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip() or "psql said nothing").splitlines()[-1].removeprefix("kirsch: ")
        raise Failure(f"{database} does not do it: {why}")
    return (done.stdout.strip().splitlines() or [""])[-1]


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
