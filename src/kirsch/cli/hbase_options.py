"""The options of `kirsch hbase shell`."""

from pathlib import Path

from kirsch.cli.hbase_server_options import Verb
from kirsch.cli.values import seconds

WHAT = (
    "A Python interpreter with HBase's commands. Every command of HBase's own shell is there, as Python's "
    "function, scan('t1', limit=10), and as it is typed there, scan 't1', {LIMIT => 10}; any Python module "
    "can be imported. help says what there is.\n\n"
    "On a terminal Tab completes commands, tables, families and options, Ctrl-C stops a command, Ctrl-D "
    "leaves, and what was typed is kept in ~/.local/state/kirsch/hbase_history ($XDG_STATE_HOME). With -c, "
    "with a SCRIPT, or in a pipe it runs that to its first error.\n\n"
    "The exit status is 1 where HBase or the code fails, 2 for what cannot be read, or for a command that is "
    "not called as it can be, 130 after Ctrl-C."
)


def shell(verb: Verb) -> None:
    """kirsch hbase shell."""
    add = verb(
        "hbase shell", "hbase:shell", WHAT, "kirsch hbase shell -c \"scan 't1', {LIMIT => 10}\""
    ).add_argument
    add("-c", dest="code", action="append", default=[], metavar="CODE", help="run this; may be repeated")
    add("script", nargs="?", metavar="SCRIPT", help="run this file; - is standard input")
    add("arguments", nargs="*", metavar="ARGUMENT", help="the script's, in sys.argv")
    add("--json", action="store_true", help="print JSON, a line for each thing or row")
    add(
        "--quorum",
        metavar="HOST[:PORT]…",
        help="ZooKeeper's servers, and its /node (hbase-site.xml, else localhost)",
    )
    add("--config", type=Path, metavar="FILE", help="an hbase-site.xml")
    add("--user", metavar="USER", help="who one is, where HBase trusts its clients")
    add("--timeout", type=seconds, default=60.0, metavar="SECONDS", help="try again so long at most (60)")
    add(
        "--patience",
        type=seconds,
        default=3.0,
        metavar="SECONDS",
        help="wait so long for the first answer (3)",
    )
    add(
        "--jars",
        metavar="PATH",
        help="HBase's jars, as a class path (HBASE_HOME, CLASSPATH, kirsch hbase jars)",
    )
    add("--java", type=Path, metavar="DIR", help="Java's home (JAVA_HOME, else the one on PATH)")
    add(
        "--java-option", action="append", default=[], metavar="OPTION", help="such as -Xmx2g; may be repeated"
    )
    add("--debug", action="store_true", help="show stack traces, Java's too")
    add("--plain", action="store_true", help="do without prompt_toolkit on a terminal")
    add("--no-history", action="store_true", help="neither read nor keep what was typed")
