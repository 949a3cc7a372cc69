"""Address of a member of etcd, as people write it and as gRPC wants it."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from kirsch.cluster.registry.base import RegistryError

PORT = 2379


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One member: `url` for people, `target` in gRPC's naming."""

    url: str
    target: str


def parse_endpoints(urls: Sequence[str], *, secure: bool) -> tuple[Endpoint, ...]:
    """Endpoints of `https://HOST[:PORT]` each, `http://` where there are no certificates.

    Raises RegistryError for what is no such URL, or has the other scheme than `secure` asks for.
    """
    if not urls:
        raise RegistryError("no etcd endpoint is named: give at least one, as https://10.0.0.1:2379")
    return tuple(parse_endpoint(url, secure=secure) for url in urls)


def parse_endpoint(url: str, *, secure: bool) -> Endpoint:
    """One endpoint. Raises RegistryError."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or PORT
    except ValueError:
        host, port = None, 0
    bare = url.rstrip("/").removeprefix(f"{parts.scheme}://") if host else ""
    if not host or bare != parts.netloc or "@" in bare or parts.scheme not in ("http", "https"):
        raise RegistryError(f"{url!r} is no etcd endpoint: write it as https://10.0.0.1:2379")
    if secure and parts.scheme == "http":
        raise RegistryError(f"{url}: there are certificates, but http:// would not use them: write https://")
    if not secure and parts.scheme == "https":
        raise RegistryError(f"{url}: needs certificates: an authority, a certificate and its key")
    return Endpoint(f"{parts.scheme}://{parts.netloc}", target(host, port))


def target(host: str, port: int) -> str:
    """gRPC's name of an address (https://github.com/grpc/grpc/blob/master/doc/naming.md)."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return f"dns:///{host}:{port}"
    return f"ipv4:{host}:{port}" if version == 4 else f"ipv6:[{host}]:{port}"
