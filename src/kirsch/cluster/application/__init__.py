"""An application: a folder of unit files and kirsch.toml, run here or brought onto a cluster."""

from kirsch.cluster.application.folder import (
    FILE,
    Application,
    ApplicationError,
    Source,
    fitting,
    is_unit,
    load,
    resolve,
)

__all__ = ["FILE", "Application", "ApplicationError", "Source", "fitting", "is_unit", "load", "resolve"]
