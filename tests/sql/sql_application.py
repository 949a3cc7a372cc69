"""The application that the tests of kirsch.sql talk to: `python sql_application.py URL PORT POOL_SIZE`."""

import json
import sys
import threading
from contextlib import suppress

import cherrypy
from sqlalchemy import String, event, func, insert, literal, literal_column, select, table, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.sql.functions import GenericFunction

from kirsch.sql import (
    PoolCollector,
    SQLAlchemyPlugin,
    Timeouts,
    database_url,
    idempotency_keys,
    install,
    session_scope,
)

install()


class Base(DeclarativeBase):
    pass


class Word(Base):
    __tablename__ = "words"
    text: Mapped[str] = mapped_column(String, primary_key=True)


class write_word(GenericFunction):  # noqa: N801
    """A function that writes, and whose class SQLAlchemy does not know."""

    inherit_cache = True


class pg_advisory_xact_lock_shared(GenericFunction):  # noqa: N801
    inherit_cache = True


ADD_ORDER = text("insert into orders (name) values (:name) returning number")

FUNCTIONS = """
create table if not exists orders (number int generated always as identity, name text);
create or replace function write_word(word text) returns int language sql volatile
    as $$ insert into words values (word) returning 1 $$;
create or replace function raise_state(state text) returns int language plpgsql
    as $$ begin raise exception using errcode = state; end $$;
create or replace view writing_view as
    select write_word(current_setting('sql.word')) as written;
"""


class Root:
    """Each handler writes the word it is given, then ends in its own way."""

    def add(self, word):
        cherrypy.request.db.add(Word(text=word))
        cherrypy.request.db.flush()
        return "added"

    def add_keyless(self, word):
        return self.add(word)

    def runtime_error(self, word):
        self.add(word)
        raise RuntimeError("no")

    def conflict(self, word):
        self.add(word)
        raise cherrypy.HTTPError(409)

    def status_conflict(self, word):
        cherrypy.response.status = 409
        return self.add(word)

    def redirect(self, word):
        self.add(word)
        raise cherrypy.HTTPRedirect("/count", 303)

    def internal_redirect(self, word):
        self.add(word)
        raise cherrypy.InternalRedirect("/count")

    def unflushed(self, word):
        """Fails at commit if the word is there."""
        cherrypy.request.db.add(Word(text=word))
        return "added"

    def unflushed_redirect(self, word):
        cherrypy.request.db.add(Word(text=word))
        raise cherrypy.HTTPRedirect("/count", 303)

    def caught(self, word):
        try:
            return self.add(word)
        except IntegrityError:
            raise cherrypy.HTTPError(409, "twice") from None

    def generator(self, word):
        """Not streamed: its code runs before the commit all the same."""
        yield self.add(word)

    def generator_conflict(self, word):
        yield self.add(word)
        raise cherrypy.HTTPError(409)

    def dies_at_commit(self, word):
        """The server ends the connection between the last statement and the commit."""
        db = cherrypy.request.db
        self.add(word)
        pid = db.scalar(text("select pg_backend_pid()"))

        @event.listens_for(db, "before_commit")
        def kill(session):
            with plugin.engine.connect() as other:
                other.execute(text("select pg_terminate_backend(:pid, 5000)"), {"pid": pid})

        return "added"

    def dies_at_redirect(self, word):
        self.dies_at_commit(word)
        raise cherrypy.HTTPRedirect("/count", 303)

    def conflict_when_dead(self, word):
        """Answers 409 on a connection that the server has ended in the meantime."""
        pid = cherrypy.request.db.scalar(text("select pg_backend_pid()"))
        with plugin.engine.connect() as other:
            other.execute(text("select pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        raise cherrypy.HTTPError(409)

    def lost_on_the_way(self, word):
        """Uses a connection that the server has ended since the handler's first statement."""
        try:
            self.conflict_when_dead(word)
        except cherrypy.HTTPError:
            return self.add(word)

    def count(self):
        return str(cherrypy.request.db.scalar(select(func.count()).select_from(Word)))

    def pid(self):
        return str(cherrypy.request.db.scalar(text("select pg_backend_pid()")))

    def selects(self, what=""):
        """Whether the connection is in a transaction after a select, and what the driver says afterwards."""
        db = cherrypy.request.db
        statement = {
            "": select(Word.text).limit(1),
            "text": text("select text from words limit 1"),
            "lock": select(Word.text).limit(1).with_for_update(),
            "text_in_order_by": select(Word.text).order_by(text("1")).limit(1),
            "function": select(func.pg_advisory_xact_lock(1)),
            "subclass": select(pg_advisory_xact_lock_shared(1)),
            "cte": select(insert(Word).values(text="cte").returning(Word.text).cte()),
            "isolation": select(Word.text).limit(1),
            "cursor": select(Word.text).limit(1),
        }[what]
        if what == "isolation":
            db.connection(execution_options={"isolation_level": "SERIALIZABLE"})
        options = {"yield_per": 10} if what == "cursor" else {}
        db.execute(statement, execution_options=options).all()
        driver = db.connection().connection.dbapi_connection
        within = driver.pgconn.transaction_status != 0
        db.rollback()
        return f"{within} {driver.autocommit}"

    def select_then_write(self, word, how, status, first=""):
        """A plain select, then a write in one of the ways there are."""
        db = cherrypy.request.db
        if first:
            db.scalars(select(Word.text)).first()
        match how:
            case "orm":
                db.add(Word(text=word))
                db.flush()
            case "core":
                db.execute(insert(Word).values(text=word))
            case "bulk":
                db.bulk_insert_mappings(Word, [{"text": word}])
            case "text":
                db.execute(text("insert into words values (:word)"), {"word": word})
            case "savepoint":
                with db.begin_nested():
                    db.add(Word(text=word))
            case "view":
                db.execute(text("select set_config('sql.word', :word, false)"), {"word": word})
                db.execute(select(literal_column("written")).select_from(table("writing_view"))).all()
            case "function":
                db.scalar(select(func.write_word(word)))
            case "subclass":
                db.scalar(select(write_word(word)))
            case "order_by":
                db.scalars(select(literal(1)).order_by(text("write_word(:w)").bindparams(w=word))).all()
            case "raw":
                driver = db.connection().connection.driver_connection
                driver.execute("insert into words values (%s)", [word])
        cherrypy.response.status = int(status)
        return "written"

    def unguard(self):
        """Has its connection write by default, by text, in a GET."""
        db = cherrypy.request.db
        db.execute(text("set default_transaction_read_only = off"))
        return db.scalar(text("show default_transaction_read_only"))

    def get_writes(self, word):
        return self.add(word)

    def post_reads(self, word):
        return self.add(word)

    def autocommit(self, word):
        db = cherrypy.request.db
        db.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        db.execute(text("insert into words values (:word)"), {"word": word})
        raise cherrypy.HTTPError(409)

    def swallowed(self, word):
        self.add(word)
        try:
            cherrypy.request.db.execute(text("select 1/0"))
        except DBAPIError:
            return "all is well"

    def swallowed_redirect(self, word):
        self.swallowed(word)
        raise cherrypy.HTTPRedirect("/count", 303)

    def swallowed_stream(self, word):
        self.swallowed(word)
        return iter(["all ", "is ", "well"])

    def swallowed_savepoint(self, word):
        try:
            with cherrypy.request.db.begin_nested():
                cherrypy.request.db.execute(text("select 1/0"))
        except DBAPIError:
            return self.add(word)

    def swallowed_nowait(self, word):
        with suppress(DBAPIError):
            cherrypy.request.db.execute(text("lock table words in access share mode nowait"))
        return "all is well"

    def raises(self, state):
        """An error of the server's with this SQLSTATE."""
        cherrypy.request.db.execute(text("select raise_state(:state)"), {"state": state})

    def too_many_parameters(self):
        # By the driver's own parameters: SQLAlchemy takes seconds over so many names.
        query = f"select array[{','.join(['%s::text'] * 65536)}]"
        cherrypy.request.db.connection().exec_driver_sql(query, ("x",) * 65536)

    def slow_commits(self):
        """From now on a COMMIT of new words sleeps."""
        db = cherrypy.request.db
        db.execute(
            text(
                "create function sleep() returns trigger language plpgsql as "
                "$$ begin perform pg_sleep(60); return null; end $$"
            )
        )
        db.execute(
            text(
                "create constraint trigger sleeps after insert on words deferrable "
                "initially deferred for each row execute function sleep()"
            )
        )
        return "done"

    def order(self, fault="", also=""):
        """Take an order, as JSON, and end as `fault` says."""
        request, response = cherrypy.request, cherrypy.response
        name = json.loads(request.rfile.read())["name"]
        number = request.db.scalar(ADD_ORDER, {"name": name})
        response.headers["Location"] = f"/orders/{number}"
        response.headers["Content-Type"] = "application/json"
        response.status = 201
        match fault:
            case "status":
                response.status = 409
            case "error":
                raise cherrypy.HTTPError(409)
            case "exception":
                raise RuntimeError("no")
            case "late":
                return self.bad_tool("999", f"late-{number}").encode()
            case "killed":
                return self.dies_at_commit(f"killed-{number}").encode()
            case "redirect":
                raise cherrypy.HTTPRedirect(f"/orders/{number}", 303)
        return json.dumps({"number": number, "name": name}).encode()

    def order_form(self, name):
        return str(cherrypy.request.db.scalar(ADD_ORDER, {"name": name}))

    def order_required(self):
        return self.order()

    def order_streamed(self):
        return self.order()

    def order_sessionless(self):
        return "no session"

    def which(self):
        """Which database this is, and which one request.db says it is."""
        db = cherrypy.request.db
        return f"{db.scalar(text('select current_database()'))} {db.info['database']}"

    which_other = which_wrong = which

    def bad_tool(self, priority, word):
        def fail():
            raise RuntimeError("a tool that fails late")

        cherrypy.request.hooks.attach("before_finalize", fail, priority=int(priority))
        return self.add(word)

    def bad_hook(self, word):
        def fail():
            raise RuntimeError("a hook that fails after the commit")

        cherrypy.request.hooks.attach("on_end_resource", fail)
        return self.add(word)

    def figures(self):
        """The pool's, as PoolCollector tells them."""
        families = PoolCollector(plugin).collect()
        samples = [sample for family in families for sample in family.samples]
        return " ".join(f"{s.name.removeprefix('sql_pool_')} {s.value:.0f}" for s in samples)

    def pool(self):
        return str(plugin.engine.pool.checkedout())

    def nothing(self):
        """Does not use its session."""
        return str(plugin.engine.pool.checkedout())

    def rows(self, number="1000", word=""):
        """Rows from a server-side cursor, after a write that is committed before the first of them."""
        if word:
            self.add(word)

        def produce():
            query = text("select i from generate_series(1, :n) i").bindparams(n=int(number))
            for (row,) in cherrypy.request.db.execute(query.execution_options(yield_per=10)):
                yield f"{row}\n"

        return produce()

    def endless(self, finish=""):
        """Rows without end; `finish`: the generator uses the session when it is closed, too."""
        db = cherrypy.request.db

        def produce():
            try:
                query = text("select generate_series(1, 100000000)").execution_options(yield_per=100)
                for (row,) in db.execute(query):
                    yield f"{row:0100}\n"
            finally:
                if finish:
                    db.rollback()
                    db.scalar(select(func.count()).select_from(Word))

        return produce()

    def stream_fails(self):
        def produce():
            yield "first\n"
            cherrypy.request.db.execute(text("select 1/0"))

        return produce()

    def stream_writes(self, word):
        def produce():
            yield "first\n"
            try:
                self.add(word)
            except Exception as error:
                yield type(error.orig).__name__

        return produce()

    def sized(self):
        """Streams by way of Content-Length, without response.stream."""
        cherrypy.response.headers["Content-Length"] = "4"

        def produce():
            yield b"%04d" % cherrypy.request.db.scalar(text("select 7"))

        return produce()

    def background(self, word):
        """A thread of its own writes twice: once well, once not."""
        said = []

        def work():
            with session_scope() as db:
                db.add(Word(text=word))
            try:
                with plugin.session() as db:
                    db.add(Word(text=word + "-failed"))
                    db.flush()
                    raise RuntimeError("no")
            except RuntimeError:
                said.append("rolled back")

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return said[0]

    def hold(self, seconds):
        """Keep a connection for a while."""
        cherrypy.request.db.execute(text("select pg_sleep(:s)"), {"s": float(seconds)})
        return "held"


for handler in vars(Root).values():
    if callable(handler):
        handler.exposed = True

url, port, pool_size, pool_timeout, statement = sys.argv[1:]
cherrypy.config.update(
    {
        "server.socket_host": "127.0.0.1",
        "server.socket_port": int(port),
        "server.shutdown_timeout": 1,
        "engine.autoreload.on": False,
        "request.show_tracebacks": False,
    }
)
timeouts = Timeouts(pool=float(pool_timeout), statement=float(statement))
plugin = SQLAlchemyPlugin(cherrypy.engine, url, pool_size=int(pool_size), timeouts=timeouts)
plugin.subscribe()
other = database_url(url).set(database="postgres")
SQLAlchemyPlugin(cherrypy.engine, other, name="postgres", pool_size=1).subscribe()


def create_tables():
    Base.metadata.create_all(plugin.engine)
    idempotency_keys.create(plugin.engine, checkfirst=True)
    with plugin.engine.begin() as connection:
        connection.exec_driver_sql(FUNCTIONS)


cherrypy.engine.subscribe("start", create_tables, priority=40)
streams = ("/rows", "/endless", "/stream_fails", "/stream_writes")
cherrypy.tree.mount(
    Root(),
    "",
    {
        "/": {"tools.sql.on": True, "tools.encode.on": True},
        "/pool": {"tools.sql.on": False},
        "/figures": {"tools.sql.on": False},
        "/background": {"tools.sql.on": False},
        "/which_other": {"tools.sql.database": "postgres"},
        "/which_wrong": {"tools.sql.database": "nowhere"},
        "/sized": {"tools.encode.on": False},
        "/get_writes": {"tools.sql.read_only": False},
        "/rows": {"tools.sql.read_only": False},
        "/post_reads": {"tools.sql.read_only": True},
        "/add": {"tools.idempotency.on": True},
        "/order": {
            "tools.idempotency.on": True,
            "tools.idempotency.max_body": 1000,
            "tools.gzip.on": True,
            "tools.gzip.mime_types": ["application/json"],
            "request.process_request_body": False,
        },
        "/order_form": {"tools.idempotency.on": True},
        "/order_required": {"tools.idempotency.on": True, "tools.idempotency.required": True},
        "/order_streamed": {"tools.idempotency.on": True, "response.stream": True},
        "/order_sessionless": {"tools.idempotency.on": True, "tools.sql.on": False},
    },
)
for path in streams:
    cherrypy.tree.apps[""].merge({path: {"response.stream": True}})
cherrypy.engine.signals.subscribe()
cherrypy.engine.start()
cherrypy.engine.block()
