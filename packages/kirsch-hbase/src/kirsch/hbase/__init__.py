"""HBase from Python: its official Java client in this process, and a Python API over it.

    with connect("localhost:2181") as hbase:
        table = hbase.table("notes", key=UTF8, value=UTF8)
        table["first"] = {"text:body": "Hello"}
        for row in table.scan(prefix="f"):
            print(row.key, row["text:body"])

Everything else of the Java API: `connection.java`, `connection.admin.java`, and `java("org.apache…")` for any
class.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if find_spec("jpype") is None:
    from kirsch.install import pip_install

    raise ImportError(f"kirsch.hbase needs JPype: {pip_install('kirsch-hbase')}", name="jpype")

if TYPE_CHECKING:
    from kirsch.hbase.admin import Admin
    from kirsch.hbase.cell import Cell
    from kirsch.hbase.codec import (
        BOOLEAN,
        BYTES,
        CODECS,
        DOUBLE,
        FLOAT,
        INT,
        JSON,
        LONG,
        SHORT,
        UTF8,
        Codec,
        composite,
    )
    from kirsch.hbase.connection import Connection, connect
    from kirsch.hbase.convert import to_java, to_python
    from kirsch.hbase.errors import (
        BatchError,
        Closed,
        CodecError,
        Denied,
        Disabled,
        Exists,
        FilterError,
        HBaseError,
        Invalid,
        NoJars,
        NoJava,
        NotFound,
        OtherJVM,
        StartError,
        Throttled,
        Unavailable,
        Unsupported,
    )
    from kirsch.hbase.jvm import cls as java
    from kirsch.hbase.row import Row
    from kirsch.hbase.scan import Scanner
    from kirsch.hbase.table import Table

__all__ = [
    "BOOLEAN",
    "BYTES",
    "CODECS",
    "DOUBLE",
    "FLOAT",
    "INT",
    "JSON",
    "LONG",
    "SHORT",
    "UTF8",
    "Admin",
    "BatchError",
    "Cell",
    "Closed",
    "Codec",
    "CodecError",
    "Connection",
    "Denied",
    "Disabled",
    "Exists",
    "FilterError",
    "HBaseError",
    "Invalid",
    "NoJars",
    "NoJava",
    "NotFound",
    "OtherJVM",
    "Row",
    "Scanner",
    "StartError",
    "Table",
    "Throttled",
    "Unavailable",
    "Unsupported",
    "composite",
    "connect",
    "java",
    "to_java",
    "to_python",
]

_MODULES = {
    "admin": ("Admin",),
    "cell": ("Cell",),
    "codec": ("BOOLEAN", "BYTES", "CODECS", "DOUBLE", "FLOAT", "INT", "JSON", "LONG", "SHORT", "UTF8",
        "Codec", "composite"),
    "connection": ("Connection", "connect"),
    "convert": ("to_java", "to_python"),
    "errors": (
        "BatchError", "Closed", "CodecError", "Denied", "Disabled", "Exists", "FilterError", "HBaseError",
        "Invalid", "NoJars", "NoJava", "NotFound", "OtherJVM", "StartError", "Throttled", "Unavailable",
        "Unsupported",
    ),
    "row": ("Row",),
    "scan": ("Scanner",),
    "table": ("Table",),
}  # fmt: skip


def __getattr__(name: str) -> Any:
    # On demand (PEP 562): the server and its jars need no JVM in this process.
    if name == "java":
        return import_module("kirsch.hbase.jvm").cls
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"kirsch.hbase.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
