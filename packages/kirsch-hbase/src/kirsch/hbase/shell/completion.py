"""Completion of commands, tables, namespaces, families, options and Python's names."""

import builtins
import inspect
import keyword
import re
import time
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_type_hints

from kirsch.hbase.shell.command import GROUPS, Bound, Command, ShellTable
from kirsch.hbase.shell.session import data, shown, table_name

if TYPE_CHECKING:
    from kirsch.hbase.shell.interpreter import Interpreter

# Seconds for which a list of names is reused.
CURRENT = 5.0
_STATEMENT = re.compile(
    r"(?:^|[;\n])[ \t]*(?:\w+[ \t]*=[ \t]*)?([^\W\d]\w*)(?:\.(\w+))?(?:[ \t]+|\()(?P<rest>[^;\n]*)$"
)
_DOTTED = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*)\.(\w*)$")
_WORD = re.compile(r"\w*$")


class Completion:
    """Completion before the cursor. It never waits: without a connection there are no tables."""

    def __init__(self, interpreter: "Interpreter") -> None:
        self._interpreter = interpreter
        self._kept: dict[tuple[str, ...], tuple[float, list[str]]] = {}

    def of(self, before: str) -> tuple[int, list[str]]:
        """Return where the completed word begins, and the candidates."""
        start, words = self._candidates(before)
        typed = before[start:]
        return start, sorted(
            {word for word in words if word.startswith(typed)}, key=lambda w: (w.startswith("_"), w)
        )

    def _candidates(self, before: str) -> tuple[int, Iterable[str]]:
        statement = _STATEMENT.search(before)
        command, skipped, of_table = self._command(statement)
        if command is not None and statement is not None:
            rest = statement["rest"]
            quote = _open_quote(rest)
            if quote >= 0:
                start = len(before) - len(rest) + quote
                return start, self._values(command, rest[: quote - 1], skipped, of_table)
            word = _WORD.search(before)
            start = word.start() if word else len(before)
            if rest[: len(rest) - (len(before) - start)].rstrip(" \t")[-1:] in (",", "{", ""):
                if dotted := self._dotted(before):
                    return dotted
                options = [f"{name} => " for name in command.options]
                typed = before[start:]
                if typed and any(option.startswith(typed) for option in options):
                    return start, options
                return start, [*options, *self._names()]
        if dotted := self._dotted(before):
            return dotted
        if (
            statement is not None
            and statement[1] == "help"
            and (quote := _open_quote(statement["rest"])) >= 0
        ):
            there = self._interpreter.namespace
            names = [name for name, value in there.items() if isinstance(value, Bound)]
            return len(before) - len(statement["rest"]) + quote, [*names, *GROUPS]
        word = _WORD.search(before)
        return (word.start() if word else len(before)), self._names() if word and word.group() else ()

    def _command(self, statement: re.Match[str] | None) -> tuple[Command | None, int, str]:
        """Return the command that is being typed, the number of arguments it has, and its table."""
        if statement is None:
            return None, 0, ""
        value = self._interpreter.namespace.get(statement[1])
        if isinstance(value, ShellTable) and statement[2]:
            method = self._interpreter.namespace.get(statement[2])
            return (method.command if isinstance(method, Bound) else None), 1, value.name
        return (value.command if isinstance(value, Bound) and not statement[2] else None), 0, ""

    def _values(self, command: Command, given: str, skipped: int, table: str) -> list[str]:
        """Return the candidates for a string, by the parameter it is for."""
        names = [p.name for p in list(inspect.signature(command.function).parameters.values())[1:]]
        at = given.count(",") + skipped
        if named := re.search(r"(\w+)\s*(?:=>|:|=)\s*\[?[^=]*$", given):
            name = named.group(1).lower()
        else:
            name = names[min(at, len(names) - 1)] if names else ""
        first = re.match(r"\s*['\"]([^'\"]*)['\"]", given)
        table = table or (first.group(1) if first else "")
        source: Callable[[], list[str]] | None = {
            "table": self._tables,
            "tables": self._tables,
            "pattern": self._tables if command.group == "ddl" else None,
            "namespace": self._namespaces,
            "namespaces": self._namespaces,
            "column": lambda: self._columns(table),
            "columns": lambda: self._columns(table),
            "family": lambda: self._families(table),
            "server": self._servers,
            "servers": self._servers,
        }.get(name)
        if command.name in ("flush", "compact", "major_compact", "split") and name == "name":
            source = self._tables
        elif name == "name":
            source = (lambda: self._families(table)) if command.group == "ddl" else self._snapshots
        elif name == "changes":
            source = lambda: self._families(table)  # noqa: E731
        return self._fresh((name, command.group, table), source) if source is not None else []

    def _fresh(self, key: tuple[str, ...], source: Callable[[], list[str]]) -> list[str]:
        session = self._interpreter.session
        if not session.ready:
            return []
        at, found = self._kept.get(key, (-CURRENT, []))
        if time.monotonic() - at > CURRENT:
            try:
                found = source()
            except Exception:
                return []  # it is being typed: whatever is wrong is said when it is run
            self._kept[key] = (time.monotonic(), found)
        return found

    def _tables(self) -> list[str]:
        return list(self._interpreter.session.admin.tables())

    def _namespaces(self) -> list[str]:
        return list(self._interpreter.session.admin.namespaces.list())

    def _servers(self) -> list[str]:
        return list(self._interpreter.session.admin.cluster.live())

    def _snapshots(self) -> list[str]:
        return [one.name for one in self._interpreter.session.admin.snapshots.list()]

    def _families(self, table: str) -> list[str]:
        schema = self._interpreter.session.admin.schema(table_name(table))
        return [shown(data(family.name)) for family in schema.families]

    def _columns(self, table: str) -> list[str]:
        return [f"{family}:" for family in self._families(table)]

    def _names(self) -> list[str]:
        return [
            *self._interpreter.namespace,
            *self._interpreter.lazy,
            *keyword.kwlist,
            *(n for n in dir(builtins) if not n.startswith("_")),
        ]

    def _dotted(self, before: str) -> tuple[int, list[str]] | None:
        """Return the attributes of a dotted name. Nothing is called, only looked up."""
        match = _DOTTED.search(before)
        if match is None:
            return None
        path = match[1].split(".")
        value: Any = self._interpreter.namespace.get(path[0], getattr(builtins, path[0], None))
        try:
            if value is None and path[0] in ("connection", "admin") and self._interpreter.session.ready:
                value = self._interpreter.lazy[path[0]]()
            for part in path[1:]:
                value = _made(
                    inspect.getattr_static(value, part)
                    if not isinstance(value, type(inspect))
                    else getattr(value, part)
                )
            names = dir(value) if value is not None else []
        except Exception:
            return None
        return match.start(2), [n for n in names if match[2].startswith("_") or not n.startswith("_")]


def _made(value: Any) -> Any:
    """Return the declared type of a property, without reading the property."""
    function = value.func if isinstance(value, cached_property) else getattr(value, "fget", None)
    return get_type_hints(function).get("return") if function is not None else value


def _open_quote(text: str) -> int:
    """Return where the open string begins; -1 where there is none."""
    at, start = 0, -1
    quote = ""
    while at < len(text):
        character = text[at]
        if quote:
            if character == "\\":
                at += 1
            elif character == quote:
                quote, start = "", -1
        elif character in "'\"":
            quote, start = character, at + 1
        at += 1
    return start
