"""Registries: how they are spoken to, and what their refusals mean. Pure; see containers-certs.d(5)."""

import re
from dataclasses import dataclass
from pathlib import Path

from kirsch.cluster.image.reference import LOCAL, ImageError, Reference
from kirsch.cluster.model.certificates import Certificates
from kirsch.cluster.provision.command import Command
from kirsch.cluster.provision.podman import podman
from kirsch.cluster.provision.record import ClusterRecord
from kirsch.cluster.provision.registry import address, away

FAR = 1800.0


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry by its HOST[:PORT]. By TLS: with the certificates that this computer trusts, or those of a
    cluster; `insecure` without TLS, or with a certificate that nobody has signed. `away` is what to do when
    it does not answer."""

    address: str
    certificates: Certificates | None = None
    insecure: bool = False
    away: str = ""

    @property
    def place(self) -> tuple[str, int]:
        """Host and the port that is tried first."""
        return self.places[0]

    @property
    def places(self) -> list[tuple[str, int]]:
        """Host and the ports that are tried; podman tries TLS first. Raises ImageError."""
        found = re.fullmatch(r"(\[[^\]]+\]|[^:]+)(?::([0-9]+))?", self.address)
        if not found or not 0 < int(found[2] or 1) < 65536:
            raise ImageError(f"{self.address!r} is no registry: write HOST or HOST:PORT")
        ports = [int(found[2])] if found[2] else [443, *([80] if self.insecure else [])]
        return [(found[1].strip("[]"), port) for port in ports]

    def unreachable(self, why: str) -> str:
        """Compose the message that the registry does not answer; `why` as in `at port 5000: Connection
        refused`."""
        said = f"registry {self.address} does not answer {why}"
        return f"{said}; {self.away}" if self.away else said

    def push(self, image: str, name: Reference, folder: Path) -> Command:
        """Send an image; its layers that are there already are not sent. `folder` is that of `linked`."""
        return podman("push", *self._options(folder), image, f"docker://{name}", timeout=FAR)

    def pull(self, name: Reference, folder: Path) -> Command:
        """Fetch an image; layers that are here already are not."""
        return podman("pull", *self._options(folder), f"docker://{name}", timeout=FAR)

    def linked(self) -> dict[str, Path]:
        """The files that podman looks for, by their names, and where they are."""
        if not self.certificates:
            return {}
        files = self.certificates
        return {"ca.crt": files.authority, "client.cert": files.certificate, "client.key": files.key}

    def _options(self, folder: Path) -> list[str]:
        if self.insecure:
            return ["--tls-verify=false"]
        return ["--cert-dir", str(folder)] if self.certificates else []


def of_cluster(record: ClusterRecord) -> Registry:
    """A cluster's own registry. Clients show a certificate of the cluster's authority."""
    return Registry(address(record), record.certificates, away=away(record))


def registry_of(name: Reference, insecure: str = "") -> Registry:
    """The registry that a name names. Raises ImageError if it names none, or `insecure` another one."""
    if name.registry == LOCAL:
        raise ImageError(f"{name} names no registry: write REGISTRY/{name.path}:{name.tag}")
    if insecure and insecure != name.registry:
        raise ImageError(f"--insecure is for {insecure}, and {name} is of {name.registry}")
    return Registry(name.registry, insecure=bool(insecure))


# What podman says, and what a person can do about it.
_EXPLANATIONS = (
    (r"gave HTTP response to HTTPS client", "it speaks plain HTTP: --insecure {registry}, if that is meant"),
    (
        r"unknown authority|certificate signed by",
        "its certificate's authority is not trusted here: if it is to be, put that into "
        "/etc/containers/certs.d/{registry}/ca.crt",
    ),
    (
        r"certificate is (valid for|not valid)|doesn't contain any IP SANs",
        "its certificate is of another host",
    ),
    (
        r"certificate required|bad certificate|unknown certificate",
        "it lets nobody in without a certificate",
    ),
    (r"certificate has expired", "its certificate has expired"),
    (r"StatusCode: 404|invalid status code from registry 404", "no registry of images answers there"),
    (r"unauthorized|authentication required|denied|no basic auth", "it refuses: `podman login {registry}`"),
    (r"manifest unknown|name unknown|not found|repository .* not known", "it has no image {name}"),
    (r"blob unknown|blob upload (unknown|invalid)", "it was cleared meanwhile: do this again"),
    (r"no space left on device", "no space is left for it"),
    (r"connection refused|no such host|i/o timeout|no route to host|EOF|reset by peer", "it does not answer"),
)


def explain(said: str, registry: str, name: Reference) -> str:
    """Translate podman's message about a registry for a person."""
    for pattern, words in _EXPLANATIONS:
        if re.search(pattern, said):
            shown = f"{name.path}:{name.tag}"
            return f"registry {registry}: {words.format(registry=registry, name=shown)}"
    return f"registry {registry}: {said}"
