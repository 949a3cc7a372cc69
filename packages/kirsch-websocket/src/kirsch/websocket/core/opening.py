"""Opening of a client's connection: proxy, TLS, handshake, redirects. No I/O.

`opening` is a generator, as the parser is. It yields the next `Step` and is sent its result: the bytes for
`Receive` (none at the end of the stream), None for every other step. The driver reports a step that fails,
and closes the generator. `kirsch.websocket.dial` and `kirsch.websocket.loops.dial` are drivers.
"""

import os
import re
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace

from kirsch.websocket.core import arguments
from kirsch.websocket.core.deflate import Deflate
from kirsch.websocket.core.errors import HandshakeError
from kirsch.websocket.core.handshake import Agreed, ClientHandshake, Redirect
from kirsch.websocket.core.headers import TOKEN, HeadReader, Request, Response
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.url import Environment, Proxy, Url, check_credentials, place

# RFC 9110, 5.5; characters beyond ASCII are sent as Latin-1.
_VALUE = re.compile(r"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
# Fields that the handshake writes itself, and those that would announce a body.
_OURS = frozenset({"upgrade", "connection", "origin", "content-length", "transfer-encoding", "expect"})


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """Options of a client's connection.

    Attributes:
        subprotocols: the subprotocols that it offers, the best first.
        deflate: the compression that it offers; None for none (RFC 7692).
        origin: the Origin field's value; a client that is no browser needs none.
        headers: more fields of the request: pairs, or a mapping. They may be secrets, so they are not sent
            after a redirect to another host.
        user_agent: the User-Agent field; None for none.
        proxy: a URL (http, https, socks4, socks4a, socks5, socks5h), "environment" to use the environment's
            variables, or None.
        auth: user and password for HTTP basic authentication, instead of those in the URL.
        redirects: the number of redirects that are followed.
        limits: the limits of the connection.

    Raises:
        TypeError: a value of the wrong type.
        ValueError: a value would break the request, or is a field that the handshake writes itself.
    """

    subprotocols: tuple[str, ...] = ()
    deflate: Deflate | None = field(default_factory=Deflate)
    origin: str | None = None
    headers: Iterable[tuple[str, str]] | Mapping[str, str] = field(default=(), repr=False)
    user_agent: str | None = "kirsch"
    proxy: str | None = field(default="environment", repr=False)
    auth: tuple[str, str] | None = field(default=None, repr=False)
    redirects: int = 5
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        arguments.kind("deflate", self.deflate, Deflate | None, "a kirsch.websocket.Deflate or None")
        arguments.kind("limits", self.limits, Limits, "a kirsch.websocket.Limits")
        arguments.whole("redirects", self.redirects, 0)
        pairs = self.headers.items() if isinstance(self.headers, Mapping) else self.headers
        object.__setattr__(self, "headers", tuple((name, value) for name, value in pairs))
        names = (self.subprotocols,) if isinstance(self.subprotocols, str) else tuple(self.subprotocols)
        object.__setattr__(self, "subprotocols", names)
        for subprotocol in self.subprotocols:
            if TOKEN.fullmatch(subprotocol) is None:
                raise ValueError(f"{subprotocol!r} is no name of a subprotocol")
        if len(set(self.subprotocols)) < len(self.subprotocols):
            raise ValueError("a subprotocol is named twice")
        for name, value in self.fields:
            if TOKEN.fullmatch(name) is None:
                raise ValueError(f"{name!r} is no name of a header field")
            if name.lower() in _OURS or name.lower().startswith("sec-websocket-"):
                raise ValueError(f"{name} is a header field that the handshake writes itself")
            if _VALUE.fullmatch(value) is None:
                raise ValueError(f"the value of {name} is not one line of printable Latin-1")
        for what, text in (("origin", self.origin), ("user agent", self.user_agent)):
            if text is not None and (not text or _VALUE.fullmatch(text) is None):
                raise ValueError(f"the {what} is not one line of printable Latin-1")
        if self.auth is not None:
            check_credentials(*self.auth)

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """The headers, as pairs."""
        return self.headers  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect by TCP; the host may be a name. `proxy` is True for a proxy's address, for messages."""

    host: str
    port: int
    proxy: bool = False

    @property
    def peer(self) -> str:
        """Peer of this step, for messages."""
        return _named(place(self.host, self.port), self.proxy)


@dataclass(frozen=True, slots=True)
class ConnectUnix:
    """Connect to a Unix socket."""

    path: str

    @property
    def peer(self) -> str:
        """Peer of this step, for messages."""
        return self.path


@dataclass(frozen=True, slots=True)
class ConnectSocks:
    """Connect to the host through a SOCKS proxy, which resolves the name if `proxy.resolves`."""

    proxy: Proxy
    host: str
    port: int

    @property
    def peer(self) -> str:
        """Peer of this step, for messages."""
        return _named(self.proxy.place, True)


@dataclass(frozen=True, slots=True)
class StartTLS:
    """Start TLS, inside of the TLS that is spoken already if any; `proxy` is True for TLS with a proxy."""

    server_hostname: str
    proxy: bool = False

    @property
    def peer(self) -> str:
        """Peer of this step, for messages."""
        return _named(self.server_hostname, self.proxy)


@dataclass(frozen=True, slots=True)
class Send:
    """Send bytes, which may hold passwords; `peer` is for messages."""

    data: bytes = field(repr=False)
    peer: str


@dataclass(frozen=True, slots=True)
class Receive:
    """Receive bytes, and send them to the generator; `peer` is for messages."""

    peer: str


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close the connection; another is made next."""

    peer: str


Step = Connect | ConnectUnix | ConnectSocks | StartTLS | Send | Receive | Disconnect


@dataclass(frozen=True, slots=True)
class Opened:
    """Result of the steps: an open WebSocket.

    Attributes:
        agreed: the subprotocol and the compression.
        response: the server's response.
        rest: the bytes that came after the response: the beginning of the first frames.
        url: the URL after all redirects.
    """

    agreed: Agreed
    response: Response = field(repr=False)
    rest: bytes = field(repr=False)
    url: Url


Steps = Generator[Step, bytes | None, Opened]


def opening(
    url: Url | str,
    options: ClientOptions,
    environment: Environment | None = None,
    random: Callable[[int], bytes] = os.urandom,
) -> Steps:
    """Yield the steps that open a WebSocket at `url`, and return it.

    Args:
        url: the address; its user and password are sent as HTTP basic authentication.
        options: the client's options.
        environment: for the option proxy="environment"; None for one without proxies.
        random: returns n random bytes, for the handshake's key.

    Raises:
        BadUrl: the URL, that of the proxy or that of a redirect is invalid; BadUrl is a HandshakeError.
        HandshakeError: the server or the proxy refused, or did not speak HTTP or RFC 6455.
    """
    if isinstance(url, str):
        url = Url.parse(url)
    if options.auth is not None:
        url = replace(url, username=options.auth[0], password=options.auth[1])
    headers = options.fields
    for left in range(options.redirects, -1, -1):
        yield from _reach(url, options, environment)
        handshake = ClientHandshake(
            url,
            subprotocols=options.subprotocols,
            deflate=options.deflate,
            origin=options.origin,
            headers=_fields(headers, options.user_agent),
            nonce=random(16),
        )
        yield Send(handshake.request, url.place)
        response, rest = yield from _response(url.place, options.limits)
        try:
            return Opened(handshake.check(response), response, rest, url)
        except Redirect as redirect:
            there = url.join(redirect.location)
            if not left:
                raise _too_many_redirects(redirect.status, there, options.redirects) from None
        yield Disconnect(url.place)
        if not url.trusts(there):
            headers = ()
        url = there
    raise AssertionError("the last round returns or raises")


def _reach(
    url: Url, options: ClientOptions, environment: Environment | None
) -> Generator[Step, bytes | None, None]:
    """Yield the steps to a connection with the server, with TLS if the URL asks for it."""
    proxy: Proxy | None = None
    if url.unix is not None:
        yield ConnectUnix(url.unix)
    else:
        if options.proxy != "environment":
            proxy = Proxy.parse(options.proxy) if options.proxy is not None else None
        elif environment is not None:
            proxy = environment.proxy(url)
        if proxy is None:
            yield Connect(url.host, url.port)
        elif proxy.socks:
            yield ConnectSocks(proxy, url.host, url.port)
        else:
            yield from _tunnel(proxy, url.place, options)
    if url.secure:
        # A final dot is for the resolver; certificates have none.
        yield StartTLS(url.host.rstrip("."))


def _tunnel(proxy: Proxy, to: str, options: ClientOptions) -> Generator[Step, bytes | None, None]:
    peer = _named(proxy.place, True)
    yield Connect(proxy.host, proxy.port, proxy=True)
    if proxy.scheme == "https":
        yield StartTLS(proxy.host.rstrip("."), proxy=True)
    yield Send(proxy.connect(to, options.user_agent), peer)
    response, rest = yield from _response(peer, options.limits)
    if response.status == 407:
        wants = "another user or password" if proxy.username is not None else "a user and a password"
        raise HandshakeError(407, f"{peer} wants {wants}")
    if not 200 <= response.status < 300:
        raise HandshakeError(
            response.status,
            f"{peer} makes no way to {to}: {response.reason[:100]!a}",
        )
    if rest:
        # A server waits for the client, so these are the proxy's bytes, and must not count as the server's.
        raise HandshakeError(0, f"{peer} said more than that the way is free")


def _response(peer: str, limits: Limits) -> Generator[Step, bytes | None, tuple[Response, bytes]]:
    """Receive the response's head; return it and the bytes after it."""
    reader = HeadReader(limits, client=True)
    head: Request | Response | None = None
    while head is None:
        answer = yield Receive(peer)
        if not answer:
            raise HandshakeError(0, f"{peer} closed the connection before it answered")
        try:
            head = reader.feed(answer)
        except HandshakeError as error:
            raise HandshakeError(0, f"{peer} answered with no HTTP response: {error.reason}") from None
    assert isinstance(head, Response)
    return head, reader.rest


def _named(peer: str, proxy: bool) -> str:
    return f"the proxy {peer}" if proxy else peer


def _fields(headers: tuple[tuple[str, str], ...], user_agent: str | None) -> tuple[tuple[str, str], ...]:
    """Return the request's further fields; a User-Agent among `headers` replaces ours."""
    if user_agent is None or any(name.lower() == "user-agent" for name, _ in headers):
        return headers
    return (*headers, ("User-Agent", user_agent))


def _too_many_redirects(status: int, there: Url, redirects: int) -> HandshakeError:
    how = "more than once" if redirects == 1 else f"more than {redirects} times"
    return HandshakeError(status, f"redirected {how if redirects else 'though none is followed'}, to {there}")
