"""Users of a cluster: people with a certificate and a role, beside whoever made the cluster."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from kirsch.cluster.api.client import ClientError
from kirsch.cluster.model.certificates import PEOPLE
from kirsch.cluster.node.authority import issue
from kirsch.cluster.provision.archive import File, archive
from kirsch.cluster.provision.endpoint import connected
from kirsch.cluster.provision.keyring import CLIENT, load_users
from kirsch.cluster.provision.record import NAME, ClusterRecord, ProvisionError

CERTIFICATES = "/kirsch/v1/certificates"


@dataclass(frozen=True, slots=True)
class User:
    """A user: role, serial number of the certificate, and when it ends (seconds since the epoch)."""

    name: str
    role: str
    serial: str
    until: float


def users(certificates: list[Mapping[str, Any]]) -> list[User]:
    """Return the users among the certificates that the API lists, by name. Pure."""
    found = [
        User(each["name"], each["role"], each["serial"], each["until"])
        for each in certificates
        if each["role"] in PEOPLE and not each["revoked"]
    ]
    return sorted(found, key=lambda user: user.name)


def add_user(cluster: str, name: str, role: str, days: int) -> bytes:
    """Make a certificate for a user, who has the role from now on, and return an archive for the user's
    computer: the cluster's record and the certificate. Raises ProvisionError, ClientError, OSError."""
    record = ClusterRecord.load(cluster)
    if not NAME.fullmatch(name) or name == CLIENT:
        raise ProvisionError(
            f"{name!r} cannot be a user's name: use at most 32 of a-z, 0-9 and -, and not {CLIENT}"
        )
    signer = load_users(record)
    if signer is None:
        raise ProvisionError(
            f"cluster {cluster} has no authority for users here: it was made elsewhere, or by an older kirsch"
        )
    pair = issue(signer, name, role=role, lifetime=timedelta(days=days))
    with connected(cluster) as client:
        client.put(f"{CERTIFICATES}/{pair.serial}", {"name": name, "role": role, "until": pair.until})
    folder, values = record.name, asdict(record)
    files = [
        File(f"{folder}/cluster.json", (json.dumps(values, indent=2) + "\n").encode(), 0o600),
        File(f"{folder}/tls/ca.crt", record.certificates.authority.read_bytes(), 0o600),
        File(f"{folder}/tls/client.crt", pair.certificate, 0o600),
        File(f"{folder}/tls/client.key", pair.key, 0o600),
    ]
    return archive(files, (folder, f"{folder}/tls"))


def list_users(cluster: str) -> list[User]:
    """Return the users that have a valid certificate. Raises ClientError."""
    with connected(cluster) as client:
        now = time.time()
        return [user for user in users(client.get(CERTIFICATES)["certificates"]) if user.until > now]


def remove_user(cluster: str, name: str) -> None:
    """Revoke a user's certificates. Raises ProvisionError."""
    try:
        with connected(cluster) as client:
            found = [user for user in users(client.get(CERTIFICATES)["certificates"]) if user.name == name]
            for user in found:
                client.delete(f"{CERTIFICATES}/{user.serial}")
    except ClientError as error:
        raise ProvisionError(str(error)) from None
    if not found:
        raise ProvisionError(f"cluster {cluster} has no user {name}: `kirsch cluster user list` names them")
