"""The verb `kirsch hbase`: shell, server and jars. An entry point of the group kirsch.verbs."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from kirsch.cli.completion import files
from kirsch.cli.errors import Failure, Misuse
from kirsch.cli.values import count, seconds
from kirsch.cli.verb import Noun, Options, argument, flag, option
from kirsch.hbase.jars import VERSION

hbase = Noun("hbase")
FILE, FOLDER = click.Path(path_type=Path), click.Path(file_okay=False, path_type=Path)
SHELL = (
    "Every command of HBase's own shell is there, as Python's "
    "function, scan('t1', limit=10), and as it is typed there, scan 't1', {LIMIT => 10}; any Python module "
    "can be imported. help says what there is.\n\n"
    "On a terminal Tab completes commands, tables, families and options, Ctrl-C stops a command, Ctrl-D "
    "leaves, and the history is kept in ~/.local/state/kirsch/hbase_history ($XDG_STATE_HOME). With -c, "
    "with a SCRIPT, or in a pipe it runs that up to its first error.\n\n"
    "The exit status is 1 where HBase or the code fails, 2 for a syntax error or wrong arguments of a "
    "command, 130 after Ctrl-C."
)


@hbase.verb(
    "shell",
    "a Python interpreter with HBase's commands",
    option("-c", "code", metavar="CODE", repeat=True, help="run this; may be repeated"),
    argument("script", "SCRIPT", "run this file; - is standard input", optional=True, complete=files),
    argument("arguments", "ARGUMENT", "the script's, in sys.argv", many=True, optional=True, complete=files),
    flag("--json", help="print JSON, a line for each thing or row"),
    option(
        "--quorum",
        metavar="HOST[:PORT]…",
        help="ZooKeeper's servers, and its /node (hbase-site.xml, else localhost)",
    ),
    option("--config", metavar="FILE", type=FILE, help="an hbase-site.xml"),
    option("--user", metavar="USER", help="the user's name, where HBase trusts its clients"),
    option(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=60.0,
        help="the time that an operation may take (60)",
    ),
    option(
        "--patience",
        metavar="SECONDS",
        type=seconds,
        default=3.0,
        help="wait so long for the first answer (3)",
    ),
    option(
        "--jars",
        metavar="PATH",
        help="HBase's jars, as a class path (HBASE_HOME, CLASSPATH, kirsch hbase jars)",
    ),
    option("--java", metavar="DIR", type=FOLDER, help="Java's home (JAVA_HOME, else the one on PATH)"),
    option("--java-option", metavar="OPTION", repeat=True, help="such as -Xmx2g; may be repeated"),
    flag("--debug", help="show stack traces, Java's too"),
    flag("--plain", help="do without prompt_toolkit on a terminal"),
    flag("--no-history", help="neither read nor keep the history"),
    text=SHELL,
    example="kirsch hbase shell -c \"scan 't1', {LIMIT => 10}\"",
)
def shell(options: Options) -> int:
    """Run the shell: typed, a script, a pipe, or -c."""
    if options.quorum and options.config:
        raise Misuse("--quorum or --config, not both")
    if options.code and options.script:
        # As in Python, what follows -c are its arguments.
        options.arguments.insert(0, options.script)
        options.script = None
    from kirsch.hbase import connect
    from kirsch.hbase.shell import JAVA_OPTIONS, run
    from kirsch.hbase.shell import Options as How

    def connecting() -> Any:
        return connect(
            options.quorum or options.config,
            timeout=options.timeout,
            patience=options.patience,
            user=options.user,
            jars=options.jars,
            java=options.java,
            options=[*JAVA_OPTIONS, *options.java_option],
        )

    how = How(
        code=options.code,
        script=options.script,
        arguments=options.arguments,
        as_json=options.json,
        debug=options.debug,
        plain=options.plain,
        history=None if options.no_history else history(),
    )
    return run(connecting, how)


def history() -> Path | None:
    """Return the file of the shell's history; None without a home folder."""
    try:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return Path(state) / "kirsch" / "hbase_history"


def setting(text: str) -> tuple[str, str]:
    """Parse a setting, NAME=VALUE."""
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise ValueError(f"{text!r} is not NAME=VALUE")
    return name.strip(), value.strip()


def java_option(text: str) -> str:
    """Check an option of Java's: without the - it would be the class that Java runs."""
    if not text.startswith("-"):
        raise ValueError(f"{text!r} is not an option of Java's: write -Xlog:gc, with the -")
    return text


def _port(text: str) -> int:
    number = count(text)
    if number > 65535:
        raise ValueError(f"port {number} is above 65535")
    return number


@hbase.verb(
    "server",
    "run a standalone HBase",
    option("--directory", metavar="DIR", type=FOLDER, help="its data ($STATE_DIRECTORY, else ./hbase-data)"),
    option(
        "--address",
        metavar="ADDRESS",
        default=os.environ.get("KIRSCH_ADDRESS", "127.0.0.1"),
        help="the address it binds ($KIRSCH_ADDRESS, else 127.0.0.1)",
    ),
    option(
        "--port", metavar="PORT", type=_port, default=2181, help="ZooKeeper's, which clients are told (2181)"
    ),
    option("--memory", metavar="MB", type=count, default=512, help="Java's heap (512)"),
    flag("--access", help="with access control: grant, revoke"),
    flag("--labels", help="with visibility labels"),
    flag("--groups", help="with groups of region servers"),
    option(
        "--superuser",
        metavar="USER",
        default="admin",
        help="the user who may do everything with these (admin)",
    ),
    option(
        "--set", metavar="NAME=VALUE", repeat=True, type=setting, help="a setting of HBase's; may be repeated"
    ),
    option(
        "--java-option",
        metavar="OPTION",
        repeat=True,
        type=java_option,
        help="an option of Java's, such as --java-option=-XX:TieredStopAtLevel=4: half as fast again, once "
        "it has run for a while; may be repeated",
    ),
    option("--version", metavar="VERSION", default=VERSION, help=f"HBase's ({VERSION})"),
    flag("--verbose", help="show its warnings too"),
    text="For development and tests: master, region server and ZooKeeper in one process, with its data in a "
    "folder. It says when it is up, and stops cleanly on Ctrl-C.",
    example="kirsch hbase server --directory /tmp/hbase",
)
def server(options: Options) -> int:
    """Run a standalone HBase until Ctrl-C."""
    from kirsch.hbase.errors import HBaseError
    from kirsch.hbase.server import Settings, default_folder, run

    try:
        settings = Settings(
            options.directory or default_folder(),
            options.address,
            options.port,
            options.memory,
            options.access,
            options.labels,
            options.superuser,
            options.groups,
            dict(options.set),
            java=options.java_option,
        )
        return run(settings, options.version, verbose=options.verbose)
    except HBaseError as error:
        raise Failure(str(error)) from None


@hbase.verb(
    "jars",
    "fetch HBase's client with Maven, once, into a cache",
    flag("--server", help="the server's jars too"),
    option("--version", metavar="VERSION", default=VERSION, help=f"HBase's ({VERSION})"),
    flag("--class-path", help="print a class path, for java -cp"),
    flag("--json", help="print JSON"),
    text="What is there already is not fetched again. KIRSCH_HBASE_JARS names another folder than "
    "~/.cache/kirsch/hbase, and KIRSCH_HBASE_VERSION the version that connect and the shell take, where the "
    "cache has several.",
    example="kirsch hbase jars",
)
def jars(options: Options) -> int:
    """Fetch HBase's jars into the cache."""
    from kirsch.hbase import archive, jars
    from kirsch.hbase.errors import HBaseError

    sets = [jars.client(options.version)]
    if options.server:
        sets.append(jars.server(options.version))
    try:
        found = {one.name: jars.fetch(one, _say) for one in sets}
        archive.make(found[sets[0].name], _say)
    except HBaseError as error:
        raise Failure(str(error)) from None
    if options.json:
        print(json.dumps({name: [str(path) for path in paths] for name, paths in found.items()}, indent=2))
    elif options.class_path:
        print(":".join(str(path) for paths in found.values() for path in paths))
    else:
        for paths in found.values():
            size = sum(path.stat().st_size for path in paths) // 1_000_000
            print(f"{len(paths)} jars, {size} MB, in {paths[0].parent}")
        if options.version != jars.VERSION:
            print(f"connect takes them with KIRSCH_HBASE_VERSION={options.version}")
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
