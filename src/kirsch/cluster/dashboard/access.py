"""Access to the dashboard: one token, used once, and one cookie after it; own pages alone.

The site lies below a path that nobody can guess, and its cookie is for that path: browsers send cookies to
every port of a host, and other servers of this machine are not to be sent this one.
"""

import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock

import cherrypy

from kirsch.web import Problem, is_same_site

COOKIE = "kirsch-dashboard"
AGAIN = "Run `kirsch dashboard` again, and open the address that it prints."


@dataclass
class Access:
    """Secrets of one dashboard. For any thread."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    session: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    path: str = field(default_factory=lambda: f"/{secrets.token_hex(8)}")
    _used: bool = field(default=False, init=False)
    _lock: Lock = field(default_factory=Lock, init=False)

    def address(self, host: str) -> str:
        """Return the address to open, once."""
        return f"http://{host}{self.path}/?token={self.token}"

    def begin(self, token: object) -> None:
        """Take the token, and have the browser send the session's cookie from now on. Raises Problem."""
        if not isinstance(token, str) or not _equal(token, self.token):
            raise Problem(403, f"This token is not the dashboard's. {AGAIN}", more="")
        with self._lock:
            used, self._used = self._used, True
        if used and not self.knows(cherrypy.serving.request):
            raise Problem(403, f"This address was opened before, and works once. {AGAIN}", more="")
        jar = cherrypy.serving.response.cookie
        jar[COOKIE] = self.session
        for name, value in (("path", f"{self.path}/"), ("httponly", True), ("samesite", "Strict")):
            jar[COOKIE][name] = value

    def identity(self) -> None:
        """Return nobody: the person has the role that kirschd sees."""

    def lasting(self) -> Callable[[], bool]:
        """Return a check for later: the session lasts as long as the dashboard."""
        return lambda: True

    def knows(self, request: object) -> bool:
        """Return True if a request has the session's cookie."""
        cookie = getattr(request, "cookie", {}).get(COOKIE)
        return cookie is not None and _equal(cookie.value, self.session)

    def check(self) -> None:
        """Refuse the present request unless it is this session's, from its own pages. Raises Problem."""
        request = cherrypy.serving.request
        if not self.knows(request):
            raise Problem(401, f"The dashboard is open to one browser, and this is not it. {AGAIN}", more="")
        if not is_same_site(request.headers):
            raise Problem(403, "A page of another site sent this: only the dashboard's own may.")


def check_host(headers: Mapping[str, str], port: int) -> None:
    """Refuse a request that was meant for another host: a name that somebody pointed here (DNS rebinding).
    Raises Problem."""
    host = headers.get("Host", "")
    if host.lower() not in (f"127.0.0.1:{port}", f"localhost:{port}"):
        raise Problem(421, f"The dashboard is at 127.0.0.1:{port}, and not at {host!r}.", more="")


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(errors="replace"), other.encode())
