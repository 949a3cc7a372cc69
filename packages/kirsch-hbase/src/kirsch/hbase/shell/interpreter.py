"""Interpreter of both syntaxes: runs statements one after another, with errors of one line."""

import ast
import builtins
import codeop
import difflib
import linecache
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import PathFinder
from queue import SimpleQueue
from typing import Any, TypeVar

from kirsch.hbase.errors import HBaseError
from kirsch.hbase.shell import ruby_syntax
from kirsch.hbase.shell.answers import Stream
from kirsch.hbase.shell.command import (
    METHODS,
    Bound,
    CommandError,
    ShellTable,
    UsageError,
    bound,
    commands,
    constants,
)
from kirsch.hbase.shell.help import help_of
from kirsch.hbase.shell.output import Output
from kirsch.hbase.shell.session import Session, shown

T = TypeVar("T")
DONE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130
# Where packages of Java's begin; of these names Python's own come first.
JAVA = ("java", "javax", "org", "com", "net", "edu", "gov", "mil")
# Seconds until SIGINT is sent again: a finalizer takes less.
AGAIN = 0.02


class Interpreter:
    """Namespace with all commands, and the code that runs in it."""

    def __init__(self, session: Session, output: Output, names: dict[str, Any] | None = None) -> None:
        self.session = session
        self.output = output
        session.say = output.say
        self._lazy: dict[str, Callable[[], Any]] = {
            "connection": lambda: session.connection,
            "admin": lambda: session.connection.admin,
            "org": lambda: self._package("org"),
            "java": lambda: self._java(),
            # As in HBase's shell, where filters are made with it.
            "CompareOperator": lambda: session.java("CompareOperator"),
        }
        self._words = {
            "help": self.help,
            "exit": _leave,
            "quit": _leave,
            "debug": self.debug,
            "table": self.table,
            "puts": _puts,
        }
        self._ours: dict[str, Any] = {**dict(bound(session)), **self._words}
        self.namespace: dict[str, Any] = {
            "__name__": "__main__",
            "__builtins__": builtins,
            **constants(),
            **self._ours,
            "each": _each,
            "upto": _upto,
            "joined": _joined,
            **(names or {}),
        }

    # What a person can call besides commands

    def help(self, about: Any = "") -> Any:
        """help, help 'GROUP', help 'COMMAND'; help(anything else) is Python's."""
        if isinstance(about, Bound):
            about = about.command.name
        if isinstance(about, str):
            return help_of(about, self.output.colour, self.output.columns)
        import pydoc

        pydoc.help(about)
        return None

    def debug(self, on: bool | None = None) -> str:
        """Show stack traces, Java's too, or not."""
        self.session.debug = not self.session.debug if on is None else bool(on)
        return f"stack traces are {'shown' if self.session.debug else 'not shown'}"

    def table(self, name: str, **codecs: Any) -> Any:
        """Return a table as kirsch.hbase's Table, with codecs: table('t1', key='utf8')."""
        return self.session.connection.table(name, **codecs)

    def _package(self, name: str) -> Any:
        import jpype

        _ = self.session.connection
        return jpype.JPackage(name)

    def _java(self) -> Any:
        from kirsch.hbase import java

        _ = self.session.connection
        return java

    # Reading

    @property
    def lazy(self) -> Mapping[str, Callable[[], Any]]:
        """Return the names that are made at their first use, which may wait for the connection."""
        return self._lazy

    def known(self, name: str, method: str) -> bool:
        """Return whether a name is still a command, or a table with a method of that name."""
        value = self.namespace.get(name)
        if method:
            return method in METHODS and isinstance(value, ShellTable)
        return isinstance(value, Bound) or (name in self._words and value == self._words[name])

    def complete(self, source: str) -> bool:
        """Return whether a text can be run, or is wrong; otherwise more lines are needed."""
        try:
            translated = ruby_syntax.translate(source, self.known)
        except ruby_syntax.Incomplete:
            return False
        except ruby_syntax.SyntaxMistake:
            return True
        try:
            # A last line that is but indented ends a block, as an empty one does.
            return codeop.compile_command(translated.rstrip(" \t"), "<shell>", "single") is not None
        except SyntaxError as error:
            # Two statements are no mistake here; a block's last line may still be indented.
            if "multiple statements" in str(error):
                return not translated.rpartition("\n")[2].startswith((" ", "\t"))
            return True
        except (ValueError, OverflowError):
            return True

    # Running

    def run(self, source: str, name: str = "<shell>") -> int:
        """Run a text up to its first error, which is shown. Return the exit status."""
        try:
            with _RepeatedInterrupt():
                return self._read_and_run(source, name)
        except KeyboardInterrupt:
            # It may come between two statements too, and while what Java says of it is being told.
            self.session.progress.clear()
            # The terminal has written ^C into this line.
            self._say("\ninterrupted" if self.output.interactive else "interrupted")
            return INTERRUPTED

    def _read_and_run(self, source: str, name: str) -> int:
        done = ""
        for before, text in ruby_syntax.statements(source):
            try:
                translated = ruby_syntax.translate(text, self.known)
                tree = ast.parse(translated, name)
            except ruby_syntax.SyntaxMistake as error:
                return self._mistake(source, str(error), before + error.line, error.column)
            except SyntaxError as error:
                line = before + (error.lineno or 1)
                return self._mistake(source, self._syntax(text, error), line, error.offset or 0)
            except (ValueError, RecursionError, MemoryError) as error:
                return self._failed(error, MISUSED)
            ast.increment_lineno(tree, before)
            done += translated
            linecache.cache[name] = (len(done), None, done.splitlines(True), name)
            for node in tree.body:
                if status := self._statement(node, name):
                    return status
        return DONE

    def _statement(self, node: ast.stmt, name: str) -> int:
        begun = time.perf_counter()
        try:
            said = _interruptible(self._execute, node, name)
        except (KeyboardInterrupt, SystemExit, BrokenPipeError):
            raise
        except BaseException as error:
            if _cut_short(error):
                raise KeyboardInterrupt from error
            return self._failed(error, hint=self._unquoted(node, error))
        took = f"{time.perf_counter() - begun:.3f} s"
        self.output.note(f"{said}, {took}" if said else took)
        return DONE

    def _execute(self, node: ast.stmt, name: str) -> str:
        """Run a statement and show its value. Return the note to show behind it."""
        self._bind(node)
        if not isinstance(node, ast.Expr):
            exec(compile(ast.Module([node], []), name, "exec"), self.namespace)  # noqa: S102
            if isinstance(node, ast.Delete):
                # Of a name that was a command's the command comes back.
                for own, value in self._ours.items():
                    self.namespace.setdefault(own, value)
            return ""
        value = eval(compile(ast.Expression(node.value), name, "eval"), self.namespace)  # noqa: S307 - a shell
        if isinstance(value, Bound):
            value = value()  # a command's name alone
        if value is None:
            return ""
        if not isinstance(value, Stream):
            self.namespace["_"] = value
        return self._show(value)

    def _show(self, value: Any) -> str:
        label = self.session.last.name if self.session.last is not None else "reading"
        if not isinstance(value, Stream) or self.output.interactive:
            return self.output.show(value)
        with self.session.progress.of(label):
            return self.output.show(value)

    def _bind(self, node: ast.AST) -> None:
        """Connect if a statement uses a name that needs the connection, or imports Java classes."""
        for found in ast.walk(node):
            if isinstance(found, ast.Name) and found.id in self._lazy and found.id not in self.namespace:
                self.namespace[found.id] = self._lazy[found.id]()
            if any(map(_of_java, _imported(found))):
                _ = self.session.connection

    # Errors

    def _failed(self, error: BaseException, status: int = FAILED, hint: str = "") -> int:
        self.session.progress.clear()
        error = _python(error)
        if self.session.debug:
            trace = "".join(traceback.format_exception(error))
            java = error.trace() if isinstance(error, HBaseError) else ""
            self._say(f"{trace.rstrip()}\n{java}".rstrip())
            return MISUSED if isinstance(error, UsageError) else status
        if isinstance(error, UsageError):
            self._say(str(error))
            return MISUSED
        if isinstance(error, CommandError | HBaseError):
            self._say(str(error))
            return status
        words = str(error).strip().splitlines()
        message = f"{type(error).__name__}: {words[0]}" if words else type(error).__name__
        if isinstance(error, NameError):
            message += self._near(getattr(error, "name", "") or "") or hint
        self._say(message + _where(error))
        return status

    def _syntax(self, source: str, error: SyntaxError) -> str:
        line = (source.splitlines() or [""])[min((error.lineno or 1), len(source.splitlines()) or 1) - 1]
        word, _, rest = line.strip().partition(" ")
        if rest and word.isidentifier() and word not in self.namespace:
            near = self._near(word)
            if near or rest[:1] in "'\"{":
                return f"there is no command {word}{near}"
        if rest and isinstance(self.namespace.get(word), Bound):
            return f"{error.msg}; help {word!r} says how {word} is called"
        return error.msg or "invalid syntax"

    def _near(self, name: str) -> str:
        near = difflib.get_close_matches(name, [*commands(), *self._words], 1)
        return f"; do you mean {near[0]}?" if near else ""

    def _unquoted(self, node: ast.stmt, error: BaseException) -> str:
        """Return a hint for text without quotes, as in `scan t1`."""
        name = getattr(error, "name", "") if isinstance(error, NameError) else ""
        for call in ast.walk(node):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                names = [given.id for given in call.args if isinstance(given, ast.Name)]
                if name in names and self.known(call.func.id, ""):
                    return f"; text stands in quotes: {name!r}"
        return ""

    def _mistake(self, source: str, message: str, line: int, column: int) -> int:
        lines = source.splitlines() or [""]
        if len(lines) > 1:
            message = f"line {line}: {message}"
        text = lines[min(line, len(lines)) - 1]
        if self.output.interactive:
            self._say(f"{text}\n{' ' * (min(column, len(text) + 1) - 1)}^\n{message}")
        else:
            self._say(message)
        return MISUSED

    def _say(self, message: str) -> None:
        from kirsch.hbase.shell.answers import RED, paint

        sys.stdout.flush()
        prefix = "" if self.output.interactive else "kirsch: "
        print(paint(prefix + message, RED, self.output.colour and self.output.interactive), file=sys.stderr)


def _cut_short(error: BaseException | None) -> bool:
    """Return whether an error is a consequence of Ctrl-C, raised for example at the end of a `with`."""
    if not isinstance(error, HBaseError):
        return False
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


class _RepeatedInterrupt:
    """Sends SIGINT again when a finalizer has swallowed KeyboardInterrupt.

    Python drops exceptions that __del__, weakref callbacks and generators being closed raise, and reports
    them to sys.unraisablehook. The hook may run anywhere, so it only uses SimpleQueue.put, which is
    reentrant; the thread that reads the queue was started before.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._over = False
        self._dropped: SimpleQueue[bool] = SimpleQueue()

    def __enter__(self) -> None:
        threading.Thread(target=self._repeat, name="kirsch-hbase-interrupts", daemon=True).start()
        self._before, sys.unraisablehook = sys.unraisablehook, self._hook

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._over = True
        sys.unraisablehook = self._before
        self._dropped.put(False)

    def _hook(self, what: "sys.UnraisableHookArgs") -> None:
        if issubclass(what.exc_type, KeyboardInterrupt):
            self._dropped.put(True)
        else:
            self._before(what)

    def _repeat(self) -> None:
        while self._dropped.get():
            time.sleep(AGAIN)
            with self._lock:
                if not self._over:
                    signal.pthread_kill(_MAIN, signal.SIGINT)


_MAIN = threading.main_thread().ident or 0


def _imported(node: ast.AST) -> list[str]:
    """Return the modules that a statement imports."""
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""] if not node.level else []
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


def _of_java(module: str) -> bool:
    root = module.partition(".")[0]
    return root in JAVA and PathFinder.find_spec(root) is None


def _interruptible(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function whose Java calls Ctrl-C interrupts."""
    jpype = sys.modules.get("jpype")
    if jpype is None or not jpype.isJVMStarted() or threading.current_thread() is not threading.main_thread():
        return function(*arguments)
    from kirsch.hbase.calls import interrupter

    return interrupter.run(function, arguments)


def _puts(*values: Any) -> None:
    """Print values, and what lists of them have, a line each, as Ruby's puts does."""
    for value in values or ("",):
        if isinstance(value, list):
            _puts(*value)
            continue
        print(value.decode(errors="backslashreplace") if isinstance(value, bytes) else value)


def _each(count: int, value: Any) -> Iterator[Any]:
    """Yield what a Ruby block is given: of rows with two parameters the key, and the values by column."""
    for one in value() if isinstance(value, Bound) else value:
        if count == 2 and isinstance(value, Stream):
            yield shown(one.key), {shown(cell.column): _shown(cell.value) for cell in reversed(one.cells)}
        else:
            yield one


def _upto(first: Any, last: Any, without: bool = False) -> Iterator[Any]:
    """Yield what Ruby's first..last goes through, or first...last `without` the last: numbers or strings."""
    if not isinstance(first, str):
        yield from range(first, last + (not without))
    elif first.isdecimal() and last.isdecimal():
        yield from (str(n).zfill(len(first)) for n in range(int(first), int(last) + (not without)))
    elif first <= last:
        while len(first) <= len(last) and first != last:
            yield first
            first = _successor(first)
        if first == last and not without:
            yield last


def _successor(text: str) -> str:
    """Return the string that follows in Ruby's order: az, ba; Zz, AAa; row-09, row-10."""
    letters = list(text)
    places = [at for at, letter in enumerate(text) if letter.isascii() and letter.isalnum()]
    if not places:
        raise UsageError(f"{text!r} has no successor: it has no letter or digit")
    for at in reversed(places):
        if letters[at] not in "zZ9":
            letters[at] = chr(ord(letters[at]) + 1)
            return "".join(letters)
        letters[at] = {"z": "a", "Z": "A", "9": "0"}[letters[at]]
    first = letters[places[0]]
    letters.insert(places[0], "1" if first == "0" else first)
    return "".join(letters)


def _joined(*parts: Any) -> str | bytes:
    """Join what a Ruby string with #{…} consists of: bytes if a part is, else text."""
    if any(isinstance(part, bytes) for part in parts):
        return b"".join(part if isinstance(part, bytes) else _text(part).encode() for part in parts)
    return "".join(map(_text, parts))


def _text(value: Any) -> str:
    """Return a value as Ruby's to_s has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _shown(value: Any) -> Any:
    """Return bytes as HBase prints them, other values unchanged."""
    return shown(value) if isinstance(value, bytes) else value


def _leave(status: int = DONE) -> None:
    """Leave the shell with an exit status."""
    raise SystemExit(status)


def _python(error: BaseException) -> BaseException:
    """Convert a Java exception of a person's own call."""
    jpype = sys.modules.get("jpype")
    if jpype is not None and isinstance(error, jpype.JException):
        from kirsch.hbase.calls import translated

        return translated(error)
    return error


def _where(error: BaseException) -> str:
    """Return the line of a person's own code that an error came from, if it has several lines."""
    import sysconfig

    # Nobody's own are ours, and libraries'.
    inside = (_INSIDE, *(sysconfig.get_path(path) for path in ("stdlib", "purelib", "platlib")))
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(inside)]
    found = [f for f in frames if f.line]
    if not found:
        return ""
    last = found[-1]
    where = f"{last.filename}, " if not last.filename.startswith("<") else ""
    return f" ({where}line {last.lineno}: {last.line})"


_INSIDE = __file__.rpartition("/shell/")[0]
