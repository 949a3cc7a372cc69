"""`cherrypy.tools.idempotency`: a POST that is sent twice is carried out once.

A client sends a key of its own with a request (`Idempotency-Key: "8e03978e-40d5"`; IETF draft
draft-ietf-httpapi-idempotency-key-header). The key and the response are written in the transaction of the
request, so they are there if and only if its changes are:

- the same request with the same key later gets the same response, and nothing is done again;
- another request with that key is refused with 422;
- one that comes while the first is at work is refused with 409 and Retry-After;
- a request that failed (status 400 and above) leaves no key behind, and may be sent again.
"""

import hashlib
import io
from typing import Any

import cherrypy
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    bindparam,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB

from kirsch.sql.tool import status_of

idempotency_keys = Table(
    "idempotency_keys",
    MetaData(),
    Column("key", LargeBinary, primary_key=True),
    Column("request", LargeBinary, nullable=False),
    Column("status", Integer),
    Column("headers", JSONB),
    Column("body", LargeBinary),
    Column("created", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
"""The tool's table; in a migration: `idempotency_keys.create(op.get_bind())`."""
Index("idempotency_keys_created", idempotency_keys.c.created)

_MAX_KEY = 255  # characters
# Headers that belong to one response, or that CherryPy and later tools compute anew.
_NOT_KEPT = frozenset({"content-length", "date", "server", "set-cookie", "transfer-encoding"})

# One round trip: removes a few expired rows, so that no other job has to, and claims the key. The lock tells
# a request that is still at work (no row to see, lock taken) from one that has ended.
_CLAIM = text(
    """
    WITH expired AS (
        DELETE FROM idempotency_keys WHERE key IN (
            SELECT key FROM idempotency_keys WHERE created < now() - make_interval(secs => :keep)
            ORDER BY created LIMIT 10 FOR UPDATE SKIP LOCKED
        )
    ), free AS (SELECT pg_try_advisory_xact_lock(:number) AS locked)
    INSERT INTO idempotency_keys (key, request) SELECT :key, :request FROM free WHERE locked
    ON CONFLICT DO NOTHING RETURNING true
    """
).bindparams(bindparam("number", type_=BigInteger), bindparam("keep", type_=Float))
_FIND = select(
    idempotency_keys.c.request, idempotency_keys.c.status, idempotency_keys.c.headers, idempotency_keys.c.body
).where(idempotency_keys.c.key == bindparam("wanted"))
_KEEP = update(idempotency_keys).where(idempotency_keys.c.key == bindparam("wanted"))


def install() -> None:
    """Install the tool as `cherrypy.tools.idempotency`, once."""
    if not hasattr(cherrypy.tools, "idempotency"):
        cherrypy.tools.idempotency = IdempotencyTool()


class IdempotencyTool(cherrypy.Tool):
    """The tool; `cherrypy.tools.sql` must be on for the same path. Its options:

    - `tools.idempotency.methods`: methods that it is for (POST and PATCH).
    - `tools.idempotency.required`: refuse requests without a key, with 400 (False).
    - `tools.idempotency.owner`: a callable that returns the user as text; users do not see each other's keys
      (default: request.login and the Authorization header).
    - `tools.idempotency.keep`: seconds that a key is kept (a day).
    - `tools.idempotency.max_body`: bytes of a request's body, beyond which it is refused with 413 (1 MiB).
    """

    def __init__(self) -> None:
        super().__init__("before_handler", _unused, name="idempotency")

    def _setup(self) -> None:
        options = self._merged_args()
        request = cherrypy.serving.request
        if request.method not in options.get("methods", ("POST", "PATCH")):
            return
        key = request.headers.get("Idempotency-Key", "").strip().strip('"')
        if not key and options.get("required"):
            raise cherrypy.HTTPError(400, "Send an Idempotency-Key with this request.")
        if not key:
            return
        if len(key) > _MAX_KEY:
            raise cherrypy.HTTPError(400, f"The Idempotency-Key is longer than {_MAX_KEY} characters.")
        use = KeyedRequest(key, options)
        request.idempotency_key = key
        request.hooks.attach("before_request_body", use.read_body, priority=0)
        request.hooks.attach("before_handler", use.begin, priority=45)
        # Before tools that depend on the client, as gzip (80): they work on a repeated response too.
        request.hooks.attach("before_finalize", use.keep, priority=60)


def _unused() -> None:
    raise RuntimeError("use tools.idempotency by configuration or as a decorator")


class StillAtWork(cherrypy.HTTPError):
    """409 for a request whose key another one is using at the moment."""

    def __init__(self) -> None:
        super().__init__(409, "The first request with this Idempotency-Key is still at work.")

    def set_response(self) -> None:
        """Make this error the response."""
        super().set_response()
        cherrypy.serving.response.headers["Retry-After"] = "1"


class KeyedRequest:
    """One request with an Idempotency-Key, driven by CherryPy's hooks."""

    def __init__(self, key: str, options: dict[str, Any]) -> None:
        self._name = key
        self._options = options
        self._key = b""
        self._request = b""
        self._claimed = False

    def read_body(self) -> None:
        """before_request_body: take the body's digest and put it back for the handler."""
        request, limit = cherrypy.serving.request, self._options.get("max_body", 1 << 20)
        content = request.body.fp.read(_length(request, limit))
        if len(content) > limit:
            raise cherrypy.HTTPError(413, f"A request with an Idempotency-Key has at most {limit} bytes.")
        request.rfile = request.body.fp = io.BytesIO(content)
        owner = self._options.get("owner", _owner)()
        self._key = _digest(owner, request.method, request.script_name + request.path_info, self._name)
        media_type = request.headers.get("Content-Type", "")
        self._request = _digest(request.query_string, media_type, content)

    def begin(self) -> None:
        """before_handler: claim the key, or answer in the handler's place."""
        request = cherrypy.serving.request
        if not hasattr(request, "db"):
            raise RuntimeError("tools.idempotency needs tools.sql.on for the same path")
        if cherrypy.serving.response.stream:
            raise RuntimeError("tools.idempotency cannot keep a streamed response: turn response.stream off")
        values = {
            "key": self._key,
            "request": self._request,
            "number": int.from_bytes(self._key[:8], "big", signed=True),
            "keep": self._options.get("keep", 86400),
        }
        if request.db.execute(_CLAIM, values).first():
            self._claimed = True
            return
        found = request.db.execute(_FIND, {"wanted": self._key}).first()
        if found is None:
            raise StillAtWork
        if found.request != self._request:
            raise cherrypy.HTTPError(422, "Another request had this Idempotency-Key: use a new key.")
        self._repeat(found)

    def keep(self) -> None:
        """before_finalize: write the response beside the key."""
        response = cherrypy.serving.response
        status = status_of(response)
        if not self._claimed or status >= 400:
            return
        self._claimed = False  # an error page may follow
        headers = [[name, value] for name, value in response.headers.items() if name.lower() not in _NOT_KEPT]
        values = {"status": status, "headers": headers, "body": response.collapse_body()}
        cherrypy.serving.request.db.execute(_KEEP, {"wanted": self._key, **values})

    def _repeat(self, found: Any) -> None:
        response = cherrypy.serving.response
        response.status = found.status
        response.headers.update(found.headers)
        response.body = found.body
        cherrypy.serving.request.handler = None


def _length(request: Any, limit: int) -> int:
    declared = request.headers.get("Content-Length", "")
    return min(int(declared), limit + 1) if declared.isdigit() else limit + 1


def _owner() -> str:
    request = cherrypy.serving.request
    return f"{request.login or ''}\n{request.headers.get('Authorization', '')}"


def _digest(*parts: str | bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.digest()
