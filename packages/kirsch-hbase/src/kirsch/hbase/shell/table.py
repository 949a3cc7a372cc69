"""A table in a variable: `t = get_table 't1'`, then `t.put 'r', 'f:q', 'v'`."""

from typing import TYPE_CHECKING, Any

from kirsch.hbase.shell.command import commands

if TYPE_CHECKING:
    from kirsch.hbase.shell.session import Session

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
    """A table's commands, without its name before their arguments."""

    def __init__(self, session: "Session", name: str) -> None:
        self._session = session
        self._name = name

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def table(self) -> Any:
        """kirsch.hbase's Table."""
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
