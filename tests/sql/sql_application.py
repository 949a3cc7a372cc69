"""The application that the tests of kirsch.sql talk to: `python sql_application.py URL PORT POOL_SIZE`."""

import sys
import threading

import cherrypy
from sqlalchemy import String, event, func, insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from kirsch.sql import PoolCollector, SQLAlchemyPlugin, install, session_scope

install()


class Base(DeclarativeBase):
    pass


class Word(Base):
    __tablename__ = "words"
    text: Mapped[str] = mapped_column(String, primary_key=True)


class Root:
    """Each handler writes the word it is given, then ends in its own way."""

    def add(self, word):
        cherrypy.request.db.add(Word(text=word))
        cherrypy.request.db.flush()
        return "added"

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
            "function": select(func.pg_advisory_xact_lock(1)),
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

    def select_then_write(self, word, how, status):
        """A plain select, then a write in one of the ways there are."""
        db = cherrypy.request.db
        db.scalars(select(Word.text)).first()
        match how:
            case "orm":
                db.add(Word(text=word))
            case "core":
                db.execute(insert(Word).values(text=word))
            case "bulk":
                db.bulk_insert_mappings(Word, [{"text": word}])
            case "text":
                db.execute(text("insert into words values (:word)"), {"word": word})
            case "savepoint":
                with db.begin_nested():
                    db.add(Word(text=word))
        cherrypy.response.status = int(status)
        return "written"

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

url, port, pool_size, pool_timeout = sys.argv[1:]
cherrypy.config.update(
    {
        "server.socket_host": "127.0.0.1",
        "server.socket_port": int(port),
        "server.shutdown_timeout": 1,
        "engine.autoreload.on": False,
        "request.show_tracebacks": False,
    }
)
plugin = SQLAlchemyPlugin(cherrypy.engine, url, pool_size=int(pool_size), pool_timeout=float(pool_timeout))
plugin.subscribe()


def create_tables():
    Base.metadata.create_all(plugin.engine)


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
        "/sized": {"tools.encode.on": False},
        **{path: {"response.stream": True} for path in streams},
    },
)
cherrypy.engine.signals.subscribe()
cherrypy.engine.start()
cherrypy.engine.block()
