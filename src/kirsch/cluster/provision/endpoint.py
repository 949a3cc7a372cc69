"""Which kirschd to speak to: as a person says, as the environment does, or the one of where we are."""

import os
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kirsch.cluster.api.client import Client, ClientError
from kirsch.cluster.api.transport import Https, Transport, Unix, Unreachable

if TYPE_CHECKING:
    from kirsch.cluster.model.certificates import Certificates
    from kirsch.cluster.provision.record import ClusterRecord

# What begins the name of a cluster that is a context of the kubeconfig: no kirschd is there.
KUBERNETES = "kubernetes:"
SOCKET = ".kirsch/kirsch.sock"
SYSTEM_SOCKET = Path("/run/kirsch/kirsch.sock")
# Two thirds of the 30 days of a certificate, in seconds.
RENEWAL_AGE = 20 * 24 * 3600.0
TLS_VARIABLES = ("KIRSCH_TLS_AUTHORITY", "KIRSCH_TLS_CERTIFICATE", "KIRSCH_TLS_KEY")


@dataclass(frozen=True, slots=True)
class Where:
    """Choice of a kirschd: an endpoint (unix://PATH, a path, or https://HOST:PORT, several with commas
    between), a cluster's name, a host to go through by ssh."""

    endpoint: str | None = None
    cluster: str | None = None
    tunnel: str | None = None

    @classmethod
    def given(cls, endpoint: str | None, cluster: str | None, tunnel: str | None) -> "Where":
        """With the environment's KIRSCH_ENDPOINT, KIRSCH_CLUSTER and KIRSCH_TUNNEL where nothing was said;
        KIRSCH_CLUSTER also says whose keys are meant. Raises ClientError for what goes ill together."""
        if endpoint and tunnel:
            raise ClientError(0, "--tunnel and --endpoint are two ways to one kirschd: give one of them")
        environment = {name: os.environ.get(f"KIRSCH_{name}") or None for name in ("ENDPOINT", "TUNNEL")}
        if not (endpoint or cluster or tunnel):
            endpoint = environment["ENDPOINT"]
            tunnel = None if endpoint else environment["TUNNEL"]
        return cls(endpoint, cluster or os.environ.get("KIRSCH_CLUSTER") or None, tunnel)


def connected(cluster: str) -> "closing[Client]":
    """Return a client of a cluster's API, for a with statement, which closes it. Raises ClientError."""
    return closing(Client(transport_to(Where(cluster=cluster))))


def transport_to(where: Where, directory: Path | None = None) -> Transport:
    """The way to the kirschd that is meant; without a word that of the application whose directory we are in
    or below, or the machine's. Raises ClientError."""
    if where.tunnel:
        return _through(where.tunnel, where.cluster)
    if where.endpoint:
        return _at(where.endpoint, where.cluster)
    if where.cluster:
        if where.cluster.startswith(KUBERNETES):
            raise ClientError(
                0,
                "that is not for Kubernetes: up, down, status, journal, scale and rollback are, else kubectl",
            )
        return _of(where.cluster)
    here = (directory or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if _there(folder / SOCKET):
            return Unix(folder / SOCKET)
    if _there(SYSTEM_SOCKET):
        return Unix(SYSTEM_SOCKET)
    raise ClientError(
        0,
        f"no kirschd runs for {here}: start one with `kirsch up DIR`, or name one (--cluster, --endpoint)",
    )


def answers_here() -> bool:
    """Return True if a kirschd takes connections where one is meant when none is named."""
    try:
        for connection in transport_to(Where()).connections():
            connection.close()
    except (ClientError, Unreachable):
        return False
    return True


def _there(path: Path) -> bool:
    """Return True if there is such a socket, or if a closed folder may hold one: connecting says why."""
    try:
        return path.exists()
    except PermissionError:
        return os.path.isdir(path.parent)


def _at(endpoint: str, cluster: str | None) -> Transport:
    scheme, separator, path = endpoint.rpartition("://")
    if "https://" in endpoint:
        places = [_place(part.strip()) for part in endpoint.split(",")]
        return Https(places, _certificates(places, cluster), endpoint)
    if separator and scheme != "unix":
        raise ClientError(0, f"{endpoint}: an endpoint is unix://PATH or https://HOST:PORT")
    if not separator and not Path(path).exists():
        raise ClientError(
            0, f"{endpoint}: no socket is there; an endpoint is unix://PATH or https://HOST:PORT"
        )
    return Unix(Path(path))


def _place(endpoint: str) -> tuple[str, int]:
    host, colon, port = endpoint.removeprefix("https://").rstrip("/").rpartition(":")
    if not endpoint.startswith("https://") or not colon or not host or not port.isdecimal():
        raise ClientError(0, f"{endpoint}: an endpoint over TCP is https://HOST:PORT")
    return host.strip("[]"), int(port)


def _certificates(places: list[tuple[str, int]], cluster: str | None) -> "Certificates":
    """Return the certificates that the environment names, those of the cluster named, or of the one that has
    such an endpoint."""
    from kirsch.cluster.model.certificates import Certificates

    files = [os.environ.get(name) for name in TLS_VARIABLES]
    if any(files):
        for name, file in zip(TLS_VARIABLES, files, strict=True):
            if not file:
                raise ClientError(0, f"{name} is not set; {', '.join(TLS_VARIABLES)} go together")
        return Certificates(*(Path(file) for file in files if file))
    if cluster:
        return _record(cluster).certificates
    from kirsch.cluster.provision.record import ClusterRecord, ProvisionError

    for name in ClusterRecord.names():
        try:
            record = ClusterRecord.load(name)
        except ProvisionError:
            continue
        if set(places) & {_place(endpoint) for endpoint in record.endpoints}:
            return record.certificates
    raise ClientError(
        0, f"which certificates? Name their cluster with --cluster, or set {', '.join(TLS_VARIABLES)}"
    )


def _of(cluster: str) -> Transport:
    from kirsch.cluster.provision.record import memory_file

    record = _record(cluster)
    if not record.endpoints:
        raise ClientError(0, f"cluster {cluster} has no machine")
    places = [_place(endpoint) for endpoint in record.endpoints]
    return Https(places, record.certificates, f"cluster {cluster}", memory_file(cluster))


def _through(host: str, cluster: str | None) -> Transport:
    from kirsch.cluster.api.tunnel import Tunnel

    record = _record(cluster) if cluster else None
    if record is None:
        return Tunnel(host)
    known = {name for machine in record.machines for name in (machine.name, f"{record.name}-{machine.name}")}
    return Tunnel(host, record.folder / "ssh/config" if host in known else None)


def _record(cluster: str) -> "ClusterRecord":
    from kirsch.cluster.provision.record import ClusterRecord, ProvisionError

    try:
        record = ClusterRecord.load(cluster)
        _look_after(record)
        return record
    except ProvisionError as error:
        # Who destroyed a cluster may not think of what the shell still has.
        named = os.environ.get("KIRSCH_CLUSTER") == cluster
        hint = "; KIRSCH_CLUSTER names it: `unset KIRSCH_CLUSTER` for what runs here" if named else ""
        raise ClientError(0, f"{error}{hint}") from None


def _look_after(record: "ClusterRecord") -> None:
    """Renew one's own certificate in time; nothing of cryptography is loaded while its file is young."""
    try:
        age = time.time() - record.certificates.certificate.stat().st_mtime
        if age > RENEWAL_AGE and (record.folder / "tls/ca.key").exists():
            from kirsch.cluster.provision.keyring import renew_person

            renew_person(record)
    except (OSError, ValueError, ImportError):
        pass  # the certificate may hold still; the API says if it does not
