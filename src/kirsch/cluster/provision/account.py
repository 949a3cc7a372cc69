"""Account of a database in the cluster's etcd: a user that may read and write its own prefix, and no more.

Until the first one is made etcd asks for certificates only. From then on it asks who may do what (its guide
"Role-based access control"): machines may do everything, and are known by their certificates' common name. A
database logs in with a password, over TLS with a certificate that has no common name: etcd's HTTP gateway,
which Patroni uses, refuses others.
"""

import json
import re
import secrets
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace

from kirsch.cluster.node.authority import issue
from kirsch.cluster.provision.command import Runner
from kirsch.cluster.provision.keyring import load_authority
from kirsch.cluster.provision.record import ClusterRecord, ProvisionError
from kirsch.cluster.provision.settings import TLS
from kirsch.cluster.provision.shell import act, shell_of

# etcdctl on a member, with the machine's own certificate.
ETCDCTL = (
    "ETCDCTL_API=3 ETCDCTL_ENDPOINTS=https://127.0.0.1:2379 "
    f"ETCDCTL_CACERT={TLS}/ca.crt ETCDCTL_CERT={TLS}/machine.crt ETCDCTL_KEY={TLS}/machine.key etcdctl"
)
PREFIX = "/postgres"
ROLE = "database"
# A service's name that is a name for etcd, Patroni and DNS alike.
_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?")
# etcd's own user and role, who may do everything.
ROOT = "root"


def account_name(service: str, machines: Iterable[str]) -> str:
    """Return the name of a service's account. Raises ProvisionError if it can have none."""
    if not _NAME.fullmatch(service):
        raise ProvisionError(
            f"{service!r} cannot have an account: small letters, digits and '-', a letter first"
        )
    if service in {ROOT, *machines}:
        raise ProvisionError(
            f"{service} is a machine's name, and cannot be a database's in etcd: name it otherwise"
        )
    return service


def secret_name(service: str) -> str:
    """Return the name of the secret that has a service's account."""
    return f"{service}-etcd"


def admission(machines: Sequence[str], etcdctl: str = ETCDCTL) -> str:
    """Return the script that makes machines users of etcd who may do everything. May be repeated. Pure."""
    lines = ["set -e", _function(etcdctl)]
    for name in (ROOT, *machines):
        user = shlex.quote(name)
        lines.append(f"etcd user get {user} >/dev/null 2>&1 || etcd user add {user} --no-password >/dev/null")
        lines.append(f"etcd user grant-role {user} {ROOT} >/dev/null")
    return "\n".join(lines)


def dismissal(machine: str, etcdctl: str = ETCDCTL) -> str:
    """Return the script that removes a machine's user from etcd. May be repeated. Pure."""
    user = shlex.quote(machine)
    there = f"etcd user get {user} >/dev/null 2>&1"
    return f"{_function(etcdctl)}; {there} || exit 0; etcd user delete {user} >/dev/null"


def script(service: str, machines: Sequence[str], etcdctl: str = ETCDCTL) -> str:
    """Return the script that makes a database's account, or gives it another password, which it reads from
    standard input; then etcd asks everybody who they are. May be repeated. Pure."""
    return "\n".join(
        (
            admission(machines, etcdctl),
            "IFS= read -r password",
            f"etcd role get {service} >/dev/null 2>&1 || etcd role add {service} >/dev/null",
            f"etcd role grant-permission --prefix=true {service} readwrite {PREFIX}/{service}/ >/dev/null",
            f"etcd user get {service} >/dev/null 2>&1 && verb=passwd || verb=add",
            f'printf "%s\\n" "$password" | etcd user $verb {service} --interactive=false >/dev/null',
            f"etcd user grant-role {service} {service} >/dev/null",
            "etcd auth enable >/dev/null",
        )
    )


def _function(etcdctl: str) -> str:
    return f'etcd() {{ {etcdctl} "$@"; }}'


def make_account(record: ClusterRecord, service: str, runner: Runner) -> bytes:
    """Make a database's account, or its credentials anew: the secret for its units, as JSON.

    Raises ProvisionError, OSError.
    """
    machines = [machine.name for machine in record.machines]
    name, password = account_name(service, machines), secrets.token_urlsafe(24)
    signer = load_authority(record)
    # kirschd's API knows no such role, and refuses whoever has it.
    pair = issue(signer, "", role=ROLE)
    on_a_member(record, runner, script(name, machines), f"{password}\n".encode())
    account = {
        "hosts": [url.partition("://")[2] for url in record.etcd],
        "username": name,
        "password": password,
        "authority": signer.certificate.decode(),
        "certificate": pair.certificate.decode(),
        "key": pair.key.decode(),
    }
    return json.dumps(account).encode()


def admit(record: ClusterRecord, machine: str, runner: Runner) -> None:
    """Let a machine that joins use etcd. Raises ProvisionError."""
    on_a_member(record, runner, admission([machine]))


def dismiss(record: ClusterRecord, machine: str, runner: Runner) -> None:
    """Remove the user of a machine that left. Raises ProvisionError."""
    others = tuple(each for each in record.machines if each.name != machine)
    on_a_member(replace(record, machines=others), runner, dismissal(machine))


def database_accounts(record: ClusterRecord, runner: Runner) -> list[str]:
    """Return the databases that have an account. Raises ProvisionError."""
    names = on_a_member(record, runner, f"{ETCDCTL} user list").split()
    return sorted(set(names) - {ROOT, *(machine.name for machine in record.machines)})


def on_a_member(record: ClusterRecord, runner: Runner, words: str, given: bytes = b"") -> str:
    """Run a script on the first machine that keeps etcd where it succeeds: what it prints. Raises
    ProvisionError."""
    reasons = []
    for member in record.members:
        try:
            return act(runner, shell_of(record, member), member.name, words, given)
        except ProvisionError as error:
            runner.check()
            reasons.append(str(error))
    raise ProvisionError(f"no member of etcd could be used: {'; '.join(reasons)}")
