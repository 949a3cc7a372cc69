"""Side by side with HBase's own shell: what the same lines print in both, on an empty server each."""

import os
import re
import subprocess
import sys
from collections import Counter
from io import StringIO
from pathlib import Path

import pytest
from tests.hbase.standalone import Standalone

from kirsch.hbase import connect, jars
from kirsch.hbase.server import xml
from kirsch.hbase.shell.interpreter import Interpreter
from kirsch.hbase.shell.output import Output
from kirsch.hbase.shell.session import Session

pytestmark = [pytest.mark.services, pytest.mark.soak, pytest.mark.timeout(900)]
DOCS = Path(__file__).parents[3] / "docs/differences.md"
# The newest whose shell Maven has, and its own classes: 2.6's lack some that it names.
VERSION, RUBY = "2.4.17", "9.2.13.0"
GROUP = "org.apache.hbase"
SHELL = jars.JarSet(f"shell-{VERSION}", (jars.Artifact(GROUP, "hbase-shell", VERSION),), alone=True)
JRUBY = jars.JarSet(f"jruby-{RUBY}", (jars.Artifact("org.jruby", "jruby-complete", RUBY),))
CLASSES = jars.JarSet(f"shell-classes-{VERSION}", (jars.Artifact(GROUP, "hbase-server", VERSION),))
LINES = """
version
status
whoami
table_help
list
create 'people', 'name', {NAME => 'visits', VERSIONS => 3, TTL => 86400}
create 'people', 'name'
create 'split', 'f', SPLITS => ['g', 'm']
create 'none'
list
list 'peo.*'
exists 'people'
exists 'nobody'
is_enabled 'people'
is_disabled 'people'
describe 'people'
desc 'split'
put 'people', 'ada', 'name:first', 'Ada'
put 'people', 'ada', 'name:last', 'Lovelace', 1000
put 'people', 'ada', 'visits:n', "\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x05"
put 'people', 'bob', 'name:first', 'Bob'
put 'people', 'bob', 'name:first', nil
put 'people', 'bob', 'no:first', 'Bob'
put 'nobody', 'bob', 'no:first', 'Bob'
get 'people', 'ada'
get 'people', 'ada', 'name:first'
get 'people', 'ada', {COLUMN => 'visits:n:toLong'}
get 'people', 'ada', {COLUMN => 'name:last', TIMERANGE => [0, 2000]}
get 'people', 'nobody'
get 'people', 'ada', {FILTER => "ValueFilter(=, 'binary:Ada')"}
get_counter 'people', 'ada', 'visits:n'
incr 'people', 'ada', 'visits:n', 10
incr 'people', 'ada', 'name:first'
append 'people', 'ada', 'name:last', ' Byron'
scan 'people'
scan 'people', {LIMIT => 1}
scan 'people', {COLUMNS => ['name:last']}
scan 'people', {REVERSED => true}
scan 'people', {STARTROW => 'b'}
scan 'people', {ROWPREFIXFILTER => 'a'}
scan 'people', {FILTER => "PrefixFilter('b')"}
scan 'people', {LIMT => 1}
scan 'people', {FILTER => "NoSuchFilter('b')"}
count 'people'
count 'people', INTERVAL => 1
delete 'people', 'ada', 'name:last', 1000
deleteall 'people', 'bob'
scan 'people', {RAW => true, VERSIONS => 5}
get_splits 'split'
alter 'people', NAME => 'name', VERSIONS => 5
alter 'people', NAME => 'extra'
alter 'people', 'delete' => 'extra'
alter 'people', NAME => 'nix', METHOD => 'delete'
alter 'people', READONLY => true
alter 'people', METHOD => 'table_att_unset', NAME => 'READONLY'
alter_status 'people'
create_namespace 'ns'
list_namespace
describe_namespace 'ns'
create 'ns:t', 'f'
list_namespace_tables 'ns'
drop_namespace 'ns'
flush 'people'
snapshot 'people', 'shot'
list_snapshots
clone_snapshot 'shot', 'copy'
count 'copy'
delete_snapshot 'shot'
truncate 'people'
count 'people'
drop 'people'
disable 'people'
scan 'people'
drop 'people'
drop 'people'
balancer_enabled
balance_switch true
normalizer_enabled
splitormerge_enabled 'SPLIT'
catalogjanitor_enabled
cleaner_chore_enabled
list_peers
list_quotas
list_deadservers
rit
show_filters
list_labels
list_rsgroups
no_such_command 'x'
"""
STATEMENTS = LINES.strip().splitlines()
MARK = "@@@"
HEAD = """\
# What HBase's own shell prints otherwise

Made by tests/hbase/shell/test_differences.py (`KIRSCH_WRITE=1`, `-m soak`), which types {count} lines into
the shell of HBase {there} (the newest that Maven has) and into `kirsch hbase shell`, each at an empty server
of HBase {server}. Both say the same to {same} of them, but for layout, headings, numbers of rows and times.
These are the others:

| line | HBase's shell | kirsch's |
| --- | --- | --- |
"""
# What differs from run to run, or is layout.
VARIABLE = (
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?(UTC|Z|[+-]\d{4}))?", "TIME"),
    (r"\b\w+,\d+,\d+\b", "SERVER"),
    (r"\b\w+:\d{5} \d{13}\b", "SERVER"),
    (r"\b[0-9a-f]{32}\b", "ID"),
    (r"\b\d{13}\b", "TIME"),
    (r"\bcolumn=|\btimestamp=|\bvalue=", " "),
    (r"\b0x[0-9a-f]+\b", "ADDRESS"),
    # The prompt with what was typed, and what IRB shows of a value.
    (r"^hbase:\d+:\d+> .*$", ""),
    (r"^(=> |ERROR SystemExit).*$", ""),
    (r"Took [\d.]+ seconds", ""),
    (r"^[\d,]+ \w+(\(s\))?(, [\d.]+ s)?$", ""),
)
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


def cell(text: str) -> str:
    """A text in a Markdown table."""
    lines = told(text).splitlines()
    lines = [*lines[:6], "…"] if len(lines) > 7 else lines
    shown = "<br>".join(f"`{line[:140].replace('|', '&#124;').replace('`', '&#96;')}`" for line in lines)
    return shown or "*nothing*"


def theirs(folder: Path, quorum: str) -> list[str]:
    """What HBase's shell prints for each statement."""
    host, _, port = quorum.partition(":")
    folder.mkdir()
    settings = {"hbase.zookeeper.quorum": host, "hbase.zookeeper.property.clientPort": port}
    (folder / "hbase-site.xml").write_text(xml({**settings, "hbase.client.retries.number": "2"}))
    path = [str(jar) for one in (SHELL, JRUBY, CLASSES) for jar in jars.fetch(one, print)]
    script = "".join(
        f"puts '{MARK}{number}'\n"
        f"begin; {line}; rescue Exception => e; puts 'ERROR: ' + e.message.to_s.lines.first.to_s; end\n"
        for number, line in enumerate(STATEMENTS)
    )
    java = [
        "java",
        "-XX:+UseSerialGC",
        "-cp",
        ":".join([str(folder), *path]),
        "org.jruby.JarBootstrapMain",
        "-n",
    ]
    done = subprocess.run(
        java, input=script + "exit\n", capture_output=True, text=True, timeout=600, cwd=folder
    )
    parts = re.split(rf"^{MARK}(\d+)\n", done.stdout, flags=re.M)
    found = {int(number): text for number, text in zip(parts[1::2], parts[2::2], strict=True)}
    assert len(found) == len(STATEMENTS), done.stdout[-2000:] + done.stderr[-2000:]
    # Of count the number of rows is the answer.
    return [
        re.sub(r"^(\d+) row\(s\)$", r"\1", found[number], flags=re.M)
        if line.startswith("count")
        else found[number]
        for number, line in enumerate(STATEMENTS)
    ]


def ours(quorum: str) -> list[str]:
    session = Session(lambda: connect(quorum, patience=60))
    found = []
    try:
        for line in STATEMENTS:
            out = StringIO()
            old, sys.stderr = sys.stderr, StringIO()
            try:
                Interpreter(session, Output(out)).run(line)
                found.append(out.getvalue() + sys.stderr.getvalue())
            finally:
                sys.stderr = old
    finally:
        session.close()
    return found


def test_what_hbases_own_shell_prints_otherwise(tmp_path, client):
    def at_a_server(name, run):
        server = Standalone(tmp_path / name).start()
        try:
            return run(server.quorum)
        finally:
            server.kill()

    there = at_a_server("one", lambda quorum: theirs(tmp_path / "conf", quorum))
    here = at_a_server("two", ours)
    rows = [
        f"| `{line.replace('|', '&#124;')}` | {cell(one)} | {cell(other)} |"
        for line, one, other in zip(STATEMENTS, there, here, strict=True)
        if not same(one, other)
    ]
    counts = {"count": len(STATEMENTS), "same": len(STATEMENTS) - len(rows)}
    written = HEAD.format(there=VERSION, server=jars.VERSION, **counts) + "\n".join(rows) + "\n"
    if os.environ.get("KIRSCH_WRITE"):
        DOCS.write_text(written)
    assert written == DOCS.read_text()
