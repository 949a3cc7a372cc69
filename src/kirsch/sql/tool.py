"""`cherrypy.tools.sql`: a session for each request, committed before the first byte of the response.

What happens to `cherrypy.request.db`, and when:

- it takes a connection from the pool at its first use; for GET and HEAD its plain selects run on their own,
  without a transaction around them (kirsch.sql.autocommit);
- once the handler is done and the response's body is there, it is committed, then closed. A commit that fails
  is an error like any other, and the client learns of it;
- on any exception, and when the status is 400 or above, it is rolled back instead. HTTPRedirect and
  InternalRedirect are a handler's way to end, so they commit;
- a streamed body (response.stream) is produced after the commit. The session then begins a new transaction at
  its next use, a read-only one: what would be written now could no longer be answered for. It is closed as
  soon as the body ends, fails, or the client has gone. Rows that are streamed are to be
  queried in the generator.

A database that cannot serve the request now (it is away, the pool is empty, two transactions collided) is
answered with 503 and Retry-After.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import cherrypy
from cherrypy.lib import httputil, is_closable_iterator
from sqlalchemy.exc import DBAPIError, OperationalError, TimeoutError
from sqlalchemy.orm import Session

from kirsch.sql.autocommit import for_streaming
from kirsch.sql.channels import ask

# After every tool that makes or changes the body (encode 70, gzip 80).
LAST = 100
READING = frozenset({"GET", "HEAD"})


def install() -> None:
    """Make `cherrypy.tools.sql` known, for use as a decorator before there is a SQLAlchemyPlugin."""
    if not hasattr(cherrypy.tools, "sql"):
        cherrypy.tools.sql = SessionTool()


class SessionTool(cherrypy.Tool):
    """The tool. Its option `tools.sql.retry_after` is what a 503 says in Retry-After, in seconds (2)."""

    def __init__(self) -> None:
        super().__init__("before_finalize", Transaction.settle, priority=LAST)

    def _setup(self) -> None:
        options = self._merged_args()
        request = cherrypy.serving.request
        request.db = ask(cherrypy.engine, "bind-session", request.method in READING)
        transaction = Transaction(request.db)
        request.hooks.attach("before_finalize", transaction.settle, priority=options.get("priority", LAST))
        # Failsafe: these run whatever other hooks raise.
        request.hooks.attach("on_end_resource", transaction.abandon, failsafe=True)
        request.hooks.attach("on_end_request", transaction.end, failsafe=True)
        request.error_response = _or_unavailable(request.error_response, options.get("retry_after", 2))


class Transaction:
    """One request's use of its session, told by CherryPy's hooks what becomes of the request."""

    def __init__(self, session: Session) -> None:
        self._session = session
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
        self._finish(commit=_status(response) < 400)
        if not isinstance(response.body, list):
            # psycopg begins its transactions as read-only, at no further round trip.
            self._session.bind = for_streaming(self._session.get_bind().engine)
            response.body = self._stream = Stream(response.body, self._session.close)
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

    def _finish(self, commit: bool) -> None:
        self._settled = True
        if not commit:
            self._session.rollback()
            return
        try:
            ask(cherrypy.engine, "commit-session", self._session)
        except BaseException:
            self._session.close()
            raise


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


def _status(response: Any) -> int:
    try:
        return int(httputil.valid_status(response.status)[0])
    except ValueError:  # CherryPy makes it a 500
        return 500


def is_unavailable(error: BaseException | None) -> bool:
    """Whether the same request may well succeed a little later: the database is away, the pool is empty, or
    PostgreSQL ended the transaction for another's sake (SQLSTATE classes 08, 40, 53, 55, 57)."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(error, OperationalError | TimeoutError)


def _or_unavailable(error_response: Callable[[], None], retry_after: int) -> Callable[[], None]:
    """The application's own answer to an exception, or 503 where the database cannot serve now."""

    def respond() -> None:
        if not is_unavailable(sys.exc_info()[1]):
            error_response()
            return
        cherrypy.HTTPError(503, "The database cannot be reached at the moment.").set_response()
        cherrypy.serving.response.headers["Retry-After"] = str(retry_after)

    return respond
