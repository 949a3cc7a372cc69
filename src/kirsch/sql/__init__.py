"""A database session per request, on CherryPy's bus.

    wait_for_database(url)
    migrate(url, Path(__file__).with_name("migrations"))
    SQLAlchemyPlugin(cherrypy.engine, url).subscribe()
    cherrypy.quickstart(Root(), config={"/": {"tools.sql.on": True}})

Handlers then have `cherrypy.request.db`, a SQLAlchemy Session; kirsch.sql.tool says when it commits.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if find_spec("sqlalchemy") is None:
    from kirsch.install import pip_install

    raise ImportError(f"kirsch.sql needs SQLAlchemy: {pip_install('kirsch[sql]')}", name="sqlalchemy")

if TYPE_CHECKING:
    from kirsch.sql.engine import (
        DatabaseUnavailable,
        StartError,
        Timeouts,
        database_url,
        make_engine,
        wait_for_database,
    )
    from kirsch.sql.idempotency import IdempotencyTool, idempotency_keys
    from kirsch.sql.migrations import MigrationError, migrate
    from kirsch.sql.plugin import PoolCollector, SQLAlchemyPlugin, session_scope
    from kirsch.sql.tool import SessionTool, install

_MODULES = {
    "engine": (
        "DatabaseUnavailable",
        "StartError",
        "Timeouts",
        "database_url",
        "make_engine",
        "wait_for_database",
    ),
    "idempotency": ("IdempotencyTool", "idempotency_keys"),
    "migrations": ("MigrationError", "migrate"),
    "plugin": ("PoolCollector", "SQLAlchemyPlugin", "session_scope"),
    "tool": ("SessionTool", "install"),
}
__all__ = [
    "DatabaseUnavailable",
    "IdempotencyTool",
    "MigrationError",
    "PoolCollector",
    "SQLAlchemyPlugin",
    "SessionTool",
    "StartError",
    "Timeouts",
    "database_url",
    "idempotency_keys",
    "install",
    "make_engine",
    "migrate",
    "session_scope",
    "wait_for_database",
]


def __getattr__(name: str) -> Any:
    # On demand (PEP 562): kirsch.sql.postgres lies below and is to start without SQLAlchemy's weight.
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"kirsch.sql.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
