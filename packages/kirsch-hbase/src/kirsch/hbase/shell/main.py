"""Runs a shell on a bus of its own: on a terminal, of a script, a pipe, or code that is given."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

# No more than connecting needs: the rest is imported while Java starts.
from kirsch.hbase.shell.progress import Progress
from kirsch.hbase.shell.session import Session

if TYPE_CHECKING:
    from kirsch.hbase.shell.interpreter import Interpreter

# The second compiler would take a third of the start, for what a person does not need: what one waits for
# is HBase. Options of one's own win.
JAVA_OPTIONS = ("-XX:TieredStopAtLevel=1",)


@dataclass(frozen=True, slots=True)
class Options:
    """How a shell is run: `code` that is given, else a `script` (`-` is standard input), else what is "
    "typed."""

    code: Sequence[str] = ()
    script: str | None = None
    arguments: Sequence[str] = ()
    as_json: bool = False
    debug: bool = False
    plain: bool = False
    history: Path | None = None
    names: dict[str, Any] = field(default_factory=dict)


def connector() -> Callable[..., Any]:
    """kirsch.hbase.connect, imported without numpy: JPype would import it for arrays that the shell has not,
    and that would be a tenth of its start. It can be imported later."""
    absent = "numpy" not in sys.modules
    if absent:
        sys.modules["numpy"] = None  # type: ignore[assignment]
    try:
        from kirsch.hbase import connect
    finally:
        if absent:
            del sys.modules["numpy"]
    return connect


def run(connect: Callable[[], Any], options: Options) -> int:
    """Run a shell until it is left; its exit status. From the main thread, which has the signals."""
    typed = not options.code and options.script is None and sys.stdin.isatty() and sys.stdout.isatty()
    session = Session(
        connect,
        progress=Progress(sys.stderr if sys.stderr.isatty() and not options.as_json else None),
        confirm=_asked,
    )
    session.debug = options.debug
    session.begin()
    from kirsch.hbase.shell.interpreter import Interpreter
    from kirsch.hbase.shell.output import Output
    from kirsch.hbase.shell.plugin import Shell

    output = Output(sys.stdout, as_json=options.as_json, interactive=typed)
    shell = Shell(session)
    interpreter = Interpreter(session, output, {"bus": shell.bus, "session": session, **options.names})
    return shell.run(lambda: _talk(interpreter, options) if typed else _read(interpreter, options))


def _asked(question: str) -> bool:
    from kirsch.hbase.shell.output import asked

    return asked(question)


# For who types.
WELCOME = "HBase in Python: help tells the commands, Tab completes, Ctrl-D leaves"


def _talk(interpreter: "Interpreter", options: Options) -> int:
    print(WELCOME, flush=True)
    if not options.plain:
        try:
            from kirsch.hbase.shell.prompt import talk
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "prompt_toolkit":
                raise
        else:
            return talk(interpreter, options.history)
    from kirsch.hbase.shell.plain import talk as talk_plainly

    return talk_plainly(interpreter, options.history)


def _read(interpreter: "Interpreter", options: Options) -> int:
    from kirsch.hbase.shell.interpreter import DONE, FAILED

    if options.code:
        sys.argv = ["-c", *options.arguments]
        for code in options.code:
            if status := interpreter.run(code, "<command>"):
                return status
        return DONE
    if options.script in (None, "-"):
        sys.argv = ["-", *options.arguments]
        return interpreter.run(sys.stdin.read(), "<stdin>")
    path = Path(str(options.script))
    try:
        source = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        print(f"kirsch: {path}: {reason}", file=sys.stderr)
        return FAILED
    sys.argv = [str(path), *options.arguments]
    # Its own modules can be imported, as Python's scripts have it.
    sys.path.insert(0, str(path.parent.resolve()))
    interpreter.namespace["__file__"] = str(path)
    return interpreter.run(source, str(path))
