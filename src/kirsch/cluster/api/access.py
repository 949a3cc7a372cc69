"""Access to the API: the roles of certificates, and the role that each request needs. Pure.

A certificate's subject has its holder's name (CN) and role (O). Users' certificates have an authority of
their own, which only the API trusts; one of them is good as long as the registry lists it. A machine's is
good until the registry says that it was revoked. The certificate of whoever made the cluster has no role, or
admin.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from kirsch.cluster.model.certificates import ADMIN, DEPLOY, MACHINE, USERS_OF, VIEW, Issued

# Each role with those that it includes.
_INCLUDED: Mapping[str, tuple[str, ...]] = {
    VIEW: (VIEW,),
    DEPLOY: (VIEW, DEPLOY),
    ADMIN: (VIEW, DEPLOY, ADMIN, MACHINE),
    MACHINE: (VIEW, MACHINE),
}
# End of paths whose answers hold secrets.
ENVIRONMENT = "/environment"
_KIRSCH, _FLEET = "/kirsch/v1", "/fleet/v1"

# The role that a request needs, by method and path; whatever is not here needs ADMIN.
ROLES: Mapping[str, str] = {
    **{
        f"{method} {_KIRSCH}{path}": role
        for request, role in {
            "GET /units": VIEW,
            "PATCH /units": DEPLOY,
            "GET /units/{name}": VIEW,
            "PUT /units/{name}": DEPLOY,
            "DELETE /units/{name}": DEPLOY,
            "GET /units/{name}/environment": ADMIN,
            "GET /environment": ADMIN,
            "POST /units/{name}/move": DEPLOY,
            "GET /rebalance": VIEW,
            "POST /rebalance": DEPLOY,
            "POST /verify": VIEW,
            "POST /trial": VIEW,
            "GET /machines": VIEW,
            "GET /machines/{name}": VIEW,
            "PATCH /machines/{name}": ADMIN,
            "DELETE /machines/{name}": ADMIN,
            "GET /endpoints": VIEW,
            "GET /secrets": VIEW,
            "POST /secrets": ADMIN,
            "PUT /secrets/{name}": DEPLOY,
            "POST /secrets/{name}": DEPLOY,
            "DELETE /secrets/{name}": DEPLOY,
            "GET /events": VIEW,
            "GET /journal": VIEW,
            "GET /figures": VIEW,
            "GET /applications/{name}": VIEW,
            "PUT /applications/{name}": DEPLOY,
            "GET /store": VIEW,
            "GET /releases": VIEW,
            "POST /releases/{name}": DEPLOY,
            "GET /releases/{name}/{number}": VIEW,
            "POST /releases/{name}/{number}": DEPLOY,
            "GET /daemon": VIEW,
            "POST /down": ADMIN,
            "GET /openapi.json": VIEW,
            "GET /certificates": ADMIN,
            "POST /certificates": MACHINE,
            "PUT /certificates/{serial}": ADMIN,
            "DELETE /certificates/{serial}": ADMIN,
            "GET /backup": ADMIN,
            "PUT /backup": ADMIN,
            "GET /audit": MACHINE,  # each machine has its part
        }.items()
        for method, path in [request.split()]
    },
    **{
        f"{method} {_FLEET}{path}": role
        for request, role in {
            "GET /units": VIEW,
            "GET /units/{name}": VIEW,
            "PUT /units/{name}": DEPLOY,
            "DELETE /units/{name}": DEPLOY,
            "GET /state": VIEW,
            "GET /state/{name}": VIEW,
            "GET /machines": VIEW,
            "PATCH /machines": ADMIN,
            "GET /discovery": VIEW,
        }.items()
        for method, path in [request.split()]
    },
    "GET /metrics": VIEW,
}
_TEMPLATES = {
    (method, tuple(path.strip("/").split("/"))): role
    for method, path, role in ((*request.split(), role) for request, role in ROLES.items())
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Holder of a connection: by certificate, or at the Unix socket, where `serial` is empty."""

    name: str
    role: str
    serial: str = ""
    user: bool = False  # True for a certificate of the users' authority

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Identity":
        """Read a certificate's holder from what a WSGI server says of TLS, by mod_ssl's names."""
        return cls(
            environ["SSL_CLIENT_S_DN_CN"],
            environ.get("SSL_CLIENT_S_DN_O", ""),
            plain_serial(environ["SSL_CLIENT_M_SERIAL"]),
            environ.get("SSL_CLIENT_I_DN_CN", "").startswith(USERS_OF),
        )


def plain_serial(serial: str) -> str:
    """Return a serial number in capitals without zeros before it, whichever library wrote it."""
    return serial.upper().lstrip("0")


def needed_role(method: str, path: str) -> str:
    """Return the role that a request needs."""
    method = "GET" if method == "HEAD" else method
    segments = tuple(segment for segment in path.split("/") if segment)
    found = _TEMPLATES.get((method, segments))
    if found is not None:
        return found
    for (known, template), role in _TEMPLATES.items():
        if known == method and len(template) == len(segments):
            pairs = zip(template, segments, strict=True)
            if all(part == segment or part.startswith("{") for part, segment in pairs):
                return role
    return ADMIN


def refusal(identity: Identity, issued: Issued | None, method: str, path: str) -> str:
    """Return why a request is refused; empty where it is not. `issued` is what the registry has of the
    certificate."""
    role = identity.role
    if issued is not None and issued.revoked:
        return f"the certificate of {identity.name} was revoked"
    if identity.user:
        if issued is None:
            return f"the certificate of {identity.name} was revoked, or another took its place"
        role = issued.role
    elif identity.role == "":
        role = ADMIN  # from a kirsch that had no roles
    needed = needed_role(method, path)
    if needed not in _INCLUDED.get(role, ()):
        return f"{identity.name} has the role {role}, and {method} {path} needs {needed}"
    return ""
