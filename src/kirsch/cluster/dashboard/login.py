"""Login of the dashboard that listens for other computers: names, roles and passwords of a secret.

Behind a balancer, which is to encrypt what browsers send (TLS) and to say who asks (X-Forwarded-For).
"""

import hmac
import math
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock

import cherrypy

from kirsch.cluster.api.access import Identity
from kirsch.cluster.model.certificates import PEOPLE
from kirsch.web import Guesses, Problem, is_same_site

COOKIE = "kirsch-dashboard"
SHORTEST = 12  # characters of a password
LASTING = 12 * 3600.0  # seconds of a session
SESSIONS = 1000
AGAIN = '<p><a class="button primary" href="/login">Log in</a></p>'


class UsersError(ValueError):
    """A list of users cannot be read: one line that says why."""


def parse_users(text: str) -> dict[str, tuple[str, str]]:
    """Read lines of NAME ROLE PASSWORD: the role and the password of each name. Raises UsersError."""
    users = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split(None, 2)
        if not words:
            continue
        if len(words) < 3 or words[1] not in PEOPLE:
            roles = ", ".join(PEOPLE)
            raise UsersError(f"line {number} of the users is not NAME ROLE PASSWORD with a role of {roles}")
        name, role, password = words[0], words[1], words[2].rstrip()
        if len(password) < SHORTEST:
            raise UsersError(f"the password of {name} is shorter than {SHORTEST} characters")
        users[name] = role, password
    if not users:
        raise UsersError("there are no users: write lines of NAME ROLE PASSWORD")
    return users


@dataclass
class Login:
    """Sessions of users who logged in. For any thread."""

    users: Mapping[str, tuple[str, str]]
    path: str = ""
    _sessions: dict[str, tuple[Identity, float]] = field(default_factory=dict, init=False)
    # Of addresses and of names apart: ever new addresses must not push the names out.
    _addresses: Guesses = field(default_factory=Guesses, init=False)
    _names: Guesses = field(default_factory=Guesses, init=False)
    _lock: Lock = field(default_factory=Lock, init=False)

    def address(self, host: str) -> str:
        """Return the address to open."""
        return f"http://{host}/"

    def begin(self, name: str, password: str) -> None:
        """Take a name and a password, and have the browser send the session's cookie from now on. Raises
        Problem."""
        request = cherrypy.serving.request
        now = time.monotonic()
        # The balancer sets the field; who gets here without it is in the cluster's own network.
        address = request.headers.get("X-Forwarded-For", request.remote.ip).rpartition(",")[2].strip()
        # Of the name too: guesses may come from ever new addresses.
        guessed = (self._addresses, address), (self._names, name)
        if wait := max(guesses.wait(key, now) for guesses, key in guessed):
            seconds = str(math.ceil(wait))
            raise Problem(
                429, "There were too many wrong passwords. Try again in a moment.", {"Retry-After": seconds}
            )
        role, known = self.users.get(name, ("", secrets.token_hex(16)))
        if not hmac.compare_digest(_encode(password), _encode(known)) or not role:
            for guesses, key in guessed:
                guesses.count(key, now)
            raise Problem(403, "No user has this name and password.", more=AGAIN)
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._sessions[token] = Identity(name, role), now + LASTING
            if len(self._sessions) > SESSIONS:
                del self._sessions[next(iter(self._sessions))]
        self._set_cookie(token)

    def end(self) -> None:
        """Forget the present request's session."""
        with self._lock:
            self._sessions.pop(_sent_session(), None)
        self._set_cookie("", age=0)

    def identity(self) -> Identity | None:
        """Return who sends the present request; None for nobody who is known."""
        return self._identity(_sent_session())

    def lasting(self) -> Callable[[], bool]:
        """Return a check for later: True until the present request's user logs out, or the session's time is
        over."""
        session = _sent_session()
        return lambda: self._identity(session) is not None

    def _identity(self, session: str) -> Identity | None:
        with self._lock:
            identity, until = self._sessions.get(session, (None, 0.0))
        return identity if until > time.monotonic() else None

    def check(self) -> None:
        """Refuse the present request unless a user sent it, from one of our own pages. Raises Problem."""
        if self.identity() is None:
            raise Problem(401, "Log in first.", more=AGAIN)
        if not is_same_site(cherrypy.serving.request.headers):
            raise Problem(403, "A page of another site sent this: only the dashboard's own may.")

    def _set_cookie(self, value: str, age: float = LASTING) -> None:
        jar = cherrypy.serving.response.cookie
        jar[COOKIE] = value
        jar[COOKIE]["path"] = "/"
        jar[COOKIE]["max-age"] = int(age)
        jar[COOKIE]["httponly"] = True
        jar[COOKIE]["samesite"] = "Strict"
        if cherrypy.serving.request.headers.get("X-Forwarded-Proto") == "https":
            jar[COOKIE]["secure"] = True


def _sent_session() -> str:
    cookie = cherrypy.serving.request.cookie.get(COOKIE)
    return cookie.value if cookie else ""


def _encode(password: str) -> bytes:
    # Surrogates stand for bytes of the environment that are no UTF-8; a form may send any.
    return password.encode(errors="surrogatepass")
