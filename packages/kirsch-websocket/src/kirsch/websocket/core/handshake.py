"""Opening handshake (RFC 6455, 4): the server's answer to a request, the client's request and check."""

import hashlib
import re
from base64 import b64encode
from binascii import b2a_base64
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from inspect import iscoroutinefunction
from typing import Any, Final
from urllib.parse import quote

from kirsch.websocket.core import arguments, deflate
from kirsch.websocket.core.deflate import Agreement, Deflate
from kirsch.websocket.core.errors import HandshakeError
from kirsch.websocket.core.headers import TOKEN, Headers, Request, Response
from kirsch.websocket.core.url import Url

__all__ = [
    "Accepted",
    "Agreed",
    "ClientHandshake",
    "Policy",
    "Redirect",
    "accept",
    "accept_fields",
    "refusal",
    "request_from_environ",
]

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# Sixteen bytes in base64 (4.1).
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_VALUE = re.compile(r"[ \t!-~\x80-\xff]*")
_SWITCHING: Final = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
)
_UPGRADE: Final = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))
_PORTS: Final = {"http": "80", "https": "443", "ws": "80", "wss": "443"}
_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))
# Fields that the handshake writes, and that applications cannot add.
_OWN: Final = frozenset(
    (
        "connection",
        "content-length",
        "transfer-encoding",
        "upgrade",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
    )
)
# Fields of a response that the server writes itself.
_FRAMING: Final = frozenset(("connection", "content-length", "transfer-encoding"))
_SAFE: Final = "/:@!$&'()*+,;=~"

Fields = Iterable[tuple[str, str]]
Select = Callable[[Request, list[str]], str | None]


@dataclass(frozen=True, slots=True)
class Policy:
    """Conditions on which a server accepts a client.

    Attributes:
        subprotocols: the supported ones; the first that the client offers is chosen, or none. Or a function
            of the request and of what the client offers, which returns one of these, or None.
        origins: the pages whose scripts may connect: "https://example.com", "same" for pages of the host
            itself, "*" for any; None is ("same",). Clients without an Origin are no browsers, and accepted.
        deflate: the compression of messages, if the client supports it; None for none.
        headers: further fields of the response: pairs, a mapping, or a function of the request that returns
            either.
        process_request: a function of the request, called before anything of it is checked but its head. It
            returns None, or a Response that answers the request in place of a handshake (a health page, a
            challenge, a redirect).

    The functions may refuse a request by raising HandshakeError. They must not block.
    """

    subprotocols: tuple[str, ...] | Select = ()
    origins: Collection[str] | None = None
    deflate: Deflate | None = Deflate()  # noqa: RUF009 - it is frozen
    headers: Mapping[str, str] | Fields | Callable[[Request], Mapping[str, str] | Fields] = ()
    process_request: Callable[[Request], Response | None] | None = None

    def __post_init__(self) -> None:
        arguments.kind("deflate", self.deflate, Deflate | None, "a kirsch.websocket.Deflate or None")
        origins = ("same",) if self.origins is None else self.origins
        origins = (origins,) if isinstance(origins, str) else origins
        object.__setattr__(self, "origins", frozenset(origin.rstrip("/").lower() for origin in origins))
        if not callable(self.subprotocols):
            object.__setattr__(self, "subprotocols", _tokens(self.subprotocols))
        if not callable(self.headers):
            object.__setattr__(self, "headers", _fields(self.headers))
        for name in ("subprotocols", "headers", "process_request"):
            if iscoroutinefunction(value := getattr(self, name)):
                raise TypeError(
                    f"{name} is a plain function, since a handshake does not wait: not {value.__name__}"
                )
        if self.process_request is not None and not callable(self.process_request):
            raise TypeError(f"process_request is a function, not {arguments.shown(self.process_request)}")


@dataclass(frozen=True, slots=True)
class Accepted:
    """Server's answer: the response in bytes, the subprotocol, and the compression."""

    response: bytes
    subprotocol: str | None
    deflate: Agreement | None

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Fields of the response, for servers that write it themselves; its status is 101."""
        lines = self.response[:-4].decode("latin-1").split("\r\n")[1:]
        return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]


@dataclass(frozen=True, slots=True)
class Agreed:
    """Subprotocol and compression that client and server agreed on."""

    subprotocol: str | None
    deflate: Agreement | None


class Redirect(HandshakeError):
    """The server redirects to `location`, a URL or relative to the requested one."""

    def __init__(self, status: int, location: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(status, f"the server redirects to {location[:200]!a}", headers)
        self.location = location


def accept(request: Request, policy: Policy, subprotocol: str | None = None) -> Accepted:
    """Answer a request (RFC 6455, 4.2.2). Raises HandshakeError with the status of the refusal.

    `subprotocol` is one that the application has chosen already, in place of the policy's choice; ValueError
    tells that the client did not offer it.

    405 for any method but GET, 400 for a malformed request, 426 without an upgrade to WebSocket or for
    another version than 13, 403 for an origin that `policy` does not accept.
    """
    fields = request.headers.combined()
    key = _key(request, fields)
    if "*" not in (origins := policy.origins or ()) and (origin := fields.get("origin")) is not None:
        own = "same" in origins and _is_same(origin, fields["host"])
        if not own and origin.lower() not in origins:
            raise HandshakeError(403, f"the origin {origin[:200]!a} is not allowed")
    digest = hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    answer = [_SWITCHING, b2a_base64(digest, newline=False).decode()]
    agreement = None
    offered = _offered(fields.get("sec-websocket-protocol", ""))
    if subprotocol is None:
        choice = policy.subprotocols
        if callable(choice):
            subprotocol = choice(request, offered)
        else:
            subprotocol = next((name for name in offered if name in choice), None)
    if subprotocol is not None and subprotocol not in offered:
        raise ValueError(f"the client did not offer the subprotocol {subprotocol[:40]!a}")
    if subprotocol is not None:
        answer += "\r\nSec-WebSocket-Protocol: ", subprotocol
    if (offers := fields.get("sec-websocket-extensions")) is not None:
        # A malformed offer is refused even where compression is off.
        found = deflate.negotiate(offers, policy.deflate or Deflate())
        if found is not None and policy.deflate is not None:
            agreement, extension = found
            answer += "\r\nSec-WebSocket-Extensions: ", extension
    # Policy has made pairs of those that are given.
    further: Any = _fields(policy.headers(request)) if callable(policy.headers) else policy.headers
    for name, value in further:
        answer.append(f"\r\n{name}: {value}")
    answer.append("\r\n\r\n")
    return Accepted("".join(answer).encode("latin-1"), subprotocol, agreement)


def accept_fields(
    fields: Mapping[str, str] | Fields, policy: Policy, *, method: str = "GET", target: str = "/"
) -> Accepted:
    """Answer a request that another server has read, as `accept`; `fields` is a mapping or pairs."""
    pairs = fields.items() if isinstance(fields, Mapping) else fields
    return accept(Request(method, target, Headers(pairs)), policy)


def _key(request: Request, fields: dict[str, str]) -> str:
    """Return the Sec-WebSocket-Key of a valid handshake (4.2.1). Raises HandshakeError for others."""
    if request.method != "GET":
        raise HandshakeError(
            405, f"a WebSocket begins with GET, not {request.method[:40]}", (("Allow", "GET"),)
        )
    target = request.target
    if target[:1] != "/" and not target.lower().startswith(("http://", "https://")):
        raise HandshakeError(400, "the request's target is no path")
    # The values of a repeated field are joined here, so they are no valid host, version or key.
    if "," in fields.get("host", ","):
        raise HandshakeError(400, "a request has one Host")
    if "transfer-encoding" in fields or fields.get("content-length", "0") != "0":
        raise HandshakeError(400, "a WebSocket's request has no body")
    if not _names(fields.get("upgrade", ""), "websocket"):
        raise HandshakeError(426, "this is a WebSocket: Upgrade: websocket is missing", _UPGRADE)
    if not _names(fields.get("connection", ""), "upgrade"):
        raise HandshakeError(400, "Connection: Upgrade is missing")
    version = fields.get("sec-websocket-version")
    if version != "13":
        shown = "no Sec-WebSocket-Version" if version is None else f"version {version[:40]!a}"
        raise HandshakeError(426, f"{shown}: it is 13 here", _UPGRADE)
    key = fields.get("sec-websocket-key", "")
    if _KEY.fullmatch(key) is None:
        raise HandshakeError(400, "Sec-WebSocket-Key is not 16 bytes in base64, once")
    return key


def _split(text: str) -> list[str]:
    """Return a list's members (RFC 9110, 5.6.1)."""
    return [member for part in text.split(",") if (member := part.strip(" \t"))]


def _names(text: str, token: str) -> bool:
    """Return True if a list has the token, in any case."""
    text = text.lower()
    return text == token or ("," in text and token in _split(text))


def _is_same(origin: str, host: str) -> bool:
    """Return True if an origin's host and port are those of the Host field."""
    scheme, _, place = origin.lower().partition("://")
    host = host.lower()
    if place == host:
        return bool(host)
    # Either may name the scheme's default port.
    port = _PORTS.get(scheme)
    return port is not None and place.removesuffix(f":{port}") == host.removesuffix(f":{port}")


def _offered(text: str) -> list[str]:
    """Return the subprotocols that a client offers. Raises HandshakeError for what is no name."""
    offered = _split(text)
    for subprotocol in offered:
        if TOKEN.fullmatch(subprotocol) is None:
            raise HandshakeError(400, f"{subprotocol[:40]!a} is no subprotocol's name")
    return offered


def refusal(error: HandshakeError) -> bytes:
    """Return the response for an error, in bytes; the connection is to be closed after it."""
    status = error.status if (300 if error.body is None else 200) <= error.status <= 599 else 500
    fields, body = content(error)
    upgrade = ", Upgrade" if any(name.lower() == "upgrade" for name, _ in fields) else ""
    lines = [
        f"HTTP/1.1 {status} {phrase(status)}",
        *(_CONTROL.sub(" ", f"{name}: {value}") for name, value in fields),
        f"Content-Length: {len(body)}",
        f"Connection: close{upgrade}",
    ]
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body


def phrase(status: int) -> str:
    """Return the reason phrase of a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Refused" if status >= 300 else "Answered"


def content(error: HandshakeError) -> tuple[list[tuple[str, str]], bytes]:
    """Return fields and body of the response for an error: its own body, or its reason as a line of text."""
    body = error.body
    if body is None:
        body = f"{error.reason}\n".encode("utf-8", "backslashreplace")
    fields = [(name, value) for name, value in error.headers if name.lower() not in _FRAMING]
    if body and not any(name.lower() == "content-type" for name, _ in fields):
        fields.append(("Content-Type", "text/plain; charset=utf-8"))
    return fields, body


def request_from_environ(environ: Mapping[str, object]) -> Request:
    """Return the request of a WSGI environ (PEP 3333).

    The server has joined repeated fields and decoded the path, which is encoded again. Raises HandshakeError
    505 for another version than HTTP/1.1.
    """
    protocol = str(environ.get("SERVER_PROTOCOL", "HTTP/1.1"))
    if protocol.startswith("HTTP/") and protocol != "HTTP/1.1":
        raise HandshakeError(505, f"{protocol[:40]}: a WebSocket needs HTTP/1.1")
    fields = [
        (name[5:].replace("_", "-").title(), str(value))
        for name, value in environ.items()
        if name.startswith("HTTP_")
    ]
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            fields.append((name.replace("_", "-").title(), str(environ[name])))
    target = quote_path(f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}") or "/"
    query = environ.get("QUERY_STRING")
    return Request(
        str(environ.get("REQUEST_METHOD", "")), f"{target}?{query}" if query else target, Headers(fields)
    )


def quote_path(path: str) -> str:
    """Return a path that a WSGI server has decoded in the form in which it stands in a request."""
    return quote(path.encode("latin-1", "replace"), safe=_SAFE)


class ClientHandshake:
    """Client's side of the handshake: its request, and the check of the response (RFC 6455, 4.1).

    Attributes:
        request: the request, in bytes.
        key: its Sec-WebSocket-Key.
    """

    def __init__(
        self,
        url: Url,
        *,
        subprotocols: Iterable[str] = (),
        deflate: Deflate | None = Deflate(),  # noqa: B008 - it is frozen
        origin: str | None = None,
        headers: Mapping[str, str] | Fields = (),
        nonce: bytes,
    ) -> None:
        """Write the request; `nonce` is 16 random bytes. Raises ValueError for an invalid field."""
        if len(nonce) != 16:
            raise ValueError(f"the nonce has 16 bytes, not {len(nonce)}")
        self.key = b64encode(nonce).decode()
        self.subprotocols = _tokens(subprotocols)
        self.deflate = deflate
        further = _fields(headers)
        self.request = self._written(url, origin, further)

    def _written(self, url: Url, origin: str | None, further: tuple[tuple[str, str], ...]) -> bytes:
        names = {name.lower() for name, _ in further}
        fields = [("Host", url.authority)] if "host" not in names else []
        fields += [("Upgrade", "websocket"), ("Connection", "Upgrade")]
        fields += [("Sec-WebSocket-Key", self.key), ("Sec-WebSocket-Version", "13")]
        if origin is not None:
            fields += _fields([("Origin", origin)])
        if self.subprotocols:
            fields.append(("Sec-WebSocket-Protocol", ", ".join(self.subprotocols)))
        if self.deflate is not None:
            fields.append(("Sec-WebSocket-Extensions", deflate.offer(self.deflate)))
        if url.username is not None and "authorization" not in names:
            account = b64encode(f"{url.username}:{url.password or ''}".encode()).decode()
            fields.append(("Authorization", f"Basic {account}"))
        lines = [f"{name}: {value}\r\n" for name, value in (*fields, *further)]
        return f"GET {url.target} HTTP/1.1\r\n{''.join(lines)}\r\n".encode("latin-1")

    def check(self, response: Response) -> Agreed:
        """Return what was agreed on.

        Raises HandshakeError, with the response's status and fields, if the response does not accept our
        request; Redirect if it redirects.
        """
        headers = response.headers
        fields = tuple(headers.items())
        if response.status != 101:
            location = headers.get("Location")
            if response.status in _REDIRECTS and location:
                raise Redirect(response.status, location, fields)
            raise HandshakeError(
                response.status, f"the server refuses: {response.status} {response.reason[:100]!a}", fields
            )
        try:
            return self._agreed(headers)
        except HandshakeError as error:
            raise HandshakeError(101, error.reason, fields) from None

    def _agreed(self, headers: Headers) -> Agreed:
        if [value.lower() for value in headers.tokens("Upgrade")] != ["websocket"]:
            raise HandshakeError(101, "the response has no Upgrade: websocket")
        if not _names(", ".join(headers.get_all("Connection")), "upgrade"):
            raise HandshakeError(101, "the response has no Connection: Upgrade")
        digest = hashlib.sha1(self.key.encode() + _GUID, usedforsecurity=False).digest()
        if headers.get_all("Sec-WebSocket-Accept") != [b64encode(digest).decode()]:
            raise HandshakeError(101, "the response's Sec-WebSocket-Accept does not answer our key")
        agreement = None
        if extensions := ", ".join(headers.get_all("Sec-WebSocket-Extensions")):
            if self.deflate is None:
                raise HandshakeError(101, f"the server uses {extensions[:100]!a}, which was not offered")
            agreement = deflate.agree(extensions, self.deflate)
        subprotocols = headers.get_all("Sec-WebSocket-Protocol")
        if len(subprotocols) > 1 or not set(subprotocols) <= set(self.subprotocols):
            raise HandshakeError(
                101, f"the server speaks {', '.join(subprotocols)[:100]!a}, which was not asked for"
            )
        return Agreed(subprotocols[0] if subprotocols else None, agreement)


def _tokens(names: Iterable[str]) -> tuple[str, ...]:
    """Return subprotocols' names. Raises ValueError for an invalid or repeated one (4.1)."""
    tokens = (names,) if isinstance(names, str) else tuple(names)
    for token in tokens:
        if TOKEN.fullmatch(token) is None:
            raise ValueError(f"{token!a} is no subprotocol's name")
    if len(set(tokens)) != len(tokens):
        raise ValueError("a subprotocol is named twice")
    return tokens


def _fields(given: Mapping[str, str] | Fields) -> tuple[tuple[str, str], ...]:
    """Return further fields. Raises ValueError for an invalid one, and for those of the handshake."""
    fields = tuple(given.items() if isinstance(given, Mapping) else given)
    for name, value in fields:
        if TOKEN.fullmatch(name) is None:
            raise ValueError(f"{name!a} is no header field's name")
        if name.lower() in _OWN:
            raise ValueError(f"{name} is the handshake's own to say")
        if _VALUE.fullmatch(value) is None:
            raise ValueError(f"a value of {name} cannot stand in a header field")
    return fields
