"""cluster user add, list, remove: people with a role; audit: who changed what."""

import json
import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from kirsch.cli.errors import Failure
from kirsch.cli.journal import printable
from kirsch.cli.names import cluster_name
from kirsch.cli.output import Column, table
from kirsch.cli.values import JSON, NO_LEGEND, count, moment
from kirsch.cli.values import lines as number
from kirsch.cli.verb import REPORT, Noun, Options, argument, flag, option, verb
from kirsch.cluster.model.certificates import PEOPLE

user = Noun("user", summary="add, list and remove a cluster's users")
USER = argument("name", "NAME", "at most 32 of a-z, 0-9 and -")


@user.verb(
    "add",
    "give a person a certificate and a role",
    USER,
    option(
        "--role",
        metavar="ROLE",
        type=click.Choice(PEOPLE),
        default="view",
        help="view, deploy or admin (view)",
    ),
    option("--days", metavar="N", type=count, default=30, help="until the certificate ends (30)"),
    option("--out", metavar="FILE", type=click.Path(path_type=Path), help="the archive (NAME.tar)"),
    REPORT,
    text="view reads, deploy also changes units, secrets and releases, admin also machines and users. The "
    "archive holds a key, so send it as a secret; the user unpacks it in ~/.local/share/kirsch/clusters and "
    "uses verbs with --cluster. Done again it gives another certificate, or role, and the one before holds "
    "no longer.",
    example="kirsch cluster user add ann --role deploy",
)
def add(options: Options) -> int:
    """Make a user's certificate, and write it with the cluster's record to an archive."""
    from kirsch.cluster.provision.users import add_user
    from kirsch.cluster.secrets.files import write_file

    cluster = cluster_name(options)
    path = options.out or Path(f"{options.name}.tar")
    content = add_user(cluster, options.name, options.role, options.days)
    write_file(path, content)
    options.report(cluster=cluster, user=options.name, role=options.role, days=options.days, file=str(path))
    print(f"{options.name} has the role {options.role} in {cluster} for {options.days} days")
    print(f"{path} is for the user alone: mkdir -p ~/.local/share/kirsch/clusters && "
          f"tar -xf {path} -C ~/.local/share/kirsch/clusters")  # fmt: skip
    return 0


@user.verb(
    "list", "list a cluster's users and their roles", NO_LEGEND, JSON,
    example="kirsch cluster user list",
)  # fmt: skip
def list_(options: Options) -> int:
    """Print a table of users."""
    from kirsch.cluster.provision.users import list_users

    found = list_users(cluster_name(options))
    if options.json:
        print(json.dumps([asdict(each) for each in found], indent=2))
        return 0
    rows = [
        asdict(each) | {"until": f"{datetime.fromtimestamp(each.until):%Y-%m-%d %H:%M}"} for each in found
    ]
    names = ("name", "role", "until")
    print(table(rows, {name: _plain(name) for name in names}, names, legend=not options.no_legend), end="")
    return 0


@user.verb("remove", "revoke a user's certificate", USER, REPORT, example="kirsch cluster user remove ann")
def remove(options: Options) -> int:
    """Revoke a user's certificates."""
    from kirsch.cluster.provision.users import remove_user

    cluster = cluster_name(options)
    remove_user(cluster, options.name)
    options.report(cluster=cluster, user=options.name)
    print(f"{options.name} is no user of {cluster} any more")
    return 0


@verb(
    "audit",
    option("--since", metavar="TIME", type=moment, help="from then on: '10:30', '2026-12-01 10:30', 1h"),
    option("--user", metavar="NAME", help="only what this user asked for"),
    flag("--refused", help="only what was refused or failed"),
    option("-n", "--lines", metavar="N", type=number, default=100, help="how many (100)"),
    NO_LEGEND,
    JSON,
    text="Each machine keeps what it was asked for, 90 days and 64 MiB at most. It is for admins.",
    example="kirsch audit --since 1d",
)
def audit(options: Options) -> int:
    """Print the requests that changed something, or were refused, of all machines."""
    filtered = options.user or options.refused
    asked = 10_000 if filtered else options.lines
    answer = options.client().get("/kirsch/v1/audit", since=options.since or 0, entries=asked)
    entries = [
        entry
        for entry in answer["entries"]
        if options.user in (None, entry["who"]) and not (options.refused and entry["status"] < 400)
    ][-options.lines or None :]
    if options.json:
        print(json.dumps(answer | {"entries": entries}, indent=2, ensure_ascii=False))
    else:
        rows = [_row(entry) for entry in entries]
        columns = {name: _plain(name) for name in ("time", "who", "role", "from", "status", "request")}
        print(table(rows, columns, list(columns), legend=not options.no_legend), end="")
    for reason in answer["missing"]:
        print(f"kirsch: {reason}: what it was asked for is missing here", file=sys.stderr)
    if answer["missing"]:
        raise Failure("the list is not complete")
    return 0


def _row(entry: dict[str, Any]) -> dict[str, str]:
    request = f"{entry['method']} {entry['path'].removeprefix('/kirsch/v1')} {' '.join(entry['names'])}"
    return {
        "time": f"{datetime.fromtimestamp(entry['at']):%Y-%m-%d %H:%M:%S}",
        "who": printable(entry["who"]),
        "role": entry["role"],
        "from": entry["address"] or "socket",
        "status": str(entry["status"]),
        "request": printable(request.rstrip()),
    }


def _plain(key: str) -> Column:
    return lambda row, full: str(row[key])
