"""hbase shell: a Python interpreter with HBase's commands."""

import argparse
import os
from pathlib import Path
from typing import Any

from kirsch.cli.errors import Failure, Misuse


def shell(options: argparse.Namespace) -> int:
    """Run the shell: typed, a script, a pipe, or -c."""
    if options.quorum and options.config:
        raise Misuse("--quorum or --config, not both")
    if options.code and options.script:
        # As Python has it: what follows -c is its arguments.
        options.arguments.insert(0, options.script)
        options.script = None
    try:
        from kirsch.hbase.shell import JAVA_OPTIONS, Options, connector, run

        connect = connector()
    except ImportError as error:
        if error.name in ("jpype", "cherrypy"):
            raise Failure("kirsch hbase shell needs JPype and CherryPy: pip install kirsch-hbase") from None
        raise

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

    how = Options(
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
    """Where what was typed is kept; nowhere for who has no home."""
    try:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return Path(state) / "kirsch" / "hbase_history"
