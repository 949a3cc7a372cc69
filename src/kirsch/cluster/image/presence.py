"""What a registry has, as the OCI distribution specification has it asked: images by their tags, and what is
to go."""

import http.client
import json
import re
import ssl
from collections.abc import Iterator

from kirsch.cluster.image.reference import ImageError, Reference
from kirsch.cluster.image.registry import Registry

TIMEOUT = 5.0
MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.index.v1+json"
)
# Names of images in an answer, and bytes that it may have.
PAGE, LONGEST = 100, 4 << 20


class Presence:
    """Asks one registry, on one connection. Its methods raise ImageError where it cannot be asked."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        host, port = registry.place
        self._connection = http.client.HTTPSConnection(
            host, port, timeout=TIMEOUT, context=_context(registry)
        )

    def __enter__(self) -> "Presence":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def has(self, name: Reference) -> bool:
        """Whether it has an image by that tag."""
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
            raise ImageError(self.registry.silent(f"({why})")) from None
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
