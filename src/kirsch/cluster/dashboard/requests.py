"""Requests that the dashboard's pages may make of kirschd, and those that a role does not allow. Pure."""

from collections.abc import Mapping

from kirsch.cluster.api.access import Identity, needed_role, refusal

API = "/kirsch/v1"
# Nothing here answers with a secret, and nothing ends kirschd.
READS = (
    "/applications/{name}",
    "/audit",
    "/daemon",
    "/endpoints",
    "/events",
    "/figures",
    "/journal",
    "/machines",
    "/machines/{name}",
    "/releases",
    "/releases/{name}/{number}",
    "/store",
    "/units",
    "/units/{name}",
)
CHANGES = (
    "PUT /units/{name}",
    "POST /units/{name}/move",
    "PATCH /machines/{name}",
    "POST /releases/{name}",
    "POST /releases/{name}/{number}",
)
STREAMS = ("/events", "/journal")
_ALLOWED = frozenset(tuple(f"GET {path}".split("/")) for path in READS) | {
    tuple(change.split("/")) for change in CHANGES
}


def is_allowed(method: str, segments: tuple[str, ...]) -> bool:
    """Return True if a page may make this request; `segments` are those of the path below the API's."""
    asked = (f"{'GET' if method == 'HEAD' else method} ", *segments)
    return any(
        len(known) == len(asked)
        and all(part == given or part.startswith("{") for part, given in zip(known, asked, strict=True))
        for known in _ALLOWED
    )


def refused(user: str, role: str) -> Mapping[str, str]:
    """Return the requests that a role does not allow, each with the reason for a person."""
    identity = Identity(user, role)
    asked = ("GET /audit", *CHANGES)
    return {
        request: f"{user} has the role {role}; this needs {needed_role(method, API + path)}"
        for request in asked
        for method, path in [request.split()]
        if refusal(identity, None, method, API + path)
    }
