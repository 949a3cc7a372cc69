"""What is long on a terminal: answers in pages, and how far a command is."""

import re

import pytest
from tests.hbase.shell.terminal import terminal

from kirsch.hbase.shell.output import MORE

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]
ROWS = 60
HEIGHT = 12
PAGE = HEIGHT - 1
ASKED = rf"^{re.escape(MORE)}$"


@pytest.fixture
def long(shell, name):
    """A table of more rows than a terminal has lines."""
    shell(f"create '{name}', 'f'")
    shell(f"for n in range({ROWS}): put('{name}', f'row{{n:02}}', 'f:q', n)")
    return name


def last(screen: str) -> int:
    """The row that was shown last."""
    return int(re.findall(r"^row(\d\d) ", screen, re.M)[-1])


@pytest.mark.soak
def test_a_long_scan_comes_in_pages(quorum, client, long, tmp_path):
    with terminal(quorum, tmp_path, rows=HEIGHT) as shown:
        shown.prompted()
        shown.line(f"\x0cscan '{long}'")
        # The first line is the heading.
        first = last(shown.until(ASKED, "the question at the first page's end"))
        assert first == PAGE - 2
        shown.type(" ")
        shown.until(rf"(?s)row{first + PAGE:02} .*{ASKED}", "the second page")
        shown.type("\r")
        shown.until(rf"(?s)row{first + PAGE + 1:02} [^\n]*\n{ASKED[1:]}", "one line more")
        # A key that says nothing else is another page, as Space is.
        shown.type("x")
        shown.until(rf"(?s)row{first + 2 * PAGE + 1:02} .*{ASKED}", "the third page")
        shown.type("q")
        shown.until(rf"^{first + 2 * PAGE + 2} lines shown, [\d.]+ s$", "how many were shown")
        shown.prompted()
        assert MORE not in shown.shown()
        # All the rest at once.
        shown.line(f"\x0cscan '{long}'")
        shown.until(ASKED)
        shown.type("a")
        shown.until(rf"(?s)row{ROWS - 1} .*^{ROWS} rows, [\d.]+ s$", "the rest")
        shown.prompted()
        # What fits is not asked for.
        shown.line(f"\x0cscan '{long}', LIMIT => 5")
        assert MORE not in shown.until(r"^5 rows, [\d.]+ s$")
        # Ctrl-C at the question is no, and the shell goes on.
        shown.line(f"\x0cscan '{long}'")
        shown.until(ASKED)
        shown.control("c")
        shown.until(r"^10 lines shown|^interrupted")
        shown.prompted()
        shown.control("d")
        assert shown.ended() == 0


@pytest.mark.soak
def test_what_takes_long_says_how_far_it_is(quorum, client, long, tmp_path):
    """The line comes after a second, tells what the command tells of itself, and goes with it."""
    with terminal(quorum, tmp_path) as shown:
        shown.prompted()
        # What counting says is shown by what goes on around it, for as long as the test needs to see it.
        shown.line("\x0cwith session.progress.of('deleting'):")
        shown.until(r"\.\.\.>")
        shown.line(f"while True: deleteall('{long}', rowprefixfilter='row0', cache=2)")
        shown.line("")
        shown.until(r"^deleting: 10 rows, \d+ s$", "how far it is")
        shown.control("c")
        shown.until(r"(?s)^interrupted$.*^hbase>\s*\Z")
        assert "deleting: " not in shown.shown()
        # What is fast says nothing.
        shown.line(f"\x0ccount '{long}'")
        assert "count:" not in shown.until(rf"^{ROWS - 10}\n[\d.]+ s$")
        # Until then the terminal itself takes Ctrl-D, for nobody.
        shown.prompted()
        shown.control("d")
        assert shown.ended() == 0
