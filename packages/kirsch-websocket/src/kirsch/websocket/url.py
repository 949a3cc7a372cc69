"""A WebSocket's address: ws://, wss:// (RFC 6455, 3) and ws+unix://PATH[:/TARGET] for Unix sockets.

An address may carry a password and tokens: `str`, `repr` and errors show neither user nor password nor query.
"""

import re
from base64 import b64encode
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address
from typing import Self
from urllib.parse import quote, unquote, unquote_to_bytes, urljoin

from kirsch.websocket.errors import HandshakeError

_SPLIT = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)(#.*)?", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Labels as the DNS has them, and underscores, which some use (RFC 1035, 2.3.4).
_NAME = re.compile(r"(?=.{1,254}$)(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?")
_PORT = re.compile(r"[0-9]{0,5}")
# Path and query as RFC 3986, 3.3 and 3.4 write them; an escape stays as it is.
_TARGET = re.compile(r"/[A-Za-z0-9/?:@!$&'()*+,;=._~%-]*")
_TARGET_SAFE = "/?:@!$&'()*+,;=._~%-"
_SECURE = {"ws": False, "wss": True, "http": False, "https": True}


class BadUrl(HandshakeError, ValueError):
    """What was given as an address is none that a WebSocket can be opened at."""

    def __init__(self, reason: str) -> None:
        super().__init__(0, reason)


@dataclass(frozen=True, slots=True, repr=False)
class Url:
    """Where a WebSocket is.

    Attributes:
        secure: whether it is spoken over TLS.
        host: a lower-case ASCII name, or an IP address without brackets; "localhost" for a Unix socket.
        port: 1 to 65535.
        target: path and query, as they stand in the request line.
        unix: the path of the Unix socket, if it is one.
        username, password: as they are, not percent-encoded; None where none were given.
    """

    secure: bool
    host: str
    port: int
    target: str = "/"
    unix: str | None = None
    username: str | None = None
    password: str | None = None

    def __post_init__(self) -> None:
        # Whoever builds one by hand cannot put a line break into a request either.
        if _NAME.fullmatch(self.host) is None and ":" not in self.host:
            raise BadUrl(f"{self.host!r} is no host name")
        if ":" in self.host:
            _ipv6(self.host)
        if not 0 < self.port < 65536:
            raise BadUrl(f"port {self.port} is not between 1 and 65535")
        if self.unix is not None and (not self.unix or _CONTROL.search(self.unix)):
            raise BadUrl("a Unix socket's path is not empty and has no control characters")
        if _TARGET.fullmatch(self.target) is None:
            raise BadUrl("the path of a URL is one line of ASCII that starts with /")
        if self.username is not None:
            check_credentials(self.username, self.password or "")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The address that `text` is; raises BadUrl with one line that names no secrets."""
        if _CONTROL.search(text):
            raise BadUrl("a URL has no control characters")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadUrl("a URL is text that UTF-8 can encode") from None
        match = _SPLIT.fullmatch(text)
        if match is None:
            raise BadUrl(
                f"{_shown(text)!r} is no URL: write ws://HOST[:PORT][/PATH], wss:// or ws+unix://PATH"
            )
        scheme, authority, target, fragment = match.groups()
        scheme = scheme.lower()
        if fragment is not None:
            raise BadUrl("a WebSocket's URL has no fragment: write # as %23 (RFC 6455, 3)")
        if scheme in ("ws+unix", "wss+unix"):
            return cls._of_unix(scheme == "wss+unix", authority + target)
        if scheme not in ("ws", "wss"):
            hint = {"http": "ws://", "https": "wss://"}.get(scheme, "ws://, wss:// or ws+unix://")
            raise BadUrl(f"{scheme}:// is not a WebSocket's scheme: write {hint}")
        return cls._of_host(scheme == "wss", authority, target)

    @classmethod
    def _of_host(cls, secure: bool, authority: str, target: str) -> Self:
        userinfo, at, place = authority.rpartition("@")
        if "\\" in userinfo:
            # Browsers read a backslash as a slash: the host would be another one for them.
            raise BadUrl("a URL's user has no backslash: write it as %5C")
        host, port = host_and_port(place)
        username, password = credentials(userinfo) if at else (None, None)
        return cls(secure, host, port or (443 if secure else 80), _target(target), None, username, password)

    @classmethod
    def _of_unix(cls, secure: bool, rest: str) -> Self:
        path, colon, target = rest.partition(":")
        if not colon and "?" in path:
            raise BadUrl("a query comes after the path of the target: ws+unix://PATH:/TARGET?QUERY")
        path = unquote(path, errors="surrogateescape")
        if not path or _CONTROL.search(path):
            raise BadUrl("the URL names no Unix socket: write ws+unix://PATH or ws+unix://PATH:/TARGET")
        return cls(secure, "localhost", 443 if secure else 80, _target(target), path)

    def join(self, location: str) -> Self:
        """Where a redirect's Location leads from here (RFC 9110, 10.2.2); raises BadUrl.

        http and https stand for ws and wss. No redirect leads to another Unix socket, or from TLS to none.
        User and password stay where scheme, host and port do, or where only TLS is added.
        """
        if _CONTROL.search(location):
            raise BadUrl("the redirect's location has control characters")
        base = f"{'https' if self.secure else 'http'}://{self.authority}{self.target}"
        # urljoin knows how to join ws:// too, but a server may well answer with either.
        try:
            match = _SPLIT.fullmatch(urljoin(base, location.strip(" ")))
        except ValueError:
            match = None
        scheme = match[1].lower() if match else ""
        if match is None or scheme not in _SECURE:
            raise BadUrl("the redirect leads to no ws, wss, http or https URL")
        secure = _SECURE[scheme]
        if self.secure and not secure:
            raise BadUrl("the redirect leads from wss to ws: not followed")
        there = type(self)._of_host(secure, match[2].rpartition("@")[2], match[3])
        if self.unix is not None and there.authority == self.authority:
            return type(self)(
                self.secure, self.host, self.port, there.target, self.unix, self.username, self.password
            )
        if not self.trusts(there):
            return there
        return type(self)(secure, there.host, there.port, there.target, None, self.username, self.password)

    def trusts(self, other: "Url") -> bool:
        """Whether secrets of here may be sent there: to the same origin, or with only TLS added."""
        if (self.unix, self.host) != (other.unix, other.host):
            return False
        if self.secure == other.secure:
            return self.port == other.port
        return other.secure and (self.port, other.port) == (80, 443)

    @property
    def authority(self) -> str:
        """The Host field's value (RFC 9110, 7.2): without the scheme's own port or a zone (RFC 6874, 4)."""
        host = f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    @property
    def place(self) -> str:
        """HOST:PORT, or the Unix socket's path: for CONNECT, and for people."""
        if self.unix is not None:
            return self.unix
        return place(self.host, self.port)

    def __str__(self) -> str:
        scheme = "wss" if self.secure else "ws"
        path, query, _ = self.target.partition("?")
        query = query and "?***"
        if self.unix is not None:
            return f"{scheme}+unix://{quote(self.unix, errors='surrogateescape')}:{path}{query}"
        return f"{scheme}://{'***@' if self.username is not None else ''}{self.authority}{path}{query}"

    def __repr__(self) -> str:
        return f"<Url {self}>"


def place(host: str, port: int) -> str:
    """HOST:PORT as they are written together: with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_and_port(text: str) -> tuple[str, int | None]:
    """The host and, if it is there, the port of a URL's authority without its user; raises BadUrl."""
    if text.startswith("["):
        literal, bracket, port = text[1:].partition("]")
        host = _ipv6(unquote(literal))
        if not bracket or (port and port[0] != ":"):
            raise BadUrl("an IPv6 address stands in brackets: [::1]:PORT")
        port = port[1:]
    else:
        name, _, port = text.partition(":")
        host = _name(name)
    if _PORT.fullmatch(port) is None or (port and not 0 < int(port) < 65536):
        # What stands there may be part of a password with a slash in it: it is not shown.
        raise BadUrl("the URL's port is no number between 1 and 65535")
    return host, int(port) if port else None


def credentials(userinfo: str) -> tuple[str, str]:
    """User and password as a URL writes them before the @; the password is empty where there is none.

    Raises BadUrl where they are not UTF-8.
    """
    try:
        username, password = (unquote_to_bytes(part).decode() for part in userinfo.partition(":")[::2])
    except UnicodeDecodeError:
        raise BadUrl("the URL's user and password are not UTF-8") from None
    return username, password


def check_credentials(username: str, password: str) -> None:
    """Raises BadUrl where basic authentication cannot carry them (RFC 7617, 2)."""
    if ":" in username or _CONTROL.search(username + password):
        raise BadUrl("a username has no colon, and neither it nor a password control characters (RFC 7617)")
    try:
        (username + password).encode()
    except UnicodeEncodeError:
        raise BadUrl("user and password are text that UTF-8 can encode") from None


def basic(username: str, password: str) -> str:
    """The value of an Authorization or Proxy-Authorization field (RFC 7617)."""
    return "Basic " + b64encode(f"{username}:{password}".encode()).decode()


def _name(text: str) -> str:
    if not text:
        raise BadUrl("the URL names no host")
    try:
        # Names of other scripts are IDNA's; what comes out is checked, for it may be more than a name.
        name = text if text.isascii() else text.encode("idna").decode()
    except UnicodeError:
        raise BadUrl(f"{text!r} is no host name") from None
    if _NAME.fullmatch(name) is None:
        raise BadUrl(f"{text!r} is no host name")
    return name.lower()


def _ipv6(text: str) -> str:
    try:
        address = IPv6Address(text)
    except AddressValueError:
        raise BadUrl(f"{text!r} is no IPv6 address") from None
    zone = address.scope_id
    if zone is not None and re.fullmatch(r"[A-Za-z0-9._~-]+", zone) is None:
        raise BadUrl(f"{text!r} is no IPv6 address")
    return str(address)


def _target(text: str) -> str:
    target = quote(text, safe=_TARGET_SAFE)
    return target if target.startswith("/") else f"/{target}"


def _shown(text: str) -> str:
    """What of a text that is no URL can be shown: nothing that may be a password or a token."""
    return re.sub(r".*@", "***@", text.partition("?")[0], flags=re.DOTALL)[:80]
