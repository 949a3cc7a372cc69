"""`python -m webapp`: the database is waited for and migrated, then the bus starts."""

import os
import sys
from pathlib import Path

import cherrypy

from kirsch.bus import (
    SERVER_DEFAULTS,
    HealthPlugin,
    Limits,
    MetricsPlugin,
    NotifyPlugin,
    ServerError,
    configure_logging,
    http_server,
)
from kirsch.sql import (
    DatabaseUnavailable,
    MigrationError,
    PoolCollector,
    SQLAlchemyPlugin,
    migrate,
    wait_for_database,
)
from kirsch.web import SettingsError, labelled

from .application import application
from .settings import Settings

MIGRATIONS = Path(__file__).parent / "migrations"
THREADS = 10


def main() -> int:
    """Run the application until it is told to stop: 0. It cannot run: 1. Its settings are wrong: 2."""
    try:
        settings = Settings.from_environment(os.environ)
        configure_logging(settings.site.log)
        wait_for_database(settings.database)
        migrate(settings.database, MIGRATIONS)
        serve(settings)
    except SettingsError as error:
        print(f"notes: {error}", file=sys.stderr)
        return 2
    except (DatabaseUnavailable, MigrationError, ServerError) as error:
        print(f"notes: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def serve(settings: Settings) -> None:
    """Start the bus and everything on it, and return once it has stopped. Raises ServerError."""
    bus, site = cherrypy.engine, settings.site
    cherrypy.config.update(SERVER_DEFAULTS)
    # A connection for each thread, and one for the check: load is not to look like a database that is away.
    database = SQLAlchemyPlugin(bus, settings.database, pool_size=THREADS + 1)
    health = HealthPlugin(bus, drain=site.drain)
    health.add("database", lambda: ping(database))
    cherrypy.tree.mount(application(settings))
    health.mount(cherrypy.tree)
    metrics = MetricsPlugin(bus)
    metrics.add(PoolCollector(database))
    metrics.mount(cherrypy.tree)
    cherrypy.server.unsubscribe()
    headers = {"Server": "notes", "X-Kirsch-Instance": site.instance}
    tree, limits = labelled(cherrypy.tree, headers), Limits(threads=THREADS)
    http_server(bus, tree, host=site.address, port=site.port, limits=limits, headers=headers).bind()
    bus.signal_handler.subscribe()
    for plugin in (database, health, metrics, NotifyPlugin(bus, health.live)):
        plugin.subscribe()
    bus.start()
    bus.block()


def ping(database: SQLAlchemyPlugin) -> None:
    """Ask the database something. Raises what SQLAlchemy raises."""
    with database.engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")


if __name__ == "__main__":
    sys.exit(main())
