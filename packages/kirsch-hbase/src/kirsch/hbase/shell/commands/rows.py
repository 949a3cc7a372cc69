"""Commands of one statement, declared as rows of a table: a call of kirsch.hbase's Admin, and its help.

The call's parameters after `admin` are the command's; CONVERTERS turns what a person types into what Admin
takes, by the parameter's name. The help is a summary, then examples, then more text, divided by empty lines.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from kirsch.hbase.shell.command import UsageError, command
from kirsch.hbase.shell.session import Session, data, many, table_name, text

Row = tuple[Callable[..., Any], str]


def _text(what: str) -> Callable[[Session, Any], str]:
    return lambda _, value: text(value, what)


def _texts(what: str) -> Callable[[Session, Any], list[str]]:
    return lambda _, values: [text(value, what) for value in many(values)]


def _truth(_: Session, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    raise UsageError(f"true or false is needed, not {value!r}")


def _tables_and_families(_: Session, tables: Any) -> dict[str, list[str]]:
    if not isinstance(tables, Mapping):
        raise UsageError('tables and families are written {"t1" => [], "ns2:t2" => ["cf1", "cf2"]}')
    return {table_name(table): [text(f, "a family") for f in many(families)]
            for table, families in tables.items()}  # fmt: skip


CONVERTERS: dict[str, Callable[[Session, Any], Any]] = {
    "table": lambda _, value: table_name(value),
    "new": lambda _, value: table_name(value),
    "tables": lambda _, values: [table_name(value) for value in many(values)],
    "namespace": _text("a namespace's name"),
    "namespaces": _texts("a namespace's name"),
    "snapshot": _text("a snapshot's name"),
    "pattern": _text("a pattern"),
    "table_pattern": _text("a pattern"),
    "table_cfs": _tables_and_families,
    "peer": _text("a peer's id"),
    "user": _text("a user's name"),
    "labels": _texts("a label"),
    "group": _text("a group's name"),
    "new_group": _text("a group's name"),
    "address": _text("a server's name"),
    "addresses": _texts("a server's name"),
    "server": Session.server,
    "servers": Session.servers,
    "region": lambda _, value: data(value),
    "regions": lambda _, values: [data(value) for value in many(values)],
    **dict.fromkeys(
        ("enabled", "force", "offload", "major", "preserve_splits", "serial", "replicate_all"), _truth
    ),
}


def rows(group: str, table: dict[str, Row]) -> None:
    """Make each row of a table a command of a group."""
    for name, (call, help_) in table.items():
        _register(group, name, call, help_)


def _register(group: str, name: str, call: Callable[..., Any], help_: str) -> None:
    first = inspect.Parameter("session", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    signature = inspect.Signature([first, *list(inspect.signature(call).parameters.values())[1:]])

    def run(session: Session, *arguments: Any, **options: Any) -> Any:
        given = signature.bind(session, *arguments, **options)
        for parameter, value in list(given.arguments.items())[1:]:
            if value is not None and parameter in CONVERTERS:
                given.arguments[parameter] = CONVERTERS[parameter](session, value)
        return call(session.admin, *given.args[1:], **given.kwargs)

    run.__name__, run.__doc__ = name, help_
    run.__signature__ = signature  # type: ignore[attr-defined]
    command(group, name=name, keep_hashes="table_cfs" in signature.parameters)(run)
