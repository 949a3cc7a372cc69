"""BEGIN and a transaction's first statement in one round trip: a cursor for psycopg (3.3).

psycopg sends BEGIN, waits for its answer, then sends the statement. Here both leave together, in libpq's
pipeline mode with one synchronisation, and are answered together. What is executed, in which transaction, and
what is raised stays the same; a statement that fails leaves its transaction failed, as ever.

Only execute() with parameters does so: without any, psycopg speaks the simple query protocol, which knows no
pipelines. executemany(), copy(), stream(), cursors in the server, and whatever comes within a transaction are
psycopg's own. This reaches inside psycopg: engine.make_engine() uses it with the version that was read only,
and a test fails when that changes.
"""

from typing import Any

from psycopg import Cursor, errors, pq
from psycopg._preparing import Prepare
from psycopg.adapt import Transformer
from psycopg.generators import execute, fetch_many
from psycopg.rows import Row

_IDLE = pq.TransactionStatus.IDLE
_CONNECTED = pq.ConnStatus.OK
_FAILED = pq.ExecStatus.FATAL_ERROR
_SYNC = pq.ExecStatus.PIPELINE_SYNC


class BeginningCursor(Cursor[Row]):
    """A cursor whose execute() begins a transaction, where one is to begin, at no further round trip."""

    __slots__ = ()

    def _execute_gen(
        self, query: Any, params: Any = None, *, prepare: bool | None = None, binary: bool | None = None
    ) -> Any:
        # Called with the connection's lock held; the generator runs before that is given back.
        connection = self._conn
        if (
            self._closed
            or connection.autocommit
            or connection._pipeline
            or self._pgconn.transaction_status != _IDLE
        ):
            return super()._execute_gen(query, params, prepare=prepare, binary=binary)
        return self._begin_gen(query, params, prepare, binary)

    def _begin_gen(self, query: Any, params: Any, prepare: bool | None, binary: bool | None) -> Any:
        connection = self._conn
        self._reset()
        if not self._last_query or self._last_query is not query:
            self._last_query = None
            self._tx = Transformer(self)
        statement = self._convert_query(query, params)
        if statement.params:
            yield from self._together_gen(statement, prepare, binary)
        else:
            yield from connection._start_query()
            yield from self._maybe_prepare_gen(statement, prepare=prepare, binary=binary)
        self._last_query = query
        yield from connection._prepared.maintain_gen(connection)

    def _together_gen(self, statement: Any, prepare: bool | None, binary: bool | None) -> Any:
        pgconn, prepared = self._pgconn, self._conn._prepared
        todo, name = self._get_prepared(statement, prepare)
        refused = None
        try:
            pgconn.enter_pipeline_mode()
            try:
                pgconn.send_query_params(self._conn._get_tx_start_command(), None)
                if todo is Prepare.SHOULD:
                    self._send_prepare(name, statement)
                if todo is Prepare.NO:
                    self._execute_send(statement, binary=binary)
                else:
                    self._send_query_prepared(name, statement, binary=binary)
            except errors.Error as error:  # libpq does not take it: too many parameters
                refused = error
            pgconn.pipeline_sync()
            answers = yield from self._answers_gen()
        except BaseException:
            # What is still to come on this connection would be taken for the next statement's.
            if pgconn.status == _CONNECTED:
                pgconn.finish()
            raise
        # The first that failed is why those after it did not run.
        for answer in answers if refused else answers[:-1]:
            self._check_results(answer)
        if refused:
            raise refused
        results = answers[-1] if answers else []
        key = prepared.maybe_add_to_cache(statement, todo, name)
        if key is not None:
            prepared.validate(key, todo, name, results)
        self._check_results(results)
        self._set_results(results)

    def _answers_gen(self) -> Any:
        """The results of each command up to the synchronisation, and an end to pipeline mode."""
        pgconn = self._pgconn
        answers = []
        answer = yield from execute(pgconn)
        while answer and answer[0].status != _SYNC:
            answers.append(answer)
            try:
                answer = yield from fetch_many(pgconn)
            except errors.Error:
                # The connection is lost. A server that ends one says why, in place of an answer.
                if answer[0].status != _FAILED:
                    raise
                return answers
        pgconn.exit_pipeline_mode()
        return answers
