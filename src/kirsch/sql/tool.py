"""`cherrypy.tools.sql`: a session for each request, committed before the first byte of the response.

What happens to `cherrypy.request.db`, and when:

- it takes a connection from the pool at its first use. For GET, HEAD, OPTIONS and TRACE it cannot write:
  PostgreSQL refuses (`tools.sql.read_only` decides otherwise, for a path);
- once the handler is done and the response's body is there, it is committed, then closed. A commit that fails
  is an error like any other, and the client learns of it. So is a transaction that failed earlier, although
  the handler ignored the error;
- on any exception, and when the status is 400 or above, it is rolled back instead. HTTPRedirect and
  InternalRedirect are a handler's way to end, so they commit;
- a streamed body (response.stream) is produced after the commit. The session then reads only: what would be
  written now could no longer be answered for. It is closed as soon as the body ends, fails, or the client has
  gone. Rows that are streamed are to be queried in the generator.

`cherrypy.request.db_read` reads on a replica, where the SQLAlchemyPlugin has one that is not too far behind;
else it is `cherrypy.request.db`.

kirsch.sql.errors says which errors of the database are answered with 503, 504 or 500. The commit runs after
every other `before_finalize` hook, so a tool that raises there undoes the changes; hooks of later points
(on_end_resource, on_end_request) run after it and must not fail.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import cherrypy
from cherrypy.lib import httputil, is_closable_iterator
from sqlalchemy.exc import SQLAlchemyError

from kirsch.sql.engine import READ_ONLY
from kirsch.sql.errors import IDEMPOTENT, answer_to, sqlstate

# Priority of the commit among `before_finalize` hooks: after every tool (encode has 70, gzip 80).
LAST = 1000
# RFC 9110, section 9.2.1.
SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


def channel(name: str, database: str) -> str:
    """Return a channel of the database with this name; the nameless database has `name` itself."""
    return f"{name} {database}" if database else name


def ask(bus: Any, name: str, database: str, *arguments: Any) -> Any:
    """Ask the SQLAlchemyPlugin of a database on its channel, and return its answer or raise its exception.

    Raises RuntimeError unless exactly one listens.
    """
    wanted = channel(name, database)
    listeners = tuple(bus.listeners.get(wanted, ()))
    if len(listeners) == 1:
        return listeners[0](*arguments)
    if listeners:
        raise RuntimeError(f"{len(listeners)} databases answer {wanted!r}: give each plugin but one a name=")
    others = [key.removeprefix(f"{name} ") for key, them in bus.listeners.items() if them and name in key]
    if others:
        raise RuntimeError(
            f"nobody answers {wanted!r}: choose a database with tools.sql.database or "
            f"session_scope(database=), which may be {', '.join(sorted(others))}"
        )
    raise RuntimeError(f"nobody answers {wanted!r}: subscribe a kirsch.sql.SQLAlchemyPlugin to the bus")


def install() -> None:
    """Make `cherrypy.tools.sql` known, for use as a decorator before there is a SQLAlchemyPlugin."""
    if not hasattr(cherrypy.tools, "sql"):
        cherrypy.tools.sql = SessionTool()


class SessionTool(cherrypy.Tool):
    """The tool, with three options.

    - `tools.sql.database`: the name of the SQLAlchemyPlugin, where the bus has several.
    - `tools.sql.read_only`: True or False, where a method's usual meaning does not say it.
    - `tools.sql.retry_after`: the Retry-After of a 503, in seconds (2).
    """

    def __init__(self) -> None:
        super().__init__("before_finalize", Transaction.settle, priority=LAST)

    def _setup(self) -> None:
        options = self._merged_args()
        request = cherrypy.serving.request
        database = options.get("database", "")
        read_only = options.get("read_only", request.method in SAFE)
        request.db = ask(cherrypy.engine, "bind-session", database, read_only)
        reads = ask(cherrypy.engine, "bind-replica", database)
        request.db_read = request.db if reads is None else reads
        transaction = Transaction(request.db, database, reads)
        request.hooks.attach("before_finalize", transaction.settle, priority=options.get("priority", LAST))
        # Failsafe: these run whatever other hooks raise.
        request.hooks.attach("on_end_resource", transaction.abandon, failsafe=True)
        request.hooks.attach("on_end_request", transaction.end, failsafe=True)
        request.error_response = _error_response(request.error_response, options.get("retry_after", 2))


class Transaction:
    """One request's use of its session, driven by CherryPy's hooks."""

    def __init__(self, session: Any, database: str, reads: Any = None) -> None:
        self._session = session
        self._reads = reads
        self._database = database
        self._settled = False
        self._closed = False
        self._stream: Stream | None = None

    def settle(self) -> None:
        """before_finalize: the response is known and none of it is sent. Commit, or roll back."""
        if self._settled:  # the error page of a commit that failed
            return
        response = cherrypy.serving.response
        # A handler that is a generator has not run yet; CherryPy would run it after this hook.
        if not response.stream and response.headers.get("Content-Length") is None:
            response.collapse_body()
        self._finish(commit=status_of(response) < 400)
        if not isinstance(response.body, list):
            self._session.read_only = True
            if self._reads is not None:
                release(self._reads)
            response.body = self._stream = Stream(response.body, self._close)
        else:
            self._close()

    def abandon(self) -> None:
        """on_end_resource: if not settled, something else than HTTPError or HTTPRedirect was raised."""
        if not self._settled:
            try:
                self._finish(commit=isinstance(sys.exc_info()[1], cherrypy.InternalRedirect))
            finally:
                self._close()

    def end(self) -> None:
        """on_end_request: the response is sent, or there is nobody to take it."""
        # CherryPy closes a streamed body only after this hook, and after HEAD not at all.
        if self._stream:
            self._stream.close()
        self._close()

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._session.close()
            if self._reads is not None:
                self._reads.close()

    def _finish(self, commit: bool) -> None:
        self._settled = True
        if not commit:
            self._session.rollback()
            return
        try:
            ask(cherrypy.engine, "commit-session", self._database, self._session)
        except BaseException:
            self._session.close()
            raise


def release(session: Any) -> None:
    """Have a session that only read give its connection back; what it read stays readable, which is not so
    after a rollback."""
    try:
        session.commit()
    except SQLAlchemyError:  # the connection is lost or the transaction failed, and the handler did without
        session.rollback()


class Stream:
    """A response's body that calls `on_end` once: as soon as it ends, fails or is closed."""

    def __init__(self, body: Iterable[bytes], on_end: Callable[[], None]) -> None:
        self._chunks = iter(body)
        self._on_end = on_end
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._chunks)
        except BaseException:  # StopIteration is one
            self.close()
            raise

    def close(self) -> None:
        """End the body where it stands; its generator's `finally` may still use the session."""
        if self._closed:
            return
        self._closed = True
        try:
            if is_closable_iterator(self._chunks):
                self._chunks.close()  # type: ignore[attr-defined]
        finally:
            self._on_end()


def status_of(response: Any) -> int:
    """Return the status of a response as a number."""
    try:
        return int(httputil.valid_status(response.status)[0])
    except ValueError:  # CherryPy makes it a 500
        return 500


def _error_response(given: Callable[[], None], retry_after: int) -> Callable[[], None]:
    """Return the application's answer to an exception, with kirsch's for errors that the database causes."""

    def respond() -> None:
        error, request = sys.exc_info()[1], cherrypy.serving.request
        answer = answer_to(error, request.method in IDEMPOTENT or hasattr(request, "idempotency_key"))
        if answer is None:
            if sqlstate(getattr(error, "orig", None)) == READ_ONLY:
                cherrypy.log(
                    f"{request.method} {request.path_info} tried to write, which {request.method} cannot: "
                    "use POST, or set tools.sql.read_only to False for this path"
                )
            given()
            return
        cherrypy.HTTPError(answer.status, answer.message).set_response()
        if answer.retry:
            cherrypy.serving.response.headers["Retry-After"] = str(retry_after)

    return respond
