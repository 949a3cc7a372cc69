"""The token on the phone's screen, which whoever asks over the network has to know."""

# ruff: noqa: N802  CherryPy dispatches to methods named as HTTP names them.

import hmac
from collections.abc import Callable

import cherrypy

from kirsch.web import Problem, is_for_people

COOKIE = "location-token"
WRONG = "This token is not the one on the phone's screen."
MISSING = "Whoever asks has to know the token on the phone's screen."
_FORM = """<form method="post" action="/token" class="card token">
<label for="token">Token</label>
<input id="token" name="token" autocomplete="off" autocapitalize="characters" required autofocus>
<button class="button primary">Show the location</button></form>"""


class Token:
    """/token: where people type the token."""

    exposed = True

    def __init__(self, token: str) -> None:
        self._token = token

    def POST(self, token: object = "") -> None:
        """Take it, and show the location."""
        if not isinstance(token, str) or not is_token(token, self._token):
            raise refusal(WRONG)
        remember(self._token)
        raise cherrypy.HTTPRedirect("/location", 303)


def is_token(given: str, token: str) -> bool:
    """Whether a person means the token: in any case, with or without its dash."""
    return hmac.compare_digest(_plain(given), _plain(token))


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
        if request.method in ("GET", "HEAD") and is_for_people():
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


def _plain(token: str) -> bytes:
    return "".join(letter for letter in token.upper() if letter.isalnum()).encode()
