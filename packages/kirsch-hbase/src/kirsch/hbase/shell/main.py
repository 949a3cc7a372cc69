"""Shell on a bus of its own: on a terminal, of a script, a pipe, or given code."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Connecting needs no more than these; the rest is imported while Java starts.
from kirsch.hbase.shell.session import Progress, Session

if TYPE_CHECKING:
    from kirsch.hbase.shell.interpreter import Interpreter

# The second compiler would take a third of the start, for what a person does not need: what one waits for
# is HBase. Options of one's own win.
JAVA_OPTIONS = ("-XX:TieredStopAtLevel=1",)


# Seconds until a Ctrl-C that readline has not noticed is sent again.
AGAIN = 0.02


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a shell: it runs `code`, else a `script` (`-` is standard input), else what is typed."""

    code: Sequence[str] = ()
    script: str | None = None
    arguments: Sequence[str] = ()
    as_json: bool = False
    debug: bool = False
    plain: bool = False
    history: Path | None = None
    names: dict[str, Any] = field(default_factory=dict)


def run(connect: Callable[[], Any], options: Options) -> int:
    """Run a shell in the main thread, which gets the signals. Return its exit status."""
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


PROMPT = "hbase> "
MORE = "  ...> "
# Lines of history.
LENGTH = 10_000
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
    return _talk_plainly(interpreter, options.history)


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


def _talk_plainly(interpreter: "Interpreter", history: Path | None) -> int:
    """Read and run lines until Ctrl-D, without prompt_toolkit: edited by readline where Python has it."""
    from kirsch.hbase.shell.completion import Completion

    try:
        import readline
    except ImportError:
        readline = None  # type: ignore[assignment]
    if readline is not None:
        completion = Completion(interpreter)
        found: list[str] = []

        def complete(text: str, state: int) -> str | None:
            nonlocal found
            if state == 0:
                before = readline.get_line_buffer()[: readline.get_endidx()]
                start, words = completion.of(before)
                cut = readline.get_begidx() - start
                found = [word[cut:] if cut >= 0 else word for word in words]
            return found[state] if state < len(found) else None

        readline.set_completer(complete)
        readline.set_completer_delims(" \t\n'\"({[,=>")
        readline.parse_and_bind("tab: complete")
        readline.set_history_length(LENGTH)
        if history is not None:
            try:
                history.parent.mkdir(parents=True, exist_ok=True)
                readline.read_history_file(history)
            except OSError:
                pass  # There is no history yet, or no place for one, which is reported at the end.
    try:
        return _loop(interpreter)
    finally:
        if readline is not None and history is not None:
            old = os.umask(0o077)
            try:
                readline.write_history_file(history)
            except OSError as error:
                print(f"kirsch: {history}: {error.strerror}", file=sys.stderr)
            finally:
                os.umask(old)


def _ask(prompt: str) -> str:
    """Read a line that is typed, which Ctrl-C ends at any moment.

    Python looks for signals only while readline waits for a key: one that comes as it draws would wait for
    the next key. So a thread sends it again, until its handler has run.
    """
    handled, over = 0, False
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(writing, False)

    def handle(number: int, frame: object) -> None:
        nonlocal handled
        handled += 1
        if not over:
            raise KeyboardInterrupt

    def repeat() -> None:
        while data := os.read(reading, 512):
            before = handled
            while signal.SIGINT in data and not over:
                time.sleep(AGAIN)
                if over or handled != before:
                    break
                signal.pthread_kill(main, signal.SIGINT)

    main = threading.get_ident()
    thread = threading.Thread(target=repeat, name="kirsch-hbase-prompt", daemon=True)
    thread.start()
    old = signal.signal(signal.SIGINT, handle)
    previous = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        return input(prompt)
    finally:
        over = True
        signal.set_wakeup_fd(previous, warn_on_full_buffer=False)
        os.close(writing)
        thread.join()
        os.close(reading)
        signal.signal(signal.SIGINT, old)


def _loop(interpreter: "Interpreter") -> int:
    lines: list[str] = []
    while True:
        try:
            lines.append(_ask(MORE if lines else PROMPT))
        except EOFError:
            print()
            return 0
        except KeyboardInterrupt:
            print()
            lines = []
            continue
        source = "\n".join(lines)
        if source.strip() and not interpreter.complete(source):
            continue
        lines = []
        try:
            interpreter.run(source)
        except KeyboardInterrupt:
            print()
