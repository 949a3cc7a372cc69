"""A line on the terminal that says what is being done, once it takes longer than people like."""

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from kirsch.hbase.shell.command import Command, CommandError

PATIENCE = 1.0
INTERVAL = 0.2


class Progress:
    """Progress line such as `count: 120,000 rows, 3 s`; without a terminal (None) there is none."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._depth = 0
        self._detail = ""
        self._shown = False

    def say(self, detail: str) -> None:
        """Set the detail to show; cheap enough to call often."""
        self._detail = detail

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        """Show progress while the block runs, from the first second on."""
        if self._stream is None or self._depth:
            yield
            return
        self._detail = ""
        over = threading.Event()
        thread = threading.Thread(target=self._show, args=(what, over, time.monotonic()), daemon=True)
        self._depth += 1
        try:
            # Ctrl-C may come here, too: the line must not stay for that.
            thread.start()
            yield
        finally:
            self._depth -= 1
            over.set()
            if thread.is_alive():
                thread.join()
            self.clear()

    def clear(self) -> None:
        """Remove the progress line from the terminal."""
        with self._lock:
            if self._shown and self._stream is not None:
                self._stream.write("\r\x1b[K")
                self._stream.flush()
                self._shown = False

    def _show(self, what: str, over: threading.Event, began: float) -> None:
        delay = PATIENCE
        while not over.wait(delay):
            delay = INTERVAL
            with self._lock:
                if over.is_set() or self._stream is None:
                    return
                detail = f" {self._detail}," if self._detail else ""
                self._stream.write(f"\r\x1b[K{what}:{detail} {time.monotonic() - began:.0f} s")
                self._stream.flush()
                self._shown = True


# Seconds: Java starts in one or two, and who does not answer is given up after some more.
LEAVING = 20.0
_STAMP = re.compile(r"^[^,:\s]+[,:]\d+([,:]\d+)?$")


class Session:
    """State of a shell that commands work with.

    The connection is made in a thread of its own, and waited for when it is needed. `confirm` asks a person
    whether to go on; without a terminal the answer is yes.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        *,
        progress: Progress | None = None,
        confirm: Callable[[str], bool] = lambda question: True,
    ) -> None:
        self.progress = progress or Progress(None)
        self.confirm = confirm
        # Prints a line that a command tells before its value.
        self.say: Callable[[str], None] = lambda line: None
        self.debug = False
        self.spans: list[Any] = []
        self.last: Command | None = None
        self._connect = connect
        self._done = threading.Event()
        self._made: Any = None
        self._failed: BaseException | None = None
        self._thread: threading.Thread | None = None

    # The connection

    def begin(self) -> None:
        """Begin to connect; returns at once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._connecting, name="hbase-connect", daemon=True)
            self._thread.start()

    def _connecting(self) -> None:
        try:
            self._made = self._connect()
        except BaseException as error:
            self._failed = error
        finally:
            self._done.set()

    @property
    def ready(self) -> bool:
        """Return whether the connection is made, so that using it does not wait."""
        return self._done.is_set() and self._failed is None

    @property
    def connection(self) -> Any:
        """Return the connection. Raises what connecting raised; the next use connects again."""
        self.begin()
        while not self._done.wait(0.2):
            pass  # so that Ctrl-C is heard
        if self._failed is not None:
            failed, self._failed, self._thread = self._failed, None, None
            self._done.clear()
            raise failed
        return self._made

    def close(self) -> None:
        """Close the connection, if there is one; wait for one that is being made, for LEAVING seconds."""
        if self._thread is not None:
            # Python is not to end while a thread starts Java: the process would be killed by a signal.
            self._done.wait(LEAVING)
        if self.ready:
            made, self._made = self._made, None
            self._done.clear()
            self._thread = None
            made.close()

    # Commands

    def run(self, command: Command, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
        """Run a command. Raises UsageError, CommandError, HBaseError."""
        self.last = command
        with self.progress.of(command.name):
            return command.call(self, arguments, options)

    def call(self, method: Any, *arguments: Any) -> Any:
        """Call a Java method, so that Ctrl-C ends it. Raises HBaseError."""
        return self.connection.call(method, *arguments)

    @property
    def admin(self) -> Any:
        """Return the connection's Admin."""
        return self.connection.admin

    def table(self, name: str) -> Any:
        """Return a table for a variable."""
        from kirsch.hbase.shell.command import ShellTable

        return ShellTable(self, name)

    def wait(self, done: Callable[[], bool], *, seconds: float, what: str) -> None:
        """Wait until `done()`. Raises CommandError after `seconds`."""
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                raise CommandError(f"{what} is not done after {seconds:g} s; it goes on without us")
            time.sleep(0.05)

    # Java's values

    def java(self, name: str) -> Any:
        """Return a class by its name below org.apache.hadoop.hbase, or by its full name."""
        from kirsch.hbase import jvm

        _ = self.connection
        return jvm.cls(name if name.startswith(("java.", "org.")) else f"org.apache.hadoop.hbase.{name}")

    def bytes(self, value: Any) -> Any:
        """Return a Java byte[] of a text, bytes or number."""
        return java_bytes(data(value))

    def strings(self, values: Any, what: str = "a name") -> Any:
        """Return a Java List<String> of a name or names."""
        made = self.java("java.util.ArrayList")()
        for value in many(values):
            made.add(text(value, what))
        return made

    def pattern(self, regex: Any) -> Any:
        """Return a java.util.regex.Pattern. Raises HBaseError."""
        return self.call(self.java("java.util.regex.Pattern").compile, text(regex, "a pattern"))

    def enum(self, name: str, value: Any) -> Any:
        """Return a value of an enum by its name in any case. Raises CommandError with the values there
        are."""
        values = {str(v.name()): v for v in self.java(name).values()}
        given = str(value).upper()
        if given not in values:
            raise CommandError(f"{value} is none of {', '.join(values)}")
        return values[given]

    def server(self, name: Any) -> str:
        """Return a live region server by HOST,PORT,START, HOST:PORT, or HOST where it runs only one. Raises
        CommandError with those there are."""
        given = text(name, "a server's name")
        there = self.admin.cluster.live()
        wanted = given.replace(":", ",")
        found = [server for server in there if f"{server},".startswith(f"{wanted},")]
        if len(found) == 1:
            return str(found[0])
        if not found and given.count(",") == 2:
            return given
        raise CommandError(
            f"{given} is {'no' if not found else 'more than one'} region server; "
            f"there are: {', '.join(there) or 'none'}"
        )

    def servers(self, names: Any) -> list[str]:
        """Return region servers; all live ones where none is named, or '*' or 'all'."""
        if not names or names in ("*", "all"):
            return list(self.admin.cluster.live())
        return [self.server(name) for name in many(names)]


def table_name(name: Any) -> str:
    """Return a table's name that a person types, without `default:` before it. Raises Invalid."""
    from kirsch.hbase import names

    return names.table_name(text(name, "a table's name"))


def data(value: Any) -> bytes:
    """Return the bytes of what a person types: text in UTF-8, a number's digits. Raises CommandError."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, int | float):
        return str(value).encode()
    if hasattr(value, "getClass") and str(value.getClass().getName()) == "[B":
        return bytes(value)
    raise CommandError(f"{value!r} is {type(value).__name__}; text, bytes or a number is needed")


def family_text(value: Any) -> str:
    """Return a family's name that a person types; bytes that are no text stay so by surrogates (PEP 383)."""
    return data(value).decode(errors="surrogateescape")


def text(value: Any, what: str = "a name") -> str:
    """Return the text of what a person types. Raises CommandError."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise CommandError(f"{what} is text, and {value!r} is not") from None
    if isinstance(value, str):
        return str(value)
    if value is None or isinstance(value, dict | list | tuple | set) or callable(value):
        raise CommandError(f"{what} is text, and {value!r} is {type(value).__name__}: put it in quotes")
    return str(value)


def many(values: Any) -> list[Any]:
    """Return one or many as a list."""
    if values is None:
        return []
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        return [values]
    return list(values)


def java_bytes(value: bytes) -> Any:
    """Return a Java byte[]."""
    import jpype

    return jpype.JArray(jpype.JByte)(value)


def python_bytes(array: Any) -> bytes:
    """Return the bytes of a Java byte[]; null has none."""
    return b"" if array is None else bytes(memoryview(array).cast("B")) if len(array) else b""


def shown(value: bytes) -> str:
    """Bytes as HBase prints them, Bytes.toStringBinary: what is not printable ASCII as \\xNN, and \\ too.

    UTF-8 text of other scripts is left as it is: people read it.
    """
    try:
        decoded = value.decode()
    except UnicodeDecodeError:
        return "".join(chr(b) if 32 <= b < 127 and b != 92 else f"\\x{b:02X}" for b in value)
    printed = (
        c if c.isprintable() and c != "\\" else "".join(f"\\x{b:02X}" for b in c.encode()) for c in decoded
    )
    return "".join(printed)
