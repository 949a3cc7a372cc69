"""Help on the shell, on a group and on a command."""

import difflib
from textwrap import wrap

from kirsch.hbase.shell import ruby_syntax
from kirsch.hbase.shell.answers import BOLD, Text, paint
from kirsch.hbase.shell.command import ALIASES, GROUPS, NEWER, Command, UsageError, commands

INTRODUCTION = """\
Type a command as you know it, scan 't1', {LIMIT => 10}, or as Python, scan('t1', limit=10). help 'dml' tells
a group's commands, help 'scan' a command; Tab completes, Ctrl-C stops a command, Ctrl-D leaves.
"""
FOOT = """
Besides: connection, admin and table('t1') are kirsch.hbase's own, java('org.apache…') any class of Java's,
_ the last answer. debug shows stack traces, or does not. Any Python module can be imported.
"""


def help_of(about: str = "", colour: bool = False, columns: int = 100) -> Text:
    """Return the help on a command, a group, or the shell, `columns` wide. Raises UsageError."""
    there = commands()
    about = ALIASES.get(about, about)
    if not about:
        width = max(map(len, GROUPS))
        parts = [INTRODUCTION]
        for group in GROUPS:
            names = [name for name, command in there.items() if command.group == group]
            lines = wrap(", ".join(names), max(columns - width - 4, 20))
            head = f"  {paint(group.ljust(width), BOLD, colour)}  "
            parts.append(head + f"\n{' ' * (width + 4)}".join(lines))
        return Text("\n".join([*parts, FOOT]))
    if about in there:
        return Text(_command(there[about], colour))
    if about in GROUPS:
        found = [command for command in there.values() if command.group == about]
        width = max(len(command.name) for command in found)
        head = f"{paint(about, BOLD, colour)}: {GROUPS[about][0]}\n"
        return Text("\n".join([head, *(f"  {c.name.ljust(width)}  {c.summary}" for c in found)]))
    near = difflib.get_close_matches(about, [*there, *GROUPS], 1)
    raise UsageError(f"there is no command or group {about}" + (f"; do you mean {near[0]}?" if near else ""))


def python_form(command: Command, example: str) -> str:
    """Translate a call in HBase's syntax to Python."""
    return ruby_syntax.translate(example, lambda name, method: name == command.name and not method)


def _command(command: Command, colour: bool) -> str:
    since = f", since HBase {command.since}" if command.name in NEWER else ""
    lines = [f"{paint(command.name, BOLD, colour)} ({command.group}{since}): {command.summary}", ""]
    lines += [f"    {example}" for example in command.examples]
    if command.examples:
        lines += [
            "",
            "As Python:",
            *(f"    {python_form(command, example)}" for example in command.examples[:3]),
        ]
    if command.text:
        lines += ["", command.text]
    if command.declared:
        lines += ["", *wrap(f"Options: {', '.join(dict.fromkeys(command.declared))}.", 100)]
    return "\n".join(lines)
