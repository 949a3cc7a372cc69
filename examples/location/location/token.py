"""The token on the phone's screen, which whoever asks over the network has to know."""

# ruff: noqa: N802  CherryPy dispatches to methods named as HTTP names them.

import hmac
import math
import time
from collections.abc import Callable

import cherrypy

from kirsch.web import Guesses, Problem, is_for_people

COOKIE = "location-token"
WRONG = "This token is not the one on the phone's screen."
SLOWLY = "There were too many wrong tokens from this address. Try again in a moment."
MISSING = "Whoever asks has to know the token on the phone's screen."
_FORM = """<form method="post" action="/token" class="card token">
<label for="token">Token</label>
<input id="token" name="token" autocomplete="off" autocapitalize="characters" required autofocus>
<button class="button primary">Show the location</button></form>"""


class Secret:
    """The token, with which tokens of requests are compared: slowly, where many were wrong."""

    def __init__(self, token: str) -> None:
        self.token = token
        self._guesses = Guesses()

    def known(self, given: object) -> bool:
        """Compare what the request gives with the token. Raises Problem where there were too many guesses."""
        address, now = cherrypy.serving.request.remote.ip, time.monotonic()
        if wait := self._guesses.wait(address, now):
            raise Problem(429, SLOWLY, {"Retry-After": str(math.ceil(wait))})
        if isinstance(given, str) and is_token(given, self.token):
            return True
        self._guesses.count(address, now)
        return False


class Token:
    """/token: where people type the token."""

    exposed = True

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    def POST(self, token: object = "") -> None:
        """Take it, and show the location."""
        if not self._secret.known(token):
            raise refusal(WRONG)
        remember(self._secret.token)
        raise cherrypy.HTTPRedirect("/location", 303)


def is_token(given: str, token: str) -> bool:
    """Whether a person means the token: in any case, with or without its dash."""
    return hmac.compare_digest(_plain(given), _plain(token))


def check(secret: Secret) -> Callable[[], None]:
    """The hook that lets those pass who know the token: by cookie, by Authorization, or in the address.

    A browser that has it in the address gets it as a cookie, and an address without it.
    """

    def refuse() -> None:
        request = cherrypy.serving.request
        cookie = request.cookie.get(COOKIE)
        if cookie is not None and secret.known(cookie.value):
            return
        scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and secret.known(credentials):
            return
        in_address = request.params.get("token")
        if in_address is None:
            raise refusal(MISSING)
        if not secret.known(in_address):
            raise refusal(WRONG)
        if request.method in ("GET", "HEAD") and is_for_people():
            remember(secret.token)
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
