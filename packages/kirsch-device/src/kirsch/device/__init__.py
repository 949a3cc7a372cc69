"""Sensors of the phone this process runs on: where it is (the plugin needs CherryPy).

Names are imported when they are first used; nothing here needs multiprocessing or compiled parts.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kirsch.device.error import BadAnswer, LocationError, NoFix, PermissionDenied, SourceError
    from kirsch.device.fixed import FixedSource, RecordedSource
    from kirsch.device.location import Location
    from kirsch.device.plugin import LocationPlugin
    from kirsch.device.report import Failure, Report
    from kirsch.device.sl4a import Sl4aSource
    from kirsch.device.source import Source, sources
    from kirsch.device.termux import TermuxSource

__all__ = [
    "BadAnswer",
    "Failure",
    "FixedSource",
    "Location",
    "LocationError",
    "LocationPlugin",
    "NoFix",
    "PermissionDenied",
    "RecordedSource",
    "Report",
    "Sl4aSource",
    "Source",
    "SourceError",
    "TermuxSource",
    "sources",
]

_MODULES = {
    "BadAnswer": "error",
    "Failure": "report",
    "FixedSource": "fixed",
    "Location": "location",
    "LocationError": "error",
    "LocationPlugin": "plugin",
    "NoFix": "error",
    "PermissionDenied": "error",
    "RecordedSource": "fixed",
    "Report": "report",
    "Sl4aSource": "sl4a",
    "Source": "source",
    "SourceError": "error",
    "TermuxSource": "termux",
    "sources": "source",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("cherrypy", "httptools"):
            raise
        from kirsch.install import pip_install

        raise ImportError(f"kirsch.device.{name} needs CherryPy: {pip_install('kirsch')}") from None
    return getattr(module, name)
