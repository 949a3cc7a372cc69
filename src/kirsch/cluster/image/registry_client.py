"""Requests to a registry (OCI distribution specification), and the removal of images that no unit uses."""

import http.client
import json
import re
import ssl
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

from kirsch.cluster.api.client import RELEASES, UNITS, Client, unit_path
from kirsch.cluster.image.reference import ImageError, Reference, is_content_tag
from kirsch.cluster.image.registry import Registry

TIMEOUT = 5.0
MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.index.v1+json"
)
# Names of images in an answer, and bytes that it may have.
PAGE, LONGEST = 100, 4 << 20


class RegistryClient:
    """Asks one registry, on one connection. Its methods raise ImageError where it cannot be asked."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        host, port = registry.place
        self._connection = http.client.HTTPSConnection(
            host, port, timeout=TIMEOUT, context=_context(registry)
        )

    def __enter__(self) -> "RegistryClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def has(self, name: Reference) -> bool:
        """Return True if the registry has an image by that tag."""
        return bool(self.digest(name))

    def digest(self, name: Reference) -> str:
        """The digest of the image that has that tag; empty if none has."""
        answer, _ = self._ask("HEAD", f"/v2/{name.path}/manifests/{name.tag}")
        return (answer.headers["Docker-Content-Digest"] or name.tag) if answer.status == 200 else ""

    def paths(self) -> Iterator[str]:
        """The images that it has, by their names."""
        page = f"/v2/_catalog?n={PAGE}"
        while page:
            answer, said = self._ask("GET", page)
            yield from _strings(said, "repositories")
            following = re.match(r"<([^>]+)>; *rel=\"?next", answer.headers["Link"] or "")
            page = following[1] if following else ""

    def tags(self, path: str) -> list[str]:
        """The tags of an image."""
        return list(_strings(self._ask("GET", f"/v2/{path}/tags/list")[1], "tags"))

    def forget(self, path: str, digest: str) -> None:
        """Take all its tags from an image; its layers are there until the registry clears them away."""
        self._ask("DELETE", f"/v2/{path}/manifests/{digest}")

    def _ask(self, method: str, path: str) -> tuple[http.client.HTTPResponse, bytes]:
        try:
            self._connection.request(method, path, headers={"Accept": MANIFESTS})
            answer = self._connection.getresponse()
            said = answer.read(LONGEST)
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or error
            raise ImageError(self.registry.unreachable(f"({why})")) from None
        if answer.status in (200, 202, 404):
            return answer, said
        raise ImageError(f"registry {self.registry.address}: HTTP status {answer.status}")


def _strings(said: bytes, key: str) -> Iterator[str]:
    try:
        values = json.loads(said).get(key)
    except (ValueError, AttributeError):
        values = None
    return (value for value in values or () if isinstance(value, str))


def _context(registry: Registry) -> ssl.SSLContext:
    files = registry.certificates
    if files is None:
        return ssl.create_default_context()
    context = ssl.create_default_context(cafile=str(files.authority))
    context.load_cert_chain(str(files.certificate), str(files.key))
    return context


@dataclass(frozen=True, slots=True)
class Tagged:
    """A tag of an image that a registry keeps: the image's path, the tag, the digest that it leads to."""

    path: str
    tag: str
    digest: str


def unused(kept: Iterable[Tagged], texts: Collection[str]) -> list[tuple[str, str]]:
    """The images (path, digest) that have no tag but those by content, none of which a text names. Pure."""
    tags: dict[tuple[str, str], set[str]] = defaultdict(set)
    for each in kept:
        tags[each.path, each.digest].add(each.tag)
    return sorted(
        (path, digest)
        for (path, digest), names in tags.items()
        if all(map(is_content_tag, names))
        and not any(f"{path}:{name}" in text for name in names for text in texts)
    )


def garbage_collect(client: RegistryClient, texts: Collection[str]) -> int:
    """Have a registry forget them, as far as the texts of a cluster's units do not name them: how many. What
    they consist of goes when the registry is cleared. Raises ImageError."""
    kept = [
        Tagged(path, tag, digest)
        for path in client.paths()
        for tag in client.tags(path)
        if (digest := client.digest(Reference(client.registry.address, path, tag)))
    ]
    gone = unused(kept, texts)
    for path, digest in gone:
        client.forget(path, digest)
    return len(gone)


def texts_of(client: Client) -> list[str]:
    """Return the texts of all units of a cluster, and those that a release could bring back. Raises
    ClientError."""
    names = {line["name"] for line in client.get(UNITS)["units"]}
    texts = {client.get(unit_path(name))["text"] for name in names}
    for row in client.get(RELEASES)["releases"]:
        changes = client.get(f"{RELEASES}/{quote(row['application'], safe='')}/{row['number']}")["changes"]
        texts |= {text for change in changes for text in (change["before"], change["after"]) if text}
    return sorted(texts)
