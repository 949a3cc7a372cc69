"""db: databases with replicas, whose instances run kirsch/postgres-ha."""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime

from kirsch.cli.cluster import DEFAULT
from kirsch.cli.completion import files, instances
from kirsch.cli.errors import Failure
from kirsch.cli.oneoff import within
from kirsch.cli.secret import secret_path
from kirsch.cli.values import JSON
from kirsch.cli.verb import REPORT, Noun, Options, argument, flag, option
from kirsch.cluster.api.client import UNITS, Client
from kirsch.cluster.model.links import host_name
from kirsch.cluster.secrets.rotation import PRIMARY
from kirsch.unit import UnitName

db = Noun("db")
# patronictl has no failed status where the leader refuses, only these words.
PATRONICTL = """\
said=$(patronictl "$@" 2>&1); status=$?
printf '%s\\n' "$said"
case $said in *' failed, details: '*) exit 1;; esac
exit $status"""
SERVICE = argument("service", "SERVICE", "a service such as webdb (the only one there is)", optional=True)


def _instances(client: Client, service: str | None) -> list[UnitName]:
    """Return the instances of a database that answer, the one that leads last. Raises Failure."""
    roles: dict[UnitName, str] = {}
    submitted: set[str] = set()
    for line in client.get(UNITS)["units"]:
        name = UnitName.parse(line["name"])
        submitted.add(name.service)
        if line["ready"] and line.get("role"):
            roles[name] = line["role"]
    databases = sorted({name.service for name, role in roles.items() if role == PRIMARY})
    if service is None:
        if len(databases) != 1:
            several = (
                f"say which: {', '.join(databases)}" if databases else "`kirsch list-units` shows what runs"
            )
            raise Failure(f"{len(databases) or 'no'} databases have a primary here: {several}")
        service = databases[0]
    found = sorted(
        (name for name in roles if name.service == service), key=lambda n: (roles[n] == PRIMARY, n)
    )
    if not found:
        why = f"`kirsch why {service}` says why" if service in submitted else "there is no such service"
        raise Failure(f"no instance of {service} has a role: {why}")
    return found


def _member(client: Client, service: str | None, text: str) -> str:
    """Return what Patroni calls an instance: webdb-2 for webdb@2, or for 2. Raises Failure."""
    there = _instances(client, service)
    for name in there:
        stem = name.text.rpartition(".")[0]
        if text in (name.text, stem, name.instance, host_name(stem)):
            return host_name(stem)
    raise Failure(f"{text} is none of {', '.join(name.text for name in there)}, which have a role")


def _patroni(options: Options, client: Client, words: Sequence[str]) -> int:
    """Run patronictl in an instance, a replica if there is one: it outlives what is done to the leader."""
    name = _instances(client, options.service)[0]
    return within(options, client, name.text, ["sh", "-c", PATRONICTL, "patronictl", *words], {})


def _backups(options: Options, client: Client, words: Sequence[str], *, leading: bool = False) -> int:
    """Run the image's program for backups in an instance, the one that leads or else a replica."""
    name = _instances(client, options.service)[-1 if leading else 0]
    return within(options, client, name.text, ["serve", "backups", *words], {})


def _moment(text: str) -> str:
    """Return a time in UTC, of one that is ours where it names no zone. Raises Failure."""
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Failure(
            f"--to {text}: write a time as '2026-12-01 14:00' or '2026-12-01 14:00:30+01:00'"
        ) from None
    if moment > datetime.now(UTC):
        raise Failure(f"--to {text} is yet to come: write a time that has passed")
    return moment.isoformat(" ")


@db.verb(
    "status",
    "show the instances of a database, and its last backup",
    SERVICE,
    JSON,
    text="It says which instance leads and how far the others are behind. Sync Standby has all that was "
    "acknowledged: it leads next. Of backups it says when the last was made, and up to when changes are "
    "kept.",
    example="kirsch db status webdb",
)
def status(options: Options) -> int:
    """Print Patroni's own table of the instances, and how backups are."""
    return _backups(options, options.client(), ["status", *(["--json"] if options.json else [])])


@db.verb(
    "switchover",
    "have another instance lead",
    SERVICE,
    option("--to", metavar="INSTANCE", help="the next to lead, as webdb@2 (whichever is in step)"),
    text="The one that leads hands over in good order; connections to it end. It may take some seconds, in "
    "which applications answer 503 with Retry-After. Nothing that was acknowledged is lost.",
    example="kirsch db switchover webdb --to webdb@2",
)
def switchover(options: Options) -> int:
    """Hand over in good order."""
    client = options.client()
    to = ["--candidate", _member(client, options.service, options.to)] if options.to else []
    return _patroni(options, client, ["switchover", *to, "--force"])


@db.verb(
    "failover",
    "have an instance lead though none does",
    SERVICE,
    option("--to", metavar="INSTANCE", required=True, help="the next to lead, as webdb@2"),
    text="For when no instance leads and none takes over, because the one in step is lost. What was "
    "acknowledged may be missing on another: `kirsch db status` says how far it is behind.",
    example="kirsch db failover webdb --to webdb@3",
)
def failover(options: Options) -> int:
    """Make an instance the leader."""
    client = options.client()
    member = _member(client, options.service, options.to)
    return _patroni(options, client, ["failover", "--candidate", member, "--force"])


@db.verb(
    "psql",
    "open psql where writes are taken",
    argument("service", "SERVICE", "a service such as webdb", complete=instances),
    argument("arguments", "ARGUMENT", "psql's own", many=True, optional=True, complete=files),
    rest=True,
    text="It runs beside the instance that leads, as the database's owner, with your terminal.",
    example="kirsch db psql webdb",
)
def psql(options: Options) -> int:
    """Run psql in the leader."""
    client = options.client()
    leader = _instances(client, options.service)[-1]
    return within(options, client, leader.text, ["serve", "psql", *options.arguments], {})


@db.verb(
    "backup",
    "make a base backup now",
    argument("service", "SERVICE", "a service such as webdb", complete=instances),
    flag("--diff", help="only what has changed since the last full one"),
    text="One is made each day by itself, and each week a full one, where the units name a repository. From "
    "then on the database can be had as of any moment.",
    example="kirsch db backup webdb",
)
def backup(options: Options) -> int:
    """Make a base backup, in the leader."""
    return _backups(
        options, options.client(), ["take", "--type", "diff" if options.diff else "full"], leading=True
    )


@db.verb(
    "restore",
    "run a command with the database as it was",
    option("--to", metavar="TIME", help="as '2026-12-01 14:00', in our time zone (the last that is kept)"),
    flag("--check", help="read all of it and say so, to try a backup"),
    argument("service", "SERVICE", "a service such as webdb", complete=instances),
    argument("command", "COMMAND", "a client of PostgreSQL (psql)", many=True, optional=True),
    rest=True,
    text="It is restored beside a replica, on that one's disk, and removed after the command. What runs is "
    "as it was: take from the old one what is missing. A new database begins as an old one by "
    "POSTGRES_RESTORE_TO=TIME in its units.",
    example="kirsch db restore --to '2026-12-01 14:00' webdb pg_dump --table notes",
)
def restore(options: Options) -> int:
    """Run a command with the database as it was, in a replica."""
    if options.command and options.command[0].startswith("-"):
        raise Failure(f"{options.command[0]}: write options before {options.service}")
    if options.check and options.command:
        raise Failure("--check runs no command: leave one of them out")
    to = ["--to", _moment(options.to)] if options.to else []
    command = [] if options.check else (options.command or ["psql"])
    return _backups(options, options.client(), ["restore", *to, *command])


@db.verb(
    "account",
    "give a database its account in the cluster's etcd",
    argument("service", "SERVICE", "a service such as webdb", complete=instances),
    flag("--renew", help="new credentials for an account that there is"),
    REPORT,
    text="Instances agree in etcd on who leads. The account may read and write what is the service's own, "
    "and nothing else; units have it as the secret SERVICE-etcd. With the first account etcd begins to ask "
    "machines and databases who they are. It is made on the computer that made the cluster.",
    example="kirsch db account webdb --cluster demo",
)
def account(options: Options) -> int:
    """Make a database's account and set the secret that has it."""
    from kirsch.cluster.provision.account import make_account, secret_name
    from kirsch.cluster.provision.command import Runner
    from kirsch.cluster.provision.record import ClusterRecord, ProvisionError
    from kirsch.cluster.provision.voters import learn_members

    client, service = options.client(), options.service
    secret = secret_name(service)
    known = any(row["name"] == secret for row in client.get("/kirsch/v1/secrets")["secrets"])
    options.report(service=service, secret=secret)
    if known and not options.renew:
        print(f"{service} has its account: secret {secret}; --renew makes new credentials")
        return 0
    try:
        record = learn_members(ClusterRecord.load(options.where().cluster or DEFAULT))
        value = make_account(record, service, Runner())
    except ProvisionError as error:
        raise Failure(str(error)) from None
    body = {"value": base64.b64encode(value).decode(), "replace": True}
    running = client.put(secret_path(secret), body)["units"]
    print(f"{service} has an account in etcd: units take it by Secret={secret}:POSTGRES_ETCD")
    if known and running:
        print(f"Units have the old one until they are restarted: kirsch restart {' '.join(running)}")
    return 0
