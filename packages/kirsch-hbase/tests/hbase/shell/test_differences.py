"""Side by side with HBase's own shell: what the same lines print in both, on an empty server each."""

import json
import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from threading import Timer

import pytest
from tests.deadline import eventually
from tests.hbase.standalone import OPTIONS as STANDALONE
from tests.hbase.standalone import Standalone

from kirsch.hbase import connect, jars
from kirsch.hbase.server import xml
from kirsch.hbase.shell.interpreter import Interpreter
from kirsch.hbase.shell.output import Output
from kirsch.hbase.shell.session import Session

pytestmark = [pytest.mark.services, pytest.mark.soak, pytest.mark.timeout(3600)]
DOCS = Path(__file__).parents[3] / "docs/differences.md"
# The newest whose shell Maven has, and its own classes: 2.6's lack some that it names.
VERSION, RUBY = "2.4.17", "9.2.13.0"
GROUP = "org.apache.hbase"
SHELL = jars.JarSet(f"shell-{VERSION}", (jars.Artifact(GROUP, "hbase-shell", VERSION),), alone=True)
JRUBY = jars.JarSet(f"jruby-{RUBY}", (jars.Artifact("org.jruby", "jruby-complete", RUBY),))
CLASSES = jars.JarSet(f"shell-classes-{VERSION}", (jars.Artifact(GROUP, "hbase-server", VERSION),))
GROUPS = jars.JarSet(f"shell-groups-{VERSION}", (jars.Artifact(GROUP, "hbase-rsgroup", VERSION),), alone=True)
LINES = Path(__file__).with_name("side_by_side.txt")
STATEMENTS = [line for line in LINES.read_text().splitlines() if line and not line.startswith("#")]
# As the tests' shared server, but with one region server: which of two has a region differs from run to run.
OPTIONS = [option for option in STANDALONE if not option.startswith("--set=hbase.regionserver")]
MARK = "@@@"
# Seconds for one line of HBase's shell, which tries again for long.
PATIENCE = 180.0
HEAD = """\
# What HBase's own shell prints otherwise

Made by tests/hbase/shell/test_differences.py (`KIRSCH_WRITE=1`, `-m soak`), which types the {count} lines of
side_by_side.txt one after another into the shell of HBase {there} (the newest that Maven has) and into
`kirsch hbase shell`, each at a new server of HBase {server}. Both say the same to {same} of them, but for
layout, headings, numbers of rows, times, and words around a value; {errors} more are refused by both, in
other words. Lines after `~` print something else at each run: the test compares only that both carry them
out.

What is otherwise is so on purpose:

- What is refused is told in one line that says what to do, and more is refused: misspelt options, families
  and tables that are not there, nothing to delete.
- The shell is Python with Ruby's statements: `if … end`, `def … end` and Ruby's own methods are not known.
- Commands answer with values: `exists` with true or false, `list` with names that stay unprinted where they
  are assigned or gone through.
- `describe` prints statements that can be typed again; text of other scripts is printed as it is.
- Lists have columns for all that there is: owners and lifetimes of snapshots, types of quotas, settings of
  peers.
"""
SECTIONS = {
    (False, True): "Carried out by HBase's shell, refused by kirsch's",
    (True, False): "Refused by HBase's shell, carried out by kirsch's",
    (False, False): "Carried out by both, printed otherwise",
    (True, True): "Refused by both, in other words",
}
TABLE = "| line | HBase's shell | kirsch's |\n| --- | --- | --- |\n"
# What differs from run to run, or is layout.
VARIABLE = (
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?(UTC|Z|[+-]\d{4}))?", "TIME"),
    (r"\b\w+,\d+,\d+\b", "SERVER"),
    (r"\b127\.0\.0\.1:\d+\b", "QUORUM"),
    (r"\blocalhost:\d+\b", "SERVER"),
    (r"\bkirsch \d\S*", "kirsch VERSION"),
    (r"\b\w+:\d{5} \d{13}\b", "SERVER"),
    (r"\b[0-9a-f]{32}\b", "ID"),
    (r"\b\d{13}\b", "TIME"),
    (r"\bcolumn=|\btimestamp=|\bvalue=", " "),
    (r"\b0x[0-9a-f]+\b", "ADDRESS"),
    # The prompt with what was typed, and what IRB shows of a value.
    (r"hbase:\d+:\d+> .*$", ""),
    (r"^(=> |ERROR SystemExit).*$", ""),
    (r"Took [\d.]+ seconds", ""),
    (r"^\s*[\d,]+ \w+(\(s\))?(, [\d.]+ s)?$", ""),
    # Words around a value, and the lines of a table.
    (r"^(Created table \w+|<table \w+>)$", ""),
    (r"^(COUNTER|CURRENT) VALUE = |^Previous [\w ]+ : |^Total number of splits = \d+$|[|]|^[ -]*$", ""),
    (r"^Updating all regions with the new schema\.\.\.$|^\d+/\d+ regions updated\.?$|^Done\.$", ""),
    (r"^Truncating .*$|^(Disabling|Truncating) table\.\.\.$", ""),
    (r"^\w+ the above \d+ \w+ \(y/n\)\?$|^\d+ \w+ successfully \w+\.?$|^Successfully .*$", ""),
)
# Java's sets have no order.
ANY_ORDER = ("list", "user_permission", "show_peer")
LAYOUT = re.compile(r"^[A-Z_+/ =-]*$")


def told(text: str) -> str:
    """What is told, without what differs from run to run."""
    for pattern, by in VARIABLE:
        text = re.sub(pattern, by, text, flags=re.M)
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(line for line in lines if not LAYOUT.match(line))


def same(one: str, other: str) -> bool:
    """Whether both tell the same words, in whatever layout."""
    first, second = (Counter(re.findall(r"[^\s,]+", told(text))) for text in (one, other))
    return first == second


def cell(line: str, answer: "Answer") -> str:
    """An answer in a Markdown table."""
    if line.startswith("~") and not answer.refused:
        return "*carried out*"
    lines = told(answer.text).splitlines()
    if line.startswith(ANY_ORDER):
        lines.sort()
    lines = [*lines[:6], "…"] if len(lines) > 7 else lines
    shown = "<br>".join(f"`{line[:140].replace('|', '&#124;').replace('`', '&#96;')}`" for line in lines)
    return shown or "*nothing*"


@dataclass
class Answer:
    """What a shell prints for a line, and whether that says that it could not carry it out."""

    text: str
    refused: bool


class Places:
    """Words of a line that differ from server to server, such as {region TABLE}."""

    def __init__(self, quorum: str) -> None:
        connection = connect(quorum, patience=60)
        self.admin, self.close, self.quorum = connection.admin, connection.close, quorum

    def fill(self, line: str) -> str:
        return re.sub(r"\{(region|regions|name|server|quorum)(?: (\w+))?\}", self._word, line)

    def _word(self, found: "re.Match[str]") -> str:
        if found[1] == "quorum":
            return self.quorum
        if found[1] == "server":
            return self.admin.regions.list("hbase:meta")[0].server
        region = self.admin.regions.list(found[2])[-1 if found[1] == "regions" else 0]
        return region.full_name.decode() if found[1] == "name" else region.name


class Theirs:
    """HBase's shell in one JVM, which gets a line when the one before has answered."""

    def __init__(self, folder: Path, quorum: str) -> None:
        host, _, port = quorum.partition(":")
        folder.mkdir()
        settings = {"hbase.zookeeper.quorum": host, "hbase.zookeeper.property.clientPort": port}
        (folder / "hbase-site.xml").write_text(xml({**settings, "hbase.client.retries.number": "2"}))
        path = [str(jar) for one in (SHELL, JRUBY, CLASSES, GROUPS) for jar in jars.fetch(one, print)]
        command = ["java", "-XX:+UseSerialGC", "-cp", ":".join([str(folder), *path])]
        self._errors = (folder / "errors").open("w+")
        self._process = subprocess.Popen(
            [*command, "org.jruby.JarBootstrapMain", "-n"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=folder,
        )
        self._number = 0
        # Commands that ask for y or n get y, as ours do where there is no terminal.
        self._do("$stdout.sync = true; $b = binding")
        self._do("::Object.class_eval { def gets(*); %q(y); end }")

    def __call__(self, line: str) -> Answer:
        # A string that is evaluated: of a mistake of syntax only the line fails.
        ruby = json.dumps(line).replace("#", r"\#")
        error = "puts 'ERROR: ' + e.message.to_s.lines.first.to_s"
        text = self._do(f"begin; eval({ruby}, $b); nil; rescue Exception => e; {error}; end")
        if line.startswith(("count", "t.count")):
            # Of count the number of rows is the answer.
            text = re.sub(r"^(\d+) row\(s\)$", r"\1", text, flags=re.M)
        return Answer(text, re.search(r"^(Took [\d.]+ seconds)?\s*ERROR", text, re.M) is not None)

    def _do(self, ruby: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._number += 1
        self._process.stdin.write(f"{ruby}\nputs '{MARK}{self._number}'\n")
        self._process.stdin.flush()
        lines = []
        late = Timer(PATIENCE, self._process.kill)
        late.start()
        try:
            for line in self._process.stdout:
                if line.startswith(f"{MARK}{self._number}"):
                    return "".join(lines)
                lines.append(line)
        finally:
            late.cancel()
        self._errors.seek(0)
        raise AssertionError(f"HBase's shell ended at {ruby}: {lines[-5:]} {self._errors.read()[-2000:]}")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()


class Ours:
    """kirsch's shell in this process."""

    def __init__(self, quorum: str) -> None:
        self._session = Session(lambda: connect(quorum, patience=60))
        self.close = self._session.close
        self._out = StringIO()
        self._interpreter = Interpreter(self._session, Output(self._out))

    def __call__(self, line: str) -> Answer:
        self._out.seek(0)
        self._out.truncate()
        errors = StringIO()
        with redirect_stdout(self._out), redirect_stderr(errors):
            status = self._interpreter.run(line)
        return Answer(self._out.getvalue() + errors.getvalue(), status != 0)


def answers(folder: Path, shell: Callable[[str], Theirs | Ours]) -> list[Answer]:
    """What a shell says to each line, at a server of its own."""
    server = Standalone(folder / "server", *OPTIONS).start()
    with ExitStack() as stack:
        stack.callback(server.kill)
        places = stack.enter_context(closing(Places(server.quorum)))
        # The master makes the table of rights after it has said that it serves.
        admin = places.admin
        eventually(
            lambda: admin.exists("hbase:acl") and admin.enabled("hbase:acl"), 60, "the table of rights"
        )
        typed = stack.enter_context(closing(shell(server.quorum)))
        answered = []
        for line in STATEMENTS:
            print(f"{time.monotonic():.1f} {line}", flush=True)
            answered.append(typed(places.fill(line.removeprefix("~ "))))
        return answered


def test_what_hbases_own_shell_prints_otherwise(tmp_path, client):
    there = answers(tmp_path / "one", lambda quorum: Theirs(tmp_path / "conf", quorum))
    here = answers(tmp_path / "two", Ours)
    rows: dict[tuple[bool, bool], list[str]] = {kind: [] for kind in SECTIONS}
    for line, one, other in zip(STATEMENTS, there, here, strict=True):
        alike = one.refused == other.refused if line.startswith("~") else same(one.text, other.text)
        if not alike:
            shown = f"`{line.replace('|', '&#124;')}`"
            rows[one.refused, other.refused].append(
                f"| {shown} | {cell(line, one)} | {cell(line, other)} |\n"
            )
    differ = sum(map(len, rows.values()))
    counts = {"count": len(STATEMENTS), "same": len(STATEMENTS) - differ, "errors": len(rows[True, True])}
    written = HEAD.format(there=VERSION, server=jars.VERSION, **counts) + "".join(
        f"\n## {title}: {len(rows[kind])}\n\n{TABLE}{''.join(rows[kind])}" for kind, title in SECTIONS.items()
    )
    if os.environ.get("KIRSCH_WRITE"):
        DOCS.write_text(written)
    assert written == DOCS.read_text()
