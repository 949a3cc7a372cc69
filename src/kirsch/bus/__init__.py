"""One process: plugins for CherryPy's engine.

Names are imported when they are first used, so that kirsch.bus.process.child, which needs no CherryPy, comes
alone.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kirsch.bus.dispatch import MethodDispatcher
    from kirsch.bus.exit import ExitPlugin
    from kirsch.bus.health import Health, HealthPlugin
    from kirsch.bus.http import SERVER_DEFAULTS, HTTPAdapter, Limits, ServerError, http_server
    from kirsch.bus.logs import configure_logging
    from kirsch.bus.loop import AsyncioPlugin
    from kirsch.bus.metrics import MetricsPlugin
    from kirsch.bus.notify import NotifyPlugin
    from kirsch.bus.process.child import Child, ChildError, Command, Exit
    from kirsch.bus.process.plugin import ProcessPlugin
    from kirsch.bus.process.restart import Backoff, Limit

__all__ = [
    "SERVER_DEFAULTS",
    "AsyncioPlugin",
    "Backoff",
    "Child",
    "ChildError",
    "Command",
    "Exit",
    "ExitPlugin",
    "HTTPAdapter",
    "Health",
    "HealthPlugin",
    "Limit",
    "Limits",
    "MethodDispatcher",
    "MetricsPlugin",
    "NotifyPlugin",
    "ProcessPlugin",
    "ServerError",
    "configure_logging",
    "http_server",
]

_MODULES = {
    "SERVER_DEFAULTS": "http",
    "AsyncioPlugin": "loop",
    "Backoff": "process.restart",
    "Child": "process.child",
    "ChildError": "process.child",
    "Command": "process.child",
    "Exit": "process.child",
    "ExitPlugin": "exit",
    "HTTPAdapter": "http",
    "Health": "health",
    "HealthPlugin": "health",
    "Limit": "process.restart",
    "Limits": "http",
    "MethodDispatcher": "dispatch",
    "MetricsPlugin": "metrics",
    "NotifyPlugin": "notify",
    "ProcessPlugin": "process.plugin",
    "ServerError": "http",
    "configure_logging": "logs",
    "http_server": "http",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("cherrypy", "httptools", "prometheus_client"):
            raise
        from kirsch.install import pip_install

        raise ImportError(f"kirsch.bus needs CherryPy: {pip_install('kirsch')}") from None
    return getattr(module, name)
