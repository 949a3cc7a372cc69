"""Header fields of every response, so that they keep strangers' scripts and frames away."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

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
}
Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def labelled(application: Wsgi, headers: Mapping[str, str]) -> Wsgi:
    """A WSGI application whose every response has HEADERS, and `headers` beside or in place of them."""
    ours = tuple({**HEADERS, **headers}.items())

    def respond(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, [*headers, *ours], exc_info)

        return application(environ, start)

    return respond
