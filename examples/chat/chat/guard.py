"""What holds for every request: whose it may be, and what browsers are told."""

import ipaddress
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import cherrypy

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'; "
        "require-trusted-types-for 'script'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Server": "chat",
}
Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::[0-9]{1,5})?")


@lru_cache(1000)
def is_own_host(field: str, names: frozenset[str]) -> bool:
    """Whether a Host field names this application and not a stranger's domain that was pointed at it.

    Addresses and names without a dot are nobody's to register; others must be among `names`.
    """
    match = _HOST.fullmatch(field.lower())
    if match is None:
        return False
    name = match[1].rstrip(".")
    return "." not in name or name.endswith(".localhost") or name in names or _is_address(name)


def check(names: frozenset[str]) -> Callable[[], None]:
    """The hook that refuses requests for other hosts; WebSockets of other sites' pages are the Bridge's to
    refuse."""

    def refuse_strangers() -> None:
        host = cherrypy.serving.request.headers.get("Host")
        if host and not is_own_host(host, names):
            raise cherrypy.HTTPError(421, "This is not the host; if it should be, name it in CHAT_HOSTS.")

    return refuse_strangers


def labelled(application: Wsgi, instance: str) -> Wsgi:
    """A WSGI application whose every response has the headers, and the name of the instance that gave it."""
    ours = [*HEADERS.items(), ("X-Kirsch-Instance", instance)]

    def respond(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, [*headers, *ours], exc_info)

        return application(environ, start)

    return respond


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
