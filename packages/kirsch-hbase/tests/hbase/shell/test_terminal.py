"""The shell as a person has it: in a real terminal, typed into."""

import os
from pathlib import Path

import pytest
from tests.deadline import eventually
from tests.hbase.shell.terminal import terminal

# The number of write(2).
WRITE = {"x86_64": "1", "aarch64": "64"}[os.uname().machine]
# A machine that is busy takes its time: half a minute to the first answer.
pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]


def test_a_session(quorum, client, shell, name, tmp_path):
    """Completion, many lines, mistakes, time, history; Ctrl-D."""
    shell(f"create '{name}', 'family'; create '{name}other', 'f'")
    with terminal(quorum, tmp_path) as shown:
        assert shown.prompted().startswith("HBase in Python: help tells the commands, ")
        shown.line("status")
        shown.until(r"1 active master, .*\n[\d.]+ s$")  # how long it took stands below
        shown.prompted()
        # Commands, tables, families are completed.
        shown.type("descri\t")
        shown.until("hbase> describe")
        shown.type(f" '{name}o\t")
        shown.until(f"hbase> describe '{name}other")
        shown.line("'")
        shown.until(f"Table {name}other is enabled")
        shown.prompted()
        shown.type(f"put '{name}', 'r', '\t")
        shown.until(f"put '{name}', 'r', 'family:")
        shown.line("q', 'Hello'")
        shown.prompted()
        shown.type(f"scan '{name}', LIM\t")
        shown.until(f"scan '{name}', LIMIT =>")
        shown.line("1")
        shown.until(r"ROW +COLUMN +TIMESTAMP +VALUE\nr +family:q +\d+ +Hello\n1 row, [\d.]+ s")
        shown.prompted()
        assert b"\x1b[1mROW" in shown.raw  # in colours
        # A block: Enter goes on until an empty line.
        shown.line("for i in range(3):")
        shown.until(r"\.\.\.>")
        shown.line(f"put '{name}', f'row{{i}}', 'family:q', i")
        shown.line("")
        shown.prompted()
        shown.line(f"count '{name}'")
        shown.until(r"^4\n[\d.]+ s")
        shown.prompted()
        # No typing mistake, and no error of one's own, is a traceback.
        for typed, told in (
            ("scn 't'", "there is no command scn; do you mean scan"),
            ("scan 't", r"^scan 't\n     \^\nthe string is not closed"),
            ("scan 't', LIMT => 1", "a scan has no option LIMT|there is no table t"),
            ("scan 'nowhere'", "there is no table nowhere"),
            ("x +", "invalid syntax"),
            ("frob(1)", "NameError: name 'frob' is not defined"),
            ("1/0", "^ZeroDivisionError: division by zero"),
            ("create", "create: missing table. It is called as: create 't1', 'f1', 'f2'"),
        ):
            shown.line("\x0c" + typed)  # on a clear screen
            shown.until(told)
            shown.prompted()
            assert "Traceback" not in shown.shown()
        # Any module, any of Java's classes.
        shown.line("import math; math.pi")
        shown.until(r"^3\.14159")
        shown.prompted()
        shown.line("java('java.lang.Math').abs(-5)")
        shown.until("^5")
        shown.prompted()
        shown.control("d")
        assert shown.ended() == 0
    # What was typed is there the next time; others cannot read it.
    (history,) = (tmp_path / "state/kirsch").iterdir()
    assert history.stat().st_mode & 0o777 == 0o600
    with terminal(quorum, tmp_path) as shown:
        shown.prompted()
        shown.type("\x1b[A")
        shown.until(r"hbase> java\('java\.lang\.Math'\)\.abs\(-5\)")
        shown.control("c")
        shown.prompted()
        shown.control("r")
        shown.type("descri")
        shown.until(f"describe '{name}other'")
        shown.control("c")
        shown.type("\x1b[A\x1b[A")
        shown.until("hbase> import math")
        shown.control("c")
        shown.line("exit")
        assert shown.ended() == 0


@pytest.mark.slow
def test_what_takes_long_is_stopped(quorum, client, shell, name, tmp_path):
    """Ctrl-C stops the command, be it in Python or in Java, and not the shell."""
    shell(f"create '{name}', 'f'")
    endlessly = (
        "time.sleep(600)",
        "all(True for _ in iter(int, 1))",
        "java('java.lang.Thread').sleep(600000)",
        "connection.call(java('java.lang.Thread').sleep, 600000)",
        f"all(count('{name}') == 0 for _ in iter(int, 1))",
    )
    with terminal(quorum, tmp_path) as shown:
        shown.prompted()
        for number, endless in enumerate(endlessly):
            shown.line(f"\x0cimport time; print('begun', {number}); {endless}")
            shown.until(f"^begun {number}$")
            shown.control("c")
            shown.until(rf"(?s)^begun {number}(\^C)?$.*^interrupted$.*^hbase>\s*\Z")
        shown.control("d")
        assert shown.ended() == 0


def test_what_is_typed_while_a_command_runs(client, tmp_path):
    """It is for the next prompts, Ctrl-D too; and Ctrl-C is not lost that comes with Enter."""
    with terminal("127.0.0.1:1", tmp_path) as shown:
        shown.prompted()
        shown.type("import time; time.sleep(600)\r\x03")
        shown.until("^interrupted$")
        shown.prompted()
        shown.type("import time; time.sleep(600)\rlost\x036 * 6\r")
        shown.until("^36$")
        shown.line("import time; print('begun'); time.sleep(1)")
        shown.until("^begun$")
        shown.line("6 * 7")
        shown.until("^42$")
        shown.line("print('again'); time.sleep(1)")
        shown.until("^again$")
        shown.control("d")
        assert shown.ended() == 0


@pytest.mark.slow
def test_without_prompt_toolkit(quorum, client, tmp_path):
    with terminal(quorum, tmp_path, "--plain") as shown:
        shown.prompted()
        shown.line("statu\t")
        shown.until("1 active master")
        shown.prompted()
        shown.line("for i in range(2):")
        shown.until(r"\.\.\.>$")
        shown.line("    print(i + 40)")
        shown.line("")
        shown.until("^41")
        shown.prompted()
        shown.type("half a line")
        shown.until("half a line")
        shown.control("c")
        shown.prompted()
        shown.line("import time; print('begun'); time.sleep(600)")
        shown.until("^begun$")
        shown.control("c")
        shown.until("^interrupted")
        shown.prompted()
        shown.control("d")
        assert shown.ended() == 0
    with terminal(quorum, tmp_path, "--plain") as shown:
        shown.prompted()
        shown.type("\x1b[A")
        shown.until("hbase> import time; print")
        shown.control("c")
        shown.prompted()
        shown.line("quit")
        assert shown.ended() == 0


def test_ctrl_c_while_readline_draws(client, tmp_path):
    """Python looks for signals only while readline waits for a key; the next one was to come first."""
    with terminal("127.0.0.1:1", tmp_path, "--plain") as shown:
        shown.prompted()
        for _ in range(6):
            shown.type("hello " * 600)
        # Nobody reads what it draws: the terminal takes no more.
        syscall = Path(f"/proc/{shown.child.pid}/syscall")
        eventually(lambda: syscall.read_text().split()[0] == WRITE, what="a write that waits")
        shown.control("c")
        shown.prompted()
        shown.line("6 * 7")
        shown.until("^42$")
        shown.control("d")
        assert shown.ended() == 0


@pytest.mark.slow
def test_whoever_has_the_bus_exit_ends_the_shell(quorum, client, tmp_path):
    with terminal(quorum, tmp_path) as shown:
        shown.prompted()
        shown.line("import threading; threading.Timer(0.1, bus.exit).start()")
        assert shown.ended() == 0


def test_a_server_that_is_not_there(client, tmp_path):
    with terminal("127.0.0.1:1", tmp_path) as shown:
        shown.prompted()
        shown.line("status")
        shown.until("no ZooKeeper answers: 127.0.0.1:1 refused the connection")
        shown.prompted()
        shown.line("1 + 1")
        shown.until("^2")
        shown.prompted()
        shown.line("list")
        shown.until(r"(?s)no ZooKeeper.*no ZooKeeper")
        shown.prompted()
        shown.control("d")
        assert shown.ended() == 0
