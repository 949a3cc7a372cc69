"""A terminal without prompt_toolkit: lines, their history and completion by readline, where Python has it."""

import os
import sys
from pathlib import Path

from kirsch.hbase.shell.completion import Completion
from kirsch.hbase.shell.interpreter import DONE, Interpreter

PROMPT = "hbase> "
MORE = "  ...> "
# So many lines are remembered.
LENGTH = 10_000


def talk(interpreter: Interpreter, history: Path | None) -> int:
    """Read and run what is typed, until Ctrl-D."""
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
                pass  # there is none yet, or nowhere to keep one: that is told at the end
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


def _loop(interpreter: Interpreter) -> int:
    lines: list[str] = []
    while True:
        try:
            lines.append(input(MORE if lines else PROMPT))
        except EOFError:
            print()
            return DONE
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
