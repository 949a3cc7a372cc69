"""Any WSGI application on the bus, with health and figures: what `kirsch serve` does."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import cherrypy

from kirsch.bus import HealthPlugin, Limits, MetricsPlugin, NotifyPlugin, configure_logging, http_server
from kirsch.bus.logs import one_line

Wsgi = Callable[..., Any]


class LoadError(Exception):
    """An application that cannot be loaded, in one line."""


def load(name: str, folder: Path) -> Wsgi:
    """Return the WSGI application that MODULE:APP names, looked for in `folder` too. Raises LoadError.

    `APP()` calls a function that makes the application.
    """
    module, colon, attribute = name.partition(":")
    if not colon or not all(module.split(".")) or not attribute:
        raise LoadError(f"{name!r} is not MODULE:APP, such as shop.wsgi:application")
    sys.path.insert(0, str(folder))
    try:
        found: Any = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise LoadError(f"{module} needs {error.name}, which is not installed") from None
        raise LoadError(f"there is no module {module} in {folder} or installed") from None
    except Exception as error:  # a module is a program, and may raise anything
        raise LoadError(f"{module} cannot be loaded: {one_line(error, folder)}") from error
    made = attribute.endswith("()")
    for part in attribute.removesuffix("()").split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise LoadError(f"{module} has no {attribute.removesuffix('()')}") from None
    if made:
        if not callable(found):
            raise LoadError(f"{name.removesuffix('()')} is {type(found).__name__}, not a function")
        try:
            found = found()
        except Exception as error:
            raise LoadError(f"{name} makes no application: {one_line(error, folder)}") from error
    if not callable(found):
        raise LoadError(f"{name} is {type(found).__name__}, not a WSGI application")
    application: Wsgi = found
    return application


def serve(
    application: Wsgi, *, host: str, port: int, path: str | None, threads: int, drain: float, log: Any
) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises ServerError.

    /healthz and /readyz say whether the process lives and is ready, /metrics has its figures; all else is
    the application's.
    """
    configure_logging(log)
    bus = cherrypy.engine
    cherrypy.server.unsubscribe()
    cherrypy.config.update({"engine.autoreload.on": False, "request.show_tracebacks": False})
    health = HealthPlugin(bus, drain=drain)
    metrics = MetricsPlugin(bus)
    own = {"/healthz": health.healthz, "/readyz": health.readyz, "/metrics": metrics.metrics}
    counted = metrics.counted(application)

    def route(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        answer: Wsgi = own.get(environ["PATH_INFO"], counted)
        return answer(environ, start_response)

    http_server(bus, route, host=host, port=port, path=path, limits=Limits(threads=threads)).bind()
    bus.signal_handler.subscribe()
    for plugin in (health, metrics, NotifyPlugin(bus, health.live)):
        plugin.subscribe()
    bus.start()
    bus.block()
