"""The broker's address and account: from a URL, the environment, or a link."""

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import unquote, urlsplit

PORTS = {"amqp": 5672, "amqps": 5671}
_SHAPE = "amqp[s]://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][/VHOST]"


class BrokerError(Exception):
    """Settings of the broker that cannot be used: one line, without secrets."""


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker's address, and an account there. `str` has no password, so it may be logged.

    `others` are hosts and ports of the other nodes of a cluster.
    """

    host: str = "localhost"
    port: int = 5672
    user: str = "guest"
    password: str = field(default="guest", repr=False)
    vhost: str = "/"
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    others: tuple[tuple[str, int], ...] = ()

    @classmethod
    def parse(cls, url: str, tls: ssl.SSLContext | None = None) -> "Broker":
        """From `amqp://USER:PASSWORD@HOST:PORT/VHOST` or `amqps://…`, whose parts but the host may be
        missing. Of a cluster all nodes, `amqp://HOST:PORT,HOST:PORT`.

        `tls` is the context for amqps; the system's authorities are trusted without one. Raises BrokerError.
        """
        scheme, separator, rest = url.partition("://")
        authority = re.split("[/?#]", rest, maxsplit=1)[0]
        account, at, hosts = authority.rpartition("@")
        before, behind = f"{scheme}{separator}{account}{at}", rest[len(authority) :]
        try:
            nodes = [urlsplit(f"{before}{host}{behind}") for host in hosts.split(",")]
            ports = [node.port for node in nodes]
        except ValueError:
            raise BrokerError(f"the broker's URL has no port that is one: {_SHAPE}") from None
        parts = nodes[0]
        if parts.scheme not in PORTS or not all(node.hostname for node in nodes):
            raise BrokerError(f"the broker's URL is no {_SHAPE}")
        if parts.query or parts.fragment:
            raise BrokerError(f"the broker's URL has no query: {_SHAPE}")
        if parts.scheme == "amqps":
            tls = tls or ssl.create_default_context()
        elif tls is not None:
            raise BrokerError("a TLS context is for a URL that begins with amqps://")
        vhost = unquote(parts.path[1:]) if len(parts.path) > 1 else "/"
        (host, port), *others = (
            (node.hostname or "", port or PORTS[node.scheme]) for node, port in zip(nodes, ports, strict=True)
        )
        return cls(
            host,
            port,
            unquote(parts.username) if parts.username is not None else "guest",
            unquote(parts.password) if parts.password is not None else "guest",
            vhost,
            tls,
            tuple(others),
        )

    @property
    def nodes(self) -> tuple["Broker", ...]:
        """Every node by itself: this one, then the others."""
        addresses = (self.host, self.port), *self.others
        return tuple(replace(self, host=host, port=port, others=()) for host, port in addresses)

    def __str__(self) -> str:
        scheme = "amqp" if self.tls is None else "amqps"
        addresses = (self.host, self.port), *self.others
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses)
        vhost = "" if self.vhost == "/" else f"/{self.vhost}"
        return f"{scheme}://{hosts}{vhost}"


def broker_from(
    environment: Mapping[str, str] = os.environ, link: str = "RABBITMQ", tls: ssl.SSLContext | None = None
) -> Broker:
    """The broker that the environment names; localhost where it names none.

    AMQP_URL, or RABBITMQ_URL, is taken before a link's variables, RABBITMQ_PORT_5672_TCP_ADDR and
    RABBITMQ_PORT_5672_TCP_PORT (5671, with TLS, if only that is linked). A link's user is RABBITMQ_USER, its
    password RABBITMQ_PASSWORD or the content of the file RABBITMQ_PASSWORD_FILE (the linked unit's own
    RABBITMQ_DEFAULT_USER and RABBITMQ_DEFAULT_PASS where it exposes them), its vhost RABBITMQ_VHOST; `link`
    is another alias. AMQP_CA_FILE names a file of certificates to trust. Raises BrokerError.
    """
    authorities = environment.get("AMQP_CA_FILE")
    if tls is None and authorities:
        try:
            tls = ssl.create_default_context(cafile=authorities)
        except OSError as error:
            raise BrokerError(f"AMQP_CA_FILE={authorities} cannot be used: {error.strerror}") from error
    for name in ("AMQP_URL", f"{link}_URL"):
        if url := environment.get(name):
            # Authorities matter for TLS only.
            return Broker.parse(url, tls if url.startswith("amqps:") else None)
    for port in PORTS.values():
        prefix = f"{link}_PORT_{port}_TCP"
        if address := environment.get(f"{prefix}_ADDR"):
            secure = port == PORTS["amqps"]
            number = environment.get(f"{prefix}_PORT", str(port))
            if not re.fullmatch("[0-9]{1,5}", number):
                raise BrokerError(f"{prefix}_PORT={number[:20]!a} is no port")
            return Broker(
                address,
                int(number),
                _of_link(environment, link, "USER"),
                _password(environment, link),
                environment.get(f"{link}_VHOST", "/"),
                (tls or ssl.create_default_context()) if secure else None,
            )
    return Broker()


def _of_link(environment: Mapping[str, str], link: str, what: str) -> str:
    """Return our own variable, or the one that the linked unit exposes (ExposeEnv=)."""
    exposed = f"{link}_ENV_RABBITMQ_DEFAULT_{what[:4]}"
    return environment.get(f"{link}_{what}") or environment.get(exposed) or "guest"


def _password(environment: Mapping[str, str], link: str) -> str:
    path = environment.get(f"{link}_PASSWORD_FILE")
    if not path:
        return _of_link(environment, link, "PASSWORD")
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().rstrip("\n")
    except OSError as error:
        raise BrokerError(f"{link}_PASSWORD_FILE={path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise BrokerError(f"{link}_PASSWORD_FILE={path} is not UTF-8") from None
