"""Guards of a site: browsers that mean this site, and of their pages, for changes, its own alone."""

import ipaddress
import re
from collections.abc import Callable, Mapping
from functools import lru_cache

import cherrypy

from kirsch.web.problem import Problem

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
