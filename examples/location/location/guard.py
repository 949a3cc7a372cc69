"""Who may ask: browsers that mean this phone, and, where it listens to the network, who knows the token."""

import hmac
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import cherrypy

from .problem import Problem, is_for_people

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'; "
        "require-trusted-types-for 'script'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(self), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Server": "location",
}
COOKIE = "location-token"
WRONG = "This token is not the one on the phone's screen."
MISSING = "Whoever asks has to know the token on the phone's screen."
_FORM = """<form method="post" action="/token" class="card token">
<label for="token">Token</label>
<input id="token" name="token" autocomplete="off" autocapitalize="characters" required autofocus>
<button>Show the location</button></form>"""
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::[0-9]{1,5})?")
Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def is_own_host(field: str, names: frozenset[str]) -> bool:
    """Whether a Host field names this application and not a stranger's domain that was pointed at it.

    Addresses and names without a dot are nobody's to register; others must be among `names`.
    """
    match = _HOST.fullmatch(field.lower())
    if match is None:
        return False
    name = match[1].rstrip(".")
    return "." not in name or name.endswith(".localhost") or name in names or _is_address(name)


def is_same_site(headers: Mapping[str, str]) -> bool:
    """Whether a request that changes something was not sent by another site's page."""
    if site := headers.get("Sec-Fetch-Site"):
        return site in ("same-origin", "none")
    origin = headers.get("Origin")
    return origin is None or origin.partition("://")[2].lower() == headers.get("Host", "").lower()


def is_token(given: str, token: str) -> bool:
    """Whether a person means the token: in any case, with or without its dash."""
    return hmac.compare_digest(_plain(given), _plain(token))


def strangers(names: frozenset[str]) -> Callable[[], None]:
    """The hook that refuses requests for other hosts, and what other sites' pages send."""

    def refuse() -> None:
        headers = cherrypy.serving.request.headers
        host = headers.get("Host")
        if host and not is_own_host(host, names):
            raise Problem(421, f"This is not {host!r}. If it should be, name it in LOCATION_HOSTS.")
        if cherrypy.serving.request.method not in SAFE_METHODS and not is_same_site(headers):
            raise Problem(403, "A page of another site sent this.")

    return refuse


def check(token: str) -> Callable[[], None]:
    """The hook that lets those pass who know the token: by cookie, by Authorization, or in the address.

    A browser that has it in the address gets it as a cookie, and an address without it.
    """

    def refuse() -> None:
        request = cherrypy.serving.request
        cookie = request.cookie.get(COOKIE)
        if cookie is not None and is_token(cookie.value, token):
            return
        scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and is_token(credentials, token):
            return
        in_address = request.params.get("token")
        if in_address is None:
            raise refusal(MISSING)
        if not isinstance(in_address, str) or not is_token(in_address, token):
            raise refusal(WRONG)
        if request.method in SAFE_METHODS and is_for_people():
            remember(token)
            raise cherrypy.HTTPRedirect(request.path_info, 303)
        del request.params["token"]

    return refuse


def refusal(detail: str) -> Problem:
    """The answer to who does not know the token: people may type it."""
    return Problem(401, detail, {"WWW-Authenticate": 'Bearer realm="location"'}, more=_FORM)


def remember(token: str) -> None:
    """Have the browser send the token from now on, and nobody's script read it."""
    jar = cherrypy.serving.response.cookie
    jar[COOKIE] = _plain(token).decode()
    for name, value in (("path", "/"), ("httponly", True), ("samesite", "Strict")):
        jar[COOKIE][name] = value


def labelled(application: Wsgi, instance: str) -> Wsgi:
    """A WSGI application whose every response has the headers, and the name of the instance that gave it."""
    ours = [*HEADERS.items(), ("X-Kirsch-Instance", instance)]

    def respond(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, [*headers, *ours], exc_info)

        return application(environ, start)

    return respond


def _plain(token: str) -> bytes:
    return "".join(letter for letter in token.upper() if letter.isalnum()).encode()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
