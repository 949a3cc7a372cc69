"""db: databases with replicas, whose instances run kirsch/postgres-ha."""

import base64
from collections.abc import Sequence

from kirsch.cli.cluster import DEFAULT
from kirsch.cli.completion import files, instances
from kirsch.cli.errors import Failure
from kirsch.cli.oneoff import within
from kirsch.cli.secret import secret_path
from kirsch.cli.values import JSON
from kirsch.cli.verb import Noun, Options, argument, flag, option
from kirsch.cluster.api.client import UNITS, Client
from kirsch.cluster.model.links import host_name
from kirsch.unit import UnitName

db = Noun("db")
# The role of the instance that takes writes, in the HealthRole= of a database's units.
PRIMARY = "primary"
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
    return within(options, client, name.text, ["patronictl", *words], {})


@db.verb(
    "status",
    "show the instances of a database",
    SERVICE,
    JSON,
    text="It says which instance leads and how far the others are behind. Sync Standby has all that was "
    "acknowledged: it leads next.",
    example="kirsch db status webdb",
)
def status(options: Options) -> int:
    """Print Patroni's own table of the instances."""
    more = ["--format", "json"] if options.json else ["--extended"]
    return _patroni(options, options.client(), ["list", *more])


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
    "account",
    "give a database its account in the cluster's etcd",
    argument("service", "SERVICE", "a service such as webdb", complete=instances),
    flag("--renew", help="new credentials for an account that there is"),
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

    client, service = options.client(), options.service
    secret = secret_name(service)
    known = any(row["name"] == secret for row in client.get("/kirsch/v1/secrets")["secrets"])
    if known and not options.renew:
        print(f"{service} has its account: secret {secret}; --renew makes new credentials")
        return 0
    try:
        value = make_account(ClusterRecord.load(options.where().cluster or DEFAULT), service, Runner())
    except ProvisionError as error:
        raise Failure(str(error)) from None
    body = {"value": base64.b64encode(value).decode(), "replace": True}
    running = client.put(secret_path(secret), body)["units"]
    print(f"{service} has an account in etcd: units take it by Secret={secret}:POSTGRES_ETCD")
    if known and running:
        print(f"Units have the old one until they are restarted: kirsch restart {' '.join(running)}")
    return 0
