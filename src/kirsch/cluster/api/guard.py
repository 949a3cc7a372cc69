"""Guard before the API: refuses what a certificate's role does not allow, and has changes in the audit
log."""

import json
import logging
import pwd
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kirsch.bus.http.wsgi import Application, Environ
from kirsch.cluster.api.access import ENVIRONMENT, Identity, refusal
from kirsch.cluster.api.answers import encode
from kirsch.cluster.model import keys
from kirsch.cluster.model.certificates import ADMIN, Issued
from kirsch.cluster.node.audit import AuditEntry, AuditLog
from kirsch.cluster.node.node import Node

log = logging.getLogger(__name__)

READS = ("GET", "HEAD", "OPTIONS")
# Names of an entry, and bytes of a body that they are looked for in.
MOST_NAMES, MOST_BODY = 20, 4 << 20
# Key of the WSGI environment for the Identity that a request was allowed for.
IDENTITY = "kirsch.identity"
AWAY = "503 Service Unavailable", "this machine is not in the cluster yet: the store is away"


class Guard:
    """WSGI middleware: `application` gets what is allowed. `node` is None until the machine has joined."""

    def __init__(self, application: Application, node: Callable[[], Node | None], audit: AuditLog) -> None:
        self.application = application
        self.node = node
        self.audit = audit

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        identity, node = identify(environ), self.node()
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        issued = None
        if identity.serial and node is not None:
            value = node.mirror.value(keys.certificate(identity.serial))
            issued = Issued.parse(value) if value is not None else None
        elif identity.user:
            return _refuse(environ, start_response, *AWAY)
        why = refusal(identity, issued, method, path)
        if issued is not None and identity.user:
            identity = Identity(identity.name, issued.role, identity.serial, user=True)
        environ[IDENTITY] = identity
        # Secrets are in the answers of some that only read.
        if not why and method in READS and not path.endswith(ENVIRONMENT):
            return self.application(environ, start_response)
        names = named(environ) if not why else ()

        def begin(status: str, *more: Any) -> Any:
            self._record(identity, environ, names, int(status[:3]), node)
            return start_response(status, *more)

        if why:
            return _refuse(environ, begin, "403 Forbidden", why)
        return self.application(environ, begin)

    def _record(
        self, identity: Identity, environ: Environ, names: tuple[str, ...], status: int, node: Node | None
    ) -> None:
        entry = AuditEntry(
            time.time(),
            identity.name,
            identity.role or ADMIN,
            environ.get("REMOTE_ADDR", ""),
            environ["REQUEST_METHOD"],
            environ["PATH_INFO"].encode("latin-1").decode(errors="replace")[:500],
            names,
            status,
            node.machine.id if node is not None else "",
        )
        try:
            self.audit.add(entry)
        except OSError as error:
            log.error("the audit log lacks %s %s of %s: %s", entry.method, entry.path, entry.who, error)


def identify(environ: Mapping[str, Any]) -> Identity:
    """Return the holder of the certificate, or the user of this machine at its Unix socket."""
    if "SSL_CLIENT_M_SERIAL" in environ:
        return Identity.of(environ)
    user = int(environ["X_REMOTE_UID"])
    try:
        return Identity(pwd.getpwuid(user).pw_name, ADMIN)
    except KeyError:
        return Identity(str(user), ADMIN)


def named(environ: Environ) -> tuple[str, ...]:
    """Return the units that the body of a change of many names; the body can be read again."""
    body = environ["wsgi.input"]
    if environ["PATH_INFO"].rstrip("/") != "/kirsch/v1/units" or not body.seekable():
        return ()
    try:
        return _names(json.loads(body.read(MOST_BODY)))
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError):
        return ()  # it will be refused
    finally:
        body.seek(0)


def _names(body: Any) -> tuple[str, ...]:
    found = [change["name"] for change in body.get("change", ())]
    found += [f"{name} (destroy)" for name in body.get("destroy", ())]
    found += [f"{name}={count}" for name, count in body.get("scale", {}).items()]
    more = [f"and {len(found) - MOST_NAMES} more"] if len(found) > MOST_NAMES else []
    return tuple(str(name)[:200] for name in found[:MOST_NAMES]) + tuple(more)


def _refuse(
    environ: Environ, start_response: Callable[..., Any], status: str, detail: str
) -> Iterable[bytes]:
    code, title = int(status[:3]), status[4:]
    if environ["PATH_INFO"].startswith("/fleet/"):
        kind, body = "application/json", encode({"error": {"code": code, "message": detail}})
    else:
        kind = "application/problem+json"
        body = encode({"type": "about:blank", "title": title, "status": code, "detail": detail})
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
