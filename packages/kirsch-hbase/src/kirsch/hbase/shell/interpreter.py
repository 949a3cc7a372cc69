"""Runs what is typed: both forms, statement after statement, with errors that are a line."""

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
from _thread import start_new_thread
from collections.abc import Callable, Mapping
from importlib.machinery import PathFinder
from typing import Any, TypeVar

from kirsch.hbase.errors import HBaseError
from kirsch.hbase.shell import spaced
from kirsch.hbase.shell.answer import Stream
from kirsch.hbase.shell.command import Bound, CommandError, UsageError, bound, commands
from kirsch.hbase.shell.constants import CONSTANTS
from kirsch.hbase.shell.help import help_of
from kirsch.hbase.shell.output import Output
from kirsch.hbase.shell.session import Session
from kirsch.hbase.shell.table import METHODS, ShellTable

T = TypeVar("T")
DONE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130
# Where packages of Java's begin; of these names Python's own come first.
JAVA = ("java", "javax", "org", "com", "net", "edu", "gov", "mil")
# Seconds after which Ctrl-C is heard again: a finalizer takes less.
AGAIN = 0.02


class Interpreter:
    """A namespace with all commands, and what runs code in it."""

    def __init__(self, session: Session, output: Output, names: dict[str, Any] | None = None) -> None:
        self.session = session
        self.output = output
        self._lazy: dict[str, Callable[[], Any]] = {
            "connection": lambda: session.connection,
            "admin": lambda: session.connection.admin,
            "org": lambda: self._package("org"),
            "java": lambda: self._java(),
        }
        self._words = {
            "help": self.help,
            "exit": _leave,
            "quit": _leave,
            "debug": self.debug,
            "table": self.table,
        }
        self._ours: dict[str, Any] = {**dict(bound(session)), **self._words}
        self.namespace: dict[str, Any] = {
            "__name__": "__main__",
            "__builtins__": builtins,
            **CONSTANTS,
            **self._ours,
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
        """kirsch.hbase's Table."""
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
        """What is there once it is named; it may have to wait for the connection."""
        return self._lazy

    def known(self, name: str, method: str) -> bool:
        """Whether a name is a command's still, or a table's whose command the method is."""
        value = self.namespace.get(name)
        if method:
            return method in METHODS and isinstance(value, ShellTable)
        return isinstance(value, Bound) or (name in self._words and value == self._words[name])

    def complete(self, source: str) -> bool:
        """Whether what is typed can be run, or never will be; more lines are awaited otherwise."""
        try:
            translated = spaced.translate(source, self.known)
        except spaced.Incomplete:
            return False
        except spaced.SpacedError:
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
        """Run it, to its first error, which is shown; the exit status."""
        try:
            with _Heard():
                return self._read_and_run(source, name)
        except KeyboardInterrupt:
            # It may come between two statements too, and while what Java says of it is being told.
            self.session.progress.clear()
            # The terminal has written ^C into this line.
            self._say("\ninterrupted" if self.output.interactive else "interrupted")
            return INTERRUPTED

    def _read_and_run(self, source: str, name: str) -> int:
        try:
            translated = spaced.translate(source, self.known)
            tree = ast.parse(translated, name)
        except spaced.SpacedError as error:
            return self._mistake(source, str(error), error.line, error.column)
        except SyntaxError as error:
            return self._mistake(source, self._syntax(source, error), error.lineno or 1, error.offset or 0)
        except (ValueError, RecursionError, MemoryError) as error:
            return self._failed(error, MISUSED)
        linecache.cache[name] = (len(translated), None, translated.splitlines(True), name)
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
        """Run a statement, and show its value; what is to be said behind it."""
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
        """Makes what needs a connection once it is named; classes can be imported once Java runs."""
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
        """Of `scan t1`, what is missing."""
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
        from kirsch.hbase.shell.render import RED, paint

        sys.stdout.flush()
        prefix = "" if self.output.interactive else "kirsch: "
        print(paint(prefix + message, RED, self.output.colour and self.output.interactive), file=sys.stderr)


def _cut_short(error: BaseException | None) -> bool:
    """Whether it is what Java says of Ctrl-C, in what is done after it, such as the end of a `with`."""
    if not isinstance(error, HBaseError):
        return False
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


class _Heard:
    """In a finalizer (__del__, a weakref's callback, a generator that is forgotten) Python drops what is
    raised, KeyboardInterrupt too: then the main thread is told of Ctrl-C once more, when that is over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._over = False

    def __enter__(self) -> None:
        self._before, sys.unraisablehook = sys.unraisablehook, self._dropped

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._over = True
        sys.unraisablehook = self._before

    def _dropped(self, what: "sys.UnraisableHookArgs") -> None:
        if issubclass(what.exc_type, KeyboardInterrupt):
            # Not a threading.Thread: its locks may be held by what the finalizer came upon.
            start_new_thread(self._again, ())
        else:
            self._before(what)

    def _again(self) -> None:
        time.sleep(AGAIN)
        with self._lock:
            if not self._over:
                signal.pthread_kill(_MAIN, signal.SIGINT)


_MAIN = threading.main_thread().ident or 0


def _imported(node: ast.AST) -> list[str]:
    """The modules that a statement imports."""
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""] if not node.level else []
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


def _of_java(module: str) -> bool:
    root = module.partition(".")[0]
    return root in JAVA and PathFinder.find_spec(root) is None


def _interruptible(function: Callable[..., T], *arguments: Any) -> T:
    """Call it so that Ctrl-C ends what it calls of Java, too."""
    jpype = sys.modules.get("jpype")
    if jpype is None or not jpype.isJVMStarted() or threading.current_thread() is not threading.main_thread():
        return function(*arguments)
    from kirsch.hbase.calls import interrupter

    return interrupter.run(function, arguments)


def _leave(status: int = DONE) -> None:
    """Leave the shell."""
    raise SystemExit(status)


def _python(error: BaseException) -> BaseException:
    """A Java exception that somebody's own call of Java raised, as ours."""
    jpype = sys.modules.get("jpype")
    if jpype is not None and isinstance(error, jpype.JException):
        from kirsch.hbase.calls import translated

        return translated(error)
    return error


def _where(error: BaseException) -> str:
    """The line of a person's own code that an error came from, if it is more than a line long."""
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
