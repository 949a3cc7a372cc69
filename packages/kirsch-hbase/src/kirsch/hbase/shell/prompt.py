"""A terminal with prompt_toolkit: many lines, colours, completion while one types, history."""

import os
import termios
import tty
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, ThreadedCompleter
from prompt_toolkit.completion import Completion as Found
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.input.typeahead import get_typeahead, store_typeahead
from prompt_toolkit.key_binding import KeyBindings, KeyPress
from prompt_toolkit.keys import Keys
from prompt_toolkit.patch_stdout import patch_stdout

from kirsch.hbase.shell.completion import Completion
from kirsch.hbase.shell.interpreter import DONE, Interpreter

PROMPT = "hbase> "
MORE = "  ...> "


class _Completer(Completer):
    def __init__(self, interpreter: Interpreter) -> None:
        self._completion = Completion(interpreter)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Found]:
        start, words = self._completion.of(document.text_before_cursor)
        for word in words:
            yield Found(word, start_position=start - len(document.text_before_cursor))


def talk(interpreter: Interpreter, history: Path | None) -> int:
    """Read and run what is typed, until Ctrl-D."""
    session = _session(interpreter, history)
    while True:
        source = ""
        try:
            # What other threads print comes above the line that is being typed.
            with patch_stdout(raw=True), _typed_ahead(session.input):
                source = session.prompt(PROMPT)
            if source.strip():
                interpreter.run(source)
        except EOFError:
            return DONE
        except KeyboardInterrupt:
            if source.strip():
                print("interrupted")  # before it has begun


@contextmanager
def _typed_ahead(input: Input) -> Iterator[None]:
    """Read keys in raw mode. Keys typed before the prompt are kept, Ctrl-D too: a terminal in line mode keeps
    it as end of input, and gives NUL to a reader of keys. Keys typed behind the line are for the next prompt,
    up to Ctrl-C, which raises KeyboardInterrupt."""
    with input.raw_mode():
        keys = input.read_keys()
        store_typeahead(
            input, [KeyPress(Keys.ControlD, "\x04") if key.key is Keys.ControlAt else key for key in keys]
        )
        yield
        # Of a Ctrl-C from here on a signal tells; one before it is a key.
        _signal(input.fileno())
        keys = [*get_typeahead(input), *input.read_keys()]
        pressed = [number for number, key in enumerate(keys, 1) if key.key is Keys.ControlC]
        store_typeahead(input, keys[pressed[-1] :] if pressed else keys)
        if pressed:
            raise KeyboardInterrupt


def _signal(terminal: int) -> None:
    """Have Ctrl-C be a signal, though keys are read."""
    try:
        attributes = termios.tcgetattr(terminal)
        attributes[tty.LFLAG] |= termios.ISIG
        termios.tcsetattr(terminal, termios.TCSANOW, attributes)
    except termios.error:
        pass  # it is gone


def _session(interpreter: Interpreter, history: Path | None) -> "PromptSession[str]":
    keys = KeyBindings()

    @keys.add("enter")
    def _(event: Any) -> None:
        """Run what is complete; a new line, indented as the last, where it is not."""
        buffer = event.current_buffer
        if buffer.document.is_cursor_at_the_end and interpreter.complete(buffer.text):
            buffer.validate_and_handle()
            return
        line = buffer.document.current_line_before_cursor
        indent = line[: len(line) - len(line.lstrip())]
        buffer.insert_text("\n" + indent + ("    " if line.rstrip().endswith(":") else ""))

    @keys.add("escape", "enter")
    def _(event: Any) -> None:
        """Run it whatever it is."""
        event.current_buffer.validate_and_handle()

    options: dict[str, Any] = {}
    try:
        from prompt_toolkit.lexers import PygmentsLexer
        from pygments.lexers.python import PythonLexer  # type: ignore[import-untyped]

        options["lexer"] = PygmentsLexer(PythonLexer)
    except ImportError:
        pass  # without colours while one types
    if os.environ.get("NO_COLOR"):
        options.pop("lexer", None)
    return PromptSession(
        history=_history(history),
        completer=ThreadedCompleter(_Completer(interpreter)),
        complete_while_typing=False,
        key_bindings=keys,
        multiline=True,
        prompt_continuation=lambda width, number, wrapped: MORE,
        enable_open_in_editor=True,
        **options,
    )


def _history(path: Path | None) -> Any:
    if path is None:
        return InMemoryHistory()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # For nobody else to read: it may hold what was written.
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o600))
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))
