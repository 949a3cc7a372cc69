"""Proxies on the way to a WebSocket's server: which one, and what is said to it. No I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Self

from kirsch.websocket.url import BadUrl, Url, basic, check_credentials, credentials, host_and_port, place

_PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}


@dataclass(frozen=True, slots=True, repr=False)
class Proxy:
    """One proxy.

    Attributes:
        scheme: http and https (CONNECT, RFC 9110, 9.3.6), socks4, socks4a, socks5 or socks5h; as with curl,
            the last letter says that the proxy resolves the server's name, not we.
        host, port: where it listens.
        username, password: what it asks for; None where none were given.
    """

    scheme: str
    host: str
    port: int
    username: str | None = None
    password: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """The proxy that [SCHEME://][USER:PASSWORD@]HOST[:PORT] names, http by default; raises BadUrl."""
        scheme, separator, rest = text.partition("://")
        if not separator:
            scheme, rest = "http", text
        scheme = scheme.lower()
        if scheme not in _PORTS:
            raise BadUrl("a proxy's URL starts with one of " + ", ".join(f"{name}://" for name in _PORTS))
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
        return cls(scheme, host, port or _PORTS[scheme], username, password)

    @property
    def socks(self) -> bool:
        """Whether it speaks SOCKS, not HTTP."""
        return self.scheme.startswith("socks")

    @property
    def resolves(self) -> bool:
        """Whether the proxy is given the server's name, not its address."""
        return self.scheme not in ("socks4", "socks5")

    @property
    def place(self) -> str:
        """HOST:PORT, for people."""
        return place(self.host, self.port)

    def connect(self, to: str, user_agent: str | None) -> bytes:
        """The request for a tunnel to HOST:PORT (RFC 9110, 9.3.6)."""
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
    """What the environment says of proxies, as urllib.request reads it.

    Attributes:
        proxies: what `getproxies()` gave: scheme to URL, "all" for every scheme.
        bypass: `proxy_bypass`: whether a HOST:PORT is reached without a proxy.
    """

    # A proxy's URL may hold a password.
    proxies: Mapping[str, str] = field(repr=False)
    bypass: Callable[[str], object] = field(repr=False)

    def proxy(self, url: Url) -> Proxy | None:
        """The proxy for `url`, if it needs one; raises BadUrl.

        ws_proxy (wss_proxy) comes before http_proxy (https_proxy), that before all_proxy. This machine's
        own names need none, whatever is set, as in Go.
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
