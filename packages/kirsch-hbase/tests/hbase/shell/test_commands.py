"""Every command of every group against the server; and the table of which test ran which."""

import os
import re
from pathlib import Path

import pytest
from tests.hbase.shell.commands_ddl import *  # noqa: F403
from tests.hbase.shell.commands_dml import *  # noqa: F403
from tests.hbase.shell.commands_ends import *  # noqa: F403
from tests.hbase.shell.commands_general import *  # noqa: F403
from tests.hbase.shell.commands_replication import *  # noqa: F403
from tests.hbase.shell.commands_rights import *  # noqa: F403
from tests.hbase.shell.commands_rsgroup import *  # noqa: F403
from tests.hbase.shell.commands_snapshots import *  # noqa: F403
from tests.hbase.shell.commands_tools import *  # noqa: F403
from tests.hbase.shell.conftest import RAN, TESTS

from kirsch.hbase.shell.command import ALIASES, GROUPS, commands

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]
TABLE = Path(__file__).parents[5] / "packages/kirsch-hbase/docs/commands.md"
HEAD = """\
# The shell's commands, and the tests that ran them

Made by `make hbase-commands`, which runs tests/hbase/shell/test_commands.py against a real server; that test
compares. A test stands here if the command answered in it: being refused does not count. `since` is the first
version of HBase whose servers and shell have the command; 2.4 is the oldest that kirsch knows.

Other names: {aliases}.
"""
ROW = re.compile(r"^\| `(\w+)` \| [\d.]+ \| (?:`([\w.]+)`|\*none\*)", re.M)


def written(ran: dict[str, list[str]], tests: list[str], before: dict[str, str]) -> str:
    """The table: for each command the first test that ran it; of tests that did not run, what stood there."""
    lines = [HEAD.format(aliases=", ".join(f"`{alias}` is `{name}`" for alias, name in ALIASES.items()))]
    for group, (what, _) in GROUPS.items():
        lines += [
            f"## {group}: {what}",
            "",
            "| command | since | test | what it does |",
            "| --- | --- | --- | --- |",
        ]
        for name, command in commands().items():
            if command.group == group:
                kept = before.get(name, "")
                test = next((test for test in tests if name in ran.get(test, ())), "")
                test = test or (kept if kept not in tests else "")
                told = f"`{test}`" if test else "*none*"
                lines.append(f"| `{name}` | {command.since} | {told} | {command.summary} |")
        lines.append("")
    return "\n".join(lines)


def test_the_table_of_commands_is_true():
    """What is written of the tests that ran now is what they did. KIRSCH_WRITE=1 writes it."""
    if os.environ.get("KIRSCH_WRITE"):
        before = dict(ROW.findall(TABLE.read_text())) if TABLE.exists() else {}
        TABLE.write_text(written(RAN, TESTS, before))
    told = dict(ROW.findall(TABLE.read_text()))
    assert list(told) == list(commands())
    since = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+) ", TABLE.read_text(), re.M))
    assert since == {name: command.since for name, command in commands().items()}
    wrong = {name: test for name, test in told.items() if test in TESTS and name not in RAN.get(test, ())}
    assert not wrong
    silent = {name for test in TESTS for name in RAN.get(test, ()) if not told[name]}
    assert not silent, "they have a test, and the table says that they have none: make hbase-commands"
