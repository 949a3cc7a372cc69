"""SOCKS proxies, by python-socks, which is asked for where a proxy is one and not before."""

from importlib import import_module
from typing import Any

from kirsch.websocket.errors import HandshakeError
from kirsch.websocket.proxy import Proxy
from kirsch.websocket.url import BadUrl


def client(proxy: Proxy, forward: object, *, asyncio: bool = False) -> Any:
    """python-socks's own Proxy, which reaches the proxy by `forward.connect(host, port, timeout)`.

    Raises:
        BadUrl: python-socks is not installed.
    """
    try:
        kinds = import_module("python_socks").ProxyType
        make = import_module("python_socks.async_.asyncio" if asyncio else "python_socks.sync").Proxy
    except ImportError as error:
        raise BadUrl("a SOCKS proxy needs python-socks: pip install 'kirsch-websocket[socks]'") from error
    kind = kinds.SOCKS4 if proxy.scheme.startswith("socks4") else kinds.SOCKS5
    # Where we are to resolve the name, it is an address by now.
    return make(kind, proxy.host, proxy.port, proxy.username, proxy.password, True, forward=forward)


def address(found: list[Any]) -> str:
    """Of what getaddrinfo found, what is given to a proxy: IPv4 first, for not every proxy has IPv6."""
    best: str = min(found, key=lambda info: info[0])[4][0]
    return best


def failure(proxy: Proxy, host: str, error: Exception) -> HandshakeError:
    """Why a SOCKS proxy made no way, in one line."""
    why = " ".join(str(error).split()) or "it does not speak SOCKS"
    return HandshakeError(0, f"the proxy {proxy.place} makes no way to {host}: {why}")
