"""What the application does for its own protection: who may ask, and what browsers are told."""

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import cherrypy

from .problem import Problem

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
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
    "Server": "notes",
}
Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::[0-9]{1,5})?")


@lru_cache(1000)
def is_own_host(field: str, names: frozenset[str]) -> bool:
    """Whether a Host field names this application and not a stranger's domain that was pointed at it.

    Addresses and names without a dot (localhost, a link's alias) are nobody's to register, so DNS
    rebinding cannot use them; other names must be among `names`.
    """
    match = _HOST.fullmatch(field.lower())
    if match is None:
        return False
    name = match[1].rstrip(".")
    return "." not in name or name.endswith(".localhost") or name in names or _is_address(name)


def is_same_site(headers: Mapping[str, str]) -> bool:
    """Whether a request that changes something was not sent by another site's page.

    Browsers say who asks in Sec-Fetch-Site (Fetch Metadata, W3C), older ones in Origin (RFC 6454);
    what is no browser sends neither.
    """
    if site := headers.get("Sec-Fetch-Site"):
        return site in ("same-origin", "none")
    origin = headers.get("Origin")
    return origin is None or origin.partition("://")[2].lower() == headers.get("Host", "").lower()


def check(names: frozenset[str]) -> Callable[[], None]:
    """The hook that refuses requests for other hosts and changes asked for by other sites."""

    def refuse_strangers() -> None:
        request = cherrypy.serving.request
        host = request.headers.get("Host")
        if host and not is_own_host(host, names):
            raise Problem(421, f"Notes are not kept at {host!r}. If they should be, name it in NOTES_HOSTS.")
        if request.method not in SAFE_METHODS and not is_same_site(request.headers):
            raise Problem(403, "A page of another site sent this. Notes are changed from their own page.")

    return refuse_strangers


def labelled(application: Wsgi, instance: str) -> Wsgi:
    """A WSGI application whose every response has the headers, and the name of the instance that gave it."""

    ours = tuple(headers_of(instance).items())

    def respond(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, [*headers, *ours], exc_info)

        return application(environ, start)

    return respond


def headers_of(instance: str) -> dict[str, str]:
    """The headers of every response that `instance` gives."""
    return HEADERS | {"X-Kirsch-Instance": instance}


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
