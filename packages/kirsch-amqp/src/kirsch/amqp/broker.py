"""The broker's address and account: from a URL, the environment, or a link."""

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

PORTS = {"amqp": 5672, "amqps": 5671}
_SHAPE = "amqp[s]://[USER:PASSWORD@]HOST[:PORT][/VHOST]"


class BrokerError(Exception):
    """Settings of the broker that cannot be used: one line, without secrets."""


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker's address, and an account there. `str` has no password, so it may be logged."""

    host: str = "localhost"
    port: int = 5672
    user: str = "guest"
    password: str = field(default="guest", repr=False)
    vhost: str = "/"
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str, tls: ssl.SSLContext | None = None) -> "Broker":
        """From `amqp://USER:PASSWORD@HOST:PORT/VHOST` or `amqps://…`, whose parts but the host may be
        missing.

        `tls` is the context for amqps; the system's authorities are trusted without one. Raises BrokerError.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise BrokerError(f"the broker's URL has no port that is one: {_SHAPE}") from None
        if parts.scheme not in PORTS or not parts.hostname:
            raise BrokerError(f"the broker's URL is no {_SHAPE}")
        if parts.query or parts.fragment:
            raise BrokerError(f"the broker's URL has no query: {_SHAPE}")
        if parts.scheme == "amqps":
            tls = tls or ssl.create_default_context()
        elif tls is not None:
            raise BrokerError("a TLS context is for a URL that begins with amqps://")
        vhost = unquote(parts.path[1:]) if len(parts.path) > 1 else "/"
        return cls(
            parts.hostname,
            port or PORTS[parts.scheme],
            unquote(parts.username) if parts.username is not None else "guest",
            unquote(parts.password) if parts.password is not None else "guest",
            vhost,
            tls,
        )

    def __str__(self) -> str:
        scheme = "amqp" if self.tls is None else "amqps"
        host = f"[{self.host}]" if ":" in self.host else self.host
        vhost = "" if self.vhost == "/" else f"/{self.vhost}"
        return f"{scheme}://{host}:{self.port}{vhost}"


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
