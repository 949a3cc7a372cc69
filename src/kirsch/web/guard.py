"""Guards of a site: browsers that mean this site, and of their pages, for changes, its own alone."""

import ipaddress
import re
import threading
from collections.abc import Callable, Mapping
from functools import lru_cache

import cherrypy

from kirsch.web.problem import Problem

# So many wrong guesses of one address, and then one in so many seconds; so many addresses are remembered.
GUESSES = 20
PAUSE = 3.0
ADDRESSES = 1000
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::[0-9]{1,5})?")


@lru_cache(1000)
def is_own_host(field: str, names: frozenset[str]) -> bool:
    """Return True if a Host field names this site and not a stranger's domain that was pointed at it.

    Addresses and names without a dot (localhost, a link's alias) are nobody's to register, so DNS
    rebinding cannot use them; other names must be among `names`.
    """
    match = _HOST.fullmatch(field.lower())
    if match is None:
        return False
    name = match[1].rstrip(".")
    return "." not in name or name.endswith(".localhost") or name in names or _is_address(name)


class Guesses:
    """Wrong tokens or passwords of each address, by which whoever guesses is slowed down. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # When each address would have no guess behind it any more, in seconds that only grow.
        self._until: dict[str, float] = {}

    def wait(self, address: str, now: float) -> float:
        """Return the seconds until an address may try again; 0 if it may now."""
        with self._lock:
            return max(self._until.get(address, 0.0) - now - (GUESSES - 1) * PAUSE, 0.0)

    def count(self, address: str, now: float) -> None:
        """Count a wrong one. The addresses that were wrong last are remembered."""
        with self._lock:
            self._until[address] = max(self._until.pop(address, 0.0), now) + PAUSE
            if len(self._until) > ADDRESSES:
                del self._until[next(iter(self._until))]


def is_same_site(headers: Mapping[str, str]) -> bool:
    """Return True if a request that changes something was not sent by another site's page.

    Browsers say who asks in Sec-Fetch-Site (Fetch Metadata, W3C), older ones in Origin (RFC 6454);
    what is no browser sends neither.
    """
    if site := headers.get("Sec-Fetch-Site"):
        return site in ("same-origin", "none")
    origin = headers.get("Origin")
    return origin is None or origin.partition("://")[2].lower() == headers.get("Host", "").lower()


def own_site(names: frozenset[str], variable: str) -> Callable[[], None]:
    """The hook (`on_start_resource`) that refuses requests for other hosts, 421, and changes that pages of
    other sites ask for, 403. `variable` is where a person writes `names`."""

    def refuse_strangers() -> None:
        request = cherrypy.serving.request
        host = request.headers.get("Host")
        if host and not is_own_host(host, names):
            raise Problem(421, f"This is not {host!r}. If it should be, name it in {variable}.")
        if request.method not in SAFE_METHODS and not is_same_site(request.headers):
            raise Problem(403, "A page of another site sent this: only the site's own may.")

    return refuse_strangers


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
