"""Whether a registry has an image: a HEAD request, as the OCI distribution specification has it."""

import http.client
import ssl

from kirsch.cluster.image.reference import ImageError, Reference
from kirsch.cluster.image.registry import Registry

TIMEOUT = 5.0
MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.index.v1+json"
)


class Presence:
    """Asks one registry, on one connection."""

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
        """Whether it has an image by that tag. Raises ImageError where the registry cannot be asked."""
        try:
            self._connection.request(
                "HEAD", f"/v2/{name.path}/manifests/{name.tag}", headers={"Accept": MANIFESTS}
            )
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ImageError(f"registry {self.registry.address} does not answer: {error}") from None
        if answer.status in (200, 404):
            return answer.status == 200
        raise ImageError(f"registry {self.registry.address}: HTTP status {answer.status}")


def _context(registry: Registry) -> ssl.SSLContext:
    files = registry.certificates
    if files is None:
        return ssl.create_default_context()
    context = ssl.create_default_context(cafile=str(files.authority))
    context.load_cert_chain(str(files.certificate), str(files.key))
    return context
