"""Commands of the shell: functions of a session, with a group, and a docstring that is their help."""

import builtins
import difflib
import inspect
import keyword
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kirsch.hbase.shell.session import Session


# Groups of HBase's own shell in its order: what each is about, and its modules in
# kirsch.hbase.shell.commands.
GROUPS = {
    "general": ("the cluster and this shell", ("general",)),
    "ddl": ("tables and their families", ("ddl", "alter")),
    "namespace": ("namespaces", ("namespaces",)),
    "dml": ("rows and cells", ("dml",)),
    "tools": ("regions, servers and chores", ("regions", "servers", "balancer")),
    "replication": ("replication to peers", ("replication",)),
    "snapshots": ("snapshots of tables", ("namespaces",)),
    "configuration": ("reading hbase-site.xml again", ("namespaces",)),
    "quotas": ("limits of requests and space", ("quotas",)),
    "security": ("permissions", ("security",)),
    "procedures": ("procedures of the master", ("general",)),
    "visibility labels": ("labels that hide cells from users", ("security",)),
    "rsgroup": ("groups of region servers", ("rsgroup",)),
}


# Commands that HBase 2.4's shell lacks, and the first version whose servers answer them.
NEWER = {
    "change_sft": "2.5",
    "change_sft_all": "2.5",
    "flush_master_store": "2.5",
    "list_unknownservers": "2.5",
    "truncate_region": "2.6",
}


class UsageError(Exception):
    """A command was called with wrong arguments. The message says how to call it."""


class CommandError(Exception):
    """A command failed. The message is one line for a person."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the shell."""

    name: str
    group: str
    function: Callable[..., Any]
    keep_hashes: bool
    # Options of a command that reads its options itself.
    declared: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """Return the first paragraph of the docstring."""
        return self._parts[0]

    @property
    def examples(self) -> tuple[str, ...]:
        """Return calls in HBase's own syntax: the docstring's second paragraph."""
        return tuple(line.strip() for line in "".join(self._parts[1:2]).splitlines())

    @property
    def text(self) -> str:
        """Return the docstring behind the examples."""
        return "\n\n".join(self._parts[2:])

    @property
    def since(self) -> str:
        """Return the first version of HBase whose shell has the command: 2.4 for all that are older."""
        return NEWER.get(self.name, "2.4")

    @property
    def _parts(self) -> list[str]:
        return inspect.cleandoc(self.function.__doc__ or "").split("\n\n")

    @property
    def options(self) -> tuple[str, ...]:
        """Return the options that are given by name, in upper case."""
        parameters = inspect.signature(self.function).parameters.values()
        named = tuple(p.name.strip("_").upper() for p in parameters if p.kind is p.KEYWORD_ONLY)
        return (*self.declared, *named)

    def call(self, session: "Session", arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
        """Call the command with the arguments of a person. Raises UsageError."""
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
ALIASES = {
    "desc": "describe",
    "hlog_roll": "wal_roll",
    "update_rsgroup_config": "alter_rsgroup_config",
}


def command(
    group: str, *, name: str = "", keep_hashes: bool = False, options: Sequence[str] = ()
) -> Callable[[Callable[..., Any]], Command]:
    """Register a function as a command of a group.

    Its first parameter is the session; keyword-only parameters are options. A hash among the arguments gives
    options, unless the command keeps hashes, which are then arguments like any other. `options` are those of
    a command that reads its options itself.
    """
    if group not in GROUPS:
        raise ValueError(f"there is no group {group}")

    def register(function: Callable[..., Any]) -> Command:
        made = Command(name or function.__name__.strip("_"), group, function, keep_hashes, tuple(options))
        if made.name in _COMMANDS and _COMMANDS[made.name].function.__module__ != function.__module__:
            raise ValueError(f"there are two commands {made.name}")
        _COMMANDS[made.name] = made
        return made

    return register


def commands() -> Mapping[str, Command]:
    """Return all commands by name, in the order of their groups."""
    for _, modules in GROUPS.values():
        for module in modules:
            import_module(f"kirsch.hbase.shell.commands.{module}")
    order = builtins.list(GROUPS)
    return dict(sorted(_COMMANDS.items(), key=lambda item: (order.index(item[1].group), item[0])))


class Bound:
    """A command as a function in the shell's namespace."""

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
    """The command `list`, which is Python's type too: it makes a list of anything but a pattern."""

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
    """Yield each command's name and function, and those of aliases."""
    there = commands()
    for name, made in there.items():
        yield name, (ListCommand if name == "list" else Bound)(made, session)
    for alias, name in ALIASES.items():
        yield alias, Bound(there[name], session)


# Values of options that HBase's shell has as constants.
_VALUES = """
CF CLUSTER DISABLE DISABLED ENABLED EVENTUAL IS_ROOT MACHINE NONE NO_INSERTS NO_WRITES NO_WRITES_COMPACTIONS
READ REQUEST ROW ROWCOL SERVER_NAME SPACE STRONG THROTTLE VALUE WRITE
"""


def constants() -> dict[str, str]:
    """Return the constants of HBase's shell, which are text: options of all commands, and values."""
    options = {option for command in commands().values() for option in command.options}
    return {name: name for name in sorted({*_VALUES.split(), *options})}


# The commands whose first argument is a table.
METHODS = frozenset(
    [
        "alter",
        "alter_async",
        "alter_status",
        "append",
        "clear_block_cache",
        "compact",
        "compaction_state",
        "count",
        "delete",
        "deleteall",
        "describe",
        "disable",
        "disable_table_replication",
        "drop",
        "enable",
        "enable_table_replication",
        "exists",
        "flush",
        "get",
        "get_counter",
        "get_splits",
        "incr",
        "is_disabled",
        "is_enabled",
        "list_regions",
        "locate_region",
        "major_compact",
        "put",
        "scan",
        "set_visibility",
        "snapshot",
        "split",
        "truncate",
        "truncate_preserve",
    ]
)


class ShellTable:
    """A table in a variable: the commands without the table as first argument (`t.put 'r', 'f:q', 'v'`)."""

    def __init__(self, session: "Session", name: str) -> None:
        self._session = session
        self._name = name

    @property
    def name(self) -> str:
        """Return the table's name."""
        return self._name

    @property
    def table(self) -> Any:
        """Return the table as kirsch.hbase's Table."""
        return self._session.connection.table(self._name)

    def __getattr__(self, name: str) -> Any:
        if name not in METHODS:
            raise AttributeError(f"a table has no command {name}: there are {', '.join(sorted(METHODS))}")
        command = commands()[name]

        def call(*arguments: Any, **options: Any) -> Any:
            return self._session.run(command, (self._name, *arguments), options)

        call.__name__, call.__doc__ = name, command.function.__doc__
        return call

    def __dir__(self) -> list[str]:
        return sorted([*METHODS, "name", "table"])

    def __repr__(self) -> str:
        return f"<table {self._name}>"

    def __str__(self) -> str:
        return self._name
