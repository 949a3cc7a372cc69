"""What a command is: a function of a session, with its group, and a docstring that is its help."""

import builtins
import difflib
import inspect
import keyword
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kirsch.hbase.shell.session import Session

# The groups of HBase's own shell, in its order; each is a module, or a few, of kirsch.hbase.shell.commands.
GROUPS = {
    "general": ("about the cluster and this shell", ("general",)),
    "ddl": ("tables and their families", ("ddl", "alter")),
    "namespace": ("namespaces", ("namespace",)),
    "dml": ("rows and cells", ("dml",)),
    "tools": ("regions, servers and chores", ("regions", "servers", "chores", "slowlog")),
    "replication": ("peers and what goes to them", ("replication", "peer_tables")),
    "snapshots": ("snapshots of tables", ("snapshots",)),
    "configuration": ("reading hbase-site.xml anew", ("configuration",)),
    "quotas": ("limits of requests and of space", ("quotas",)),
    "security": ("who may do what", ("security",)),
    "procedures": ("what the master is at", ("procedures",)),
    "visibility labels": ("cells that not everybody sees", ("visibility",)),
    "rsgroup": ("groups of region servers", ("rsgroup",)),
}


class UsageError(Exception):
    """A command that was not called as it can be: one line that says how it can."""


class CommandError(Exception):
    """A command that could not do what it was asked: one line for a person."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the shell."""

    name: str
    group: str
    function: Callable[..., Any]
    keep_hashes: bool

    @property
    def summary(self) -> str:
        """What it does, in one line: its docstring's first."""
        return self._parts[0]

    @property
    def examples(self) -> tuple[str, ...]:
        """Calls in the spaced form: its docstring's second part."""
        return tuple(line.strip() for line in "".join(self._parts[1:2]).splitlines())

    @property
    def text(self) -> str:
        """What else its docstring says."""
        return "\n\n".join(self._parts[2:])

    @property
    def _parts(self) -> list[str]:
        return inspect.cleandoc(self.function.__doc__ or "").split("\n\n")

    @property
    def options(self) -> tuple[str, ...]:
        """The options that it takes by name, in upper case."""
        parameters = inspect.signature(self.function).parameters.values()
        return tuple(p.name.strip("_").upper() for p in parameters if p.kind is p.KEYWORD_ONLY)

    def call(self, session: "Session", arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
        """Call it. Raises UsageError."""
        given = list(arguments)
        named = dict(options)
        if not self.keep_hashes:
            for hash_ in [a for a in given if isinstance(a, dict)]:
                named.update({str(key): value for key, value in hash_.items()})
            given = [a for a in given if not isinstance(a, dict)]
        signature = inspect.signature(self.function)
        kept = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
        named = {_option(key): value for key, value in named.items()}
        if not kept:
            known = [p.name for p in signature.parameters.values()]
            for name in named:
                if name not in known:
                    raise UsageError(self._unknown(name))
        try:
            bound = signature.bind(session, *given, **named)
        except TypeError as error:
            raise UsageError(self._misused(str(error))) from None
        return self.function(*bound.args, **bound.kwargs)

    def _unknown(self, name: str) -> str:
        near = difflib.get_close_matches(name.upper(), self.options, 1)
        hint = f"; do you mean {near[0]}?" if near else ""
        if not near and self.options:
            hint = f": there are {', '.join(self.options)}"
        return f"{self.name} has no option {name.strip('_').upper()}{hint}"

    def _misused(self, message: str) -> str:
        what = message.replace("'", "").replace(" a required argument: ", " ").replace("positional ", "")
        return f"{self.name}: {what}. It is called as: {self.examples[0] if self.examples else self.name}"


def _option(name: str) -> str:
    lowered = name.lower()
    return f"{lowered}_" if keyword.iskeyword(lowered) else lowered


_COMMANDS: dict[str, Command] = {}
# Commands that HBase's own shell knows by another name, too.
ALIASES = {"desc": "describe", "hlog_roll": "wal_roll"}


def command(
    group: str, *, name: str = "", keep_hashes: bool = False
) -> Callable[[Callable[..., Any]], Command]:
    """Make a function a command of a group.

    Its first parameter is the session; keyword-only ones are options. A hash among the arguments gives
    options, unless it keeps its hashes, which are then arguments like any other.
    """
    if group not in GROUPS:
        raise ValueError(f"there is no group {group}")

    def register(function: Callable[..., Any]) -> Command:
        made = Command(name or function.__name__.strip("_"), group, function, keep_hashes)
        if made.name in _COMMANDS and _COMMANDS[made.name].function.__module__ != function.__module__:
            raise ValueError(f"there are two commands {made.name}")
        _COMMANDS[made.name] = made
        return made

    return register


def commands() -> Mapping[str, Command]:
    """All commands by name, in the order of their groups."""
    for _, modules in GROUPS.values():
        for module in modules:
            import_module(f"kirsch.hbase.shell.commands.{module}")
    order = builtins.list(GROUPS)
    return dict(sorted(_COMMANDS.items(), key=lambda item: (order.index(item[1].group), item[0])))


class Bound:
    """A command as a person has it in the shell: a function."""

    def __init__(self, command: Command, session: "Session") -> None:
        self._command = command
        self._session = session
        self.__name__ = command.name
        self.__doc__ = command.function.__doc__

    @property
    def command(self) -> Command:
        return self._command

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._session.run(self._command, arguments, options)

    def __repr__(self) -> str:
        return f"<command {self.__name__}: {self._command.summary} help({self.__name__!r}) says more>"


class ListCommand(Bound):
    """`list` is Python's too: of something that is not a pattern it makes a list, and it is a class as "
    "ever."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if arguments and not isinstance(arguments[0], (str, bytes)):
            return builtins.list(*arguments)
        return super().__call__(*arguments, **options)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, builtins.list)

    def __subclasscheck__(self, subclass: type) -> bool:
        return issubclass(subclass, builtins.list)

    def __getitem__(self, item: Any) -> Any:
        return builtins.list[item]


def bound(session: "Session") -> Iterator[tuple[str, Bound]]:
    """Each command's name and function, and those of other names."""
    there = commands()
    for name, made in there.items():
        yield name, (ListCommand if name == "list" else Bound)(made, session)
    for alias, name in ALIASES.items():
        yield alias, Bound(there[name], session)
