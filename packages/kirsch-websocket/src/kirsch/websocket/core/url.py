"""URLs: ws://, wss:// (RFC 6455, 3) and ws+unix://PATH[:/TARGET] for Unix sockets; and those of proxies.

A URL may carry a password and tokens: `str`, `repr` and errors show neither user nor password nor query.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv6Address, ip_address
from typing import Self
from urllib.parse import quote, unquote, unquote_to_bytes, urljoin

from kirsch.websocket.core.errors import HandshakeError

_SPLIT = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)(#.*)?", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Labels of the DNS (RFC 1035, 2.3.4), with underscores, which some names have.
_NAME = re.compile(r"(?=.{1,254}$)(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?")
_PORT = re.compile(r"[0-9]{0,5}")
# Path and query (RFC 3986, 3.3 and 3.4); escapes stay as they are.
_TARGET = re.compile(r"/[A-Za-z0-9/?:@!$&'()*+,;=._~%-]*")
_TARGET_SAFE = "/?:@!$&'()*+,;=._~%-"
_PROXY_PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}
_SECURE = {"ws": False, "wss": True, "http": False, "https": True}


class BadUrl(HandshakeError, ValueError):
    """The URL is invalid, or no WebSocket can be opened at it."""

    def __init__(self, reason: str) -> None:
        super().__init__(0, reason)


@dataclass(frozen=True, slots=True, repr=False)
class Url:
    """URL of a WebSocket.

    Attributes:
        secure: True for TLS.
        host: a lower-case ASCII name, or an IP address without brackets; "localhost" for a Unix socket.
        port: 1 to 65535.
        target: path and query, as in the request line.
        unix: the path of the Unix socket, if any.
        username, password: decoded; None where none were given.
    """

    secure: bool
    host: str
    port: int
    target: str = "/"
    unix: str | None = None
    username: str | None = None
    password: str | None = None

    def __post_init__(self) -> None:
        # A Url made without `parse` cannot put a line break into a request either.
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
        """Parse a URL. Raises BadUrl, with one line that shows no secrets."""
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
            return cls.of_unix_socket(scheme == "wss+unix", authority + target)
        if scheme not in ("ws", "wss"):
            hint = {"http": "ws://", "https": "wss://"}.get(scheme, "ws://, wss:// or ws+unix://")
            raise BadUrl(f"{scheme}:// is not a WebSocket's scheme: write {hint}")
        return cls.of_host(scheme == "wss", authority, target)

    @classmethod
    def of_host(cls, secure: bool, authority: str, target: str) -> Self:
        userinfo, at, place = authority.rpartition("@")
        if "\\" in userinfo:
            # Browsers read a backslash as a slash, and would see another host.
            raise BadUrl("a URL's user has no backslash: write it as %5C")
        host, port = host_and_port(place)
        username, password = credentials(userinfo) if at else (None, None)
        return cls(secure, host, port or (443 if secure else 80), _target(target), None, username, password)

    @classmethod
    def of_unix_socket(cls, secure: bool, rest: str) -> Self:
        path, colon, target = rest.partition(":")
        if not colon and "?" in path:
            raise BadUrl("a query comes after the path of the target: ws+unix://PATH:/TARGET?QUERY")
        path = unquote(path, errors="surrogateescape")
        if not path or _CONTROL.search(path):
            raise BadUrl("the URL names no Unix socket: write ws+unix://PATH or ws+unix://PATH:/TARGET")
        return cls(secure, "localhost", 443 if secure else 80, _target(target), path)

    def join(self, location: str) -> Self:
        """Return the URL of a redirect's Location (RFC 9110, 10.2.2). Raises BadUrl.

        http and https stand for ws and wss. Redirects to another Unix socket, or from TLS to none, are
        invalid. User and password are kept if scheme, host and port are, or if only TLS is added.
        """
        if _CONTROL.search(location):
            raise BadUrl("the redirect's location has control characters")
        base = f"{'https' if self.secure else 'http'}://{self.authority}{self.target}"
        # The server may answer with http:// or ws://.
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
        there = type(self).of_host(secure, match[2].rpartition("@")[2], match[3])
        if self.unix is not None and there.authority == self.authority:
            return type(self)(
                self.secure, self.host, self.port, there.target, self.unix, self.username, self.password
            )
        if not self.trusts(there):
            return there
        return type(self)(secure, there.host, there.port, there.target, None, self.username, self.password)

    def trusts(self, other: "Url") -> bool:
        """Return True if secrets may be sent there too: to the same origin, or with only TLS added."""
        if (self.unix, self.host) != (other.unix, other.host):
            return False
        if self.secure == other.secure:
            return self.port == other.port
        return other.secure and (self.port, other.port) == (80, 443)

    @property
    def authority(self) -> str:
        """Value of the Host field (RFC 9110, 7.2), without a default port or a zone (RFC 6874, 4)."""
        host = f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    @property
    def place(self) -> str:
        """HOST:PORT for CONNECT and messages, or the Unix socket's path."""
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


@dataclass(frozen=True, slots=True, repr=False)
class Proxy:
    """Proxy between a client and its server.

    Attributes:
        scheme: http and https (CONNECT, RFC 9110, 9.3.6), socks4, socks4a, socks5 or socks5h; as with curl,
            socks4a and socks5h have the proxy resolve the server's name.
        host, port: its address.
        username, password: for its authentication; None where none were given.
    """

    scheme: str
    host: str
    port: int
    username: str | None = None
    password: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse [SCHEME://][USER:PASSWORD@]HOST[:PORT], with http as the default. Raises BadUrl."""
        scheme, separator, rest = text.partition("://")
        if not separator:
            scheme, rest = "http", text
        scheme = scheme.lower()
        if scheme not in _PROXY_PORTS:
            raise BadUrl(
                "a proxy's URL starts with one of " + ", ".join(f"{name}://" for name in _PROXY_PORTS)
            )
        authority, _, path = rest.partition("/")
        if path or not authority.isprintable():
            raise BadUrl("a proxy's URL is SCHEME://[USER:PASSWORD@]HOST[:PORT] and nothing more")
        userinfo, at, address = authority.rpartition("@")
        try:
            host, port = host_and_port(address)
            username, password = credentials(userinfo) if at else (None, None)
            check_credentials(username or "", password or "")
        except BadUrl as error:
            raise BadUrl(f"the proxy's URL: {error.reason}") from None
        return cls(scheme, host, port or _PROXY_PORTS[scheme], username, password)

    @property
    def socks(self) -> bool:
        """True if it speaks SOCKS, not HTTP."""
        return self.scheme.startswith("socks")

    @property
    def resolves(self) -> bool:
        """True if the proxy is given the server's name, not its address."""
        return self.scheme not in ("socks4", "socks5")

    @property
    def place(self) -> str:
        """HOST:PORT, as messages name the proxy."""
        return place(self.host, self.port)

    def connect(self, to: str, user_agent: str | None) -> bytes:
        """Return the request for a tunnel to HOST:PORT (RFC 9110, 9.3.6)."""
        lines = [f"CONNECT {to} HTTP/1.1", f"Host: {to}"]
        if user_agent is not None:
            lines.append(f"User-Agent: {user_agent}")
        if self.username is not None:
            lines.append(f"Proxy-Authorization: {basic(self.username, self.password or '')}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def __str__(self) -> str:
        return f"{self.scheme}://{'***@' if self.username is not None else ''}{self.place}"

    def __repr__(self) -> str:
        return f"<Proxy {self}>"


@dataclass(frozen=True, slots=True)
class Environment:
    """Proxy settings of the environment, as urllib.request reads them.

    Attributes:
        proxies: from `getproxies()`: URLs by scheme, "all" for every scheme.
        bypass: `proxy_bypass`, true for a HOST:PORT that needs no proxy.
    """

    # A proxy's URL may hold a password.
    proxies: Mapping[str, str] = field(repr=False)
    bypass: Callable[[str], object] = field(repr=False)

    def proxy(self, url: Url) -> Proxy | None:
        """Return the proxy for `url`, or None. Raises BadUrl.

        ws_proxy (wss_proxy) comes before http_proxy (https_proxy), and that before all_proxy. Addresses of
        this machine never need one, as in Go.
        """
        if url.unix is not None or _loopback(url.host):
            return None
        for name in ("wss", "https", "all") if url.secure else ("ws", "http", "all"):
            if text := self.proxies.get(name):
                return None if self.bypass(url.place) else Proxy.parse(text)
        return None


def _loopback(host: str) -> bool:
    if host.rstrip(".") == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def place(host: str, port: int) -> str:
    """Return HOST:PORT, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_and_port(text: str) -> tuple[str, int | None]:
    """Return host and port (None if it has none) of an authority without its user. Raises BadUrl."""
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
        # The text may be part of a password that has a slash, so it is not shown.
        raise BadUrl("the URL's port is no number between 1 and 65535")
    return host, int(port) if port else None


def credentials(userinfo: str) -> tuple[str, str]:
    """Return user and password of a URL; the password is empty where there is none.

    Raises BadUrl if they are not UTF-8.
    """
    try:
        username, password = (unquote_to_bytes(part).decode() for part in userinfo.partition(":")[::2])
    except UnicodeDecodeError:
        raise BadUrl("the URL's user and password are not UTF-8") from None
    return username, password


def check_credentials(username: str, password: str) -> None:
    """Raise BadUrl if basic authentication cannot carry them (RFC 7617, 2)."""
    if ":" in username or _CONTROL.search(username + password):
        raise BadUrl("a username has no colon, and neither it nor a password control characters (RFC 7617)")
    try:
        (username + password).encode()
    except UnicodeEncodeError:
        raise BadUrl("user and password are text that UTF-8 can encode") from None


def basic(username: str, password: str) -> str:
    """Return the value of an Authorization or Proxy-Authorization field (RFC 7617)."""
    return "Basic " + b64encode(f"{username}:{password}".encode()).decode()


def _name(text: str) -> str:
    if not text:
        raise BadUrl("the URL names no host")
    try:
        # IDNA encodes names of other scripts; its output may be more than a name, so it is checked.
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
    """Return the part of an invalid URL that cannot be a password or a token."""
    return re.sub(r".*@", "***@", text.partition("?")[0], flags=re.DOTALL)[:80]
