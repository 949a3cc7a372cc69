"""The notes with CherryPy and the recipe found everywhere: a scoped session, committed in on_end_resource."""

# ruff: noqa: N802  CherryPy dispatches to methods named as HTTP names them.

import os

import cherrypy
from cherrypy.process import plugins
from sqlalchemy import BigInteger, DateTime, Identity, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, scoped_session, sessionmaker


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    text: Mapped[str]
    version: Mapped[int] = mapped_column(server_default="1")
    created = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated = mapped_column(DateTime(timezone=True), server_default=func.now())

    def as_json(self):
        return {
            "id": self.id,
            "text": self.text,
            "version": self.version,
            "created": self.created.isoformat(),
            "updated": self.updated.isoformat(),
        }


class SAEnginePlugin(plugins.SimplePlugin):
    def __init__(self, bus, url):
        super().__init__(bus)
        self.url = url
        self.engine = None
        self.session = scoped_session(sessionmaker(autoflush=True, autocommit=False))

    def start(self):
        self.engine = create_engine(self.url, pool_size=10, max_overflow=0)
        self.bus.subscribe("bind-session", self.bind)
        self.bus.subscribe("commit-session", self.commit)

    def stop(self):
        self.bus.unsubscribe("bind-session", self.bind)
        self.bus.unsubscribe("commit-session", self.commit)
        self.engine.dispose()

    def bind(self):
        self.session.configure(bind=self.engine)
        return self.session

    def commit(self):
        try:
            self.session.commit()
        except BaseException:
            self.session.rollback()
            raise
        finally:
            self.session.remove()


class SATool(cherrypy.Tool):
    def __init__(self):
        super().__init__("on_start_resource", self.bind_session, priority=20)

    def _setup(self):
        super()._setup()
        cherrypy.request.hooks.attach("on_end_resource", self.commit_transaction, priority=80)

    def bind_session(self):
        cherrypy.request.db = cherrypy.engine.publish("bind-session").pop()

    def commit_transaction(self):
        cherrypy.request.db = None
        cherrypy.engine.publish("commit-session")


@cherrypy.expose
class Notes:
    @cherrypy.tools.json_out()
    def GET(self):
        notes = cherrypy.request.db.scalars(select(Note).order_by(Note.id.desc()).limit(20))
        return {"notes": [note.as_json() for note in notes]}

    @cherrypy.tools.json_in()
    @cherrypy.tools.json_out()
    def POST(self):
        note = Note(text=cherrypy.request.json["text"])
        cherrypy.request.db.add(note)
        cherrypy.request.db.flush()
        cherrypy.response.status = 201
        return note.as_json()


class Api:
    notes = Notes()


class Root:
    api = Api()


if __name__ == "__main__":
    cherrypy.tools.db = SATool()
    SAEnginePlugin(cherrypy.engine, os.environ["BENCH_DATABASE"]).subscribe()
    cherrypy.config.update(
        {
            "environment": "production",
            "server.socket_host": "127.0.0.1",
            "server.socket_port": int(os.environ["PORT"]),
            "server.thread_pool": 10,
        }
    )
    dispatch = cherrypy.dispatch.MethodDispatcher()
    cherrypy.quickstart(Root(), "/", {"/": {"request.dispatch": dispatch, "tools.db.on": True}})
