"""A WebSocket on a terminal: a line editor, and above its line what comes.

Messages are shown by the thread that reads lines, between two keys: a signal interrupts readline's wait, and
Python calls the handler there. So nothing is drawn while readline draws.
"""

import contextlib
import ctypes
import os
import readline
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any
from unicodedata import combining, east_asian_width

from kirsch.cli.journal import printable
from kirsch.cli.verb import Options
from kirsch.terminal import size
from kirsch.websocket import Closed, Slow
from kirsch.websocket.core.url import Url
from kirsch.websocket.verb.pipe import Client

PROMPT = "> "
NUDGE = signal.SIGUSR1
ENDS = {signal.SIGINT, signal.SIGTERM}
# So many bytes of a binary message are shown.
SHOWN = 256
# readline is being given a line (readline.h).
RL_STATE_CALLBACK = 0x80000
HELP = """\
/ping [TEXT]           ask whether the peer is there
/close [CODE] [REASON] close the connection (1000)
/binary HEX            send bytes
/quit                  close the connection; so do Ctrl-D and Ctrl-C
//TEXT                 send /TEXT"""


class Ended(Exception):
    """No line will come: the connection has ended, or Ctrl-C was typed."""


class Terminal:
    """Lines that are typed, and texts that are shown above them by any thread."""

    def __init__(self) -> None:
        self._waiting: deque[str] = deque()
        # Of all that threads can wait for this alone may be used by a signal's handler at any time.
        self._shown: SimpleQueue[None] = SimpleQueue()
        self._ended = self._over = self._reading = self._drawing = False
        self._readline = _Readline()
        self._main = threading.get_ident()
        signal.signal(NUDGE, self._nudged)
        for end in ENDS:
            signal.signal(end, self._interrupted)
        # Ctrl-C is lost too where readline does not wait just then, but it rings a bell.
        self._ear, bell = os.pipe()
        os.set_blocking(bell, False)
        signal.set_wakeup_fd(bell, warn_on_full_buffer=False)
        threading.Thread(target=self._heed, daemon=True).start()

    def show(self, text: str) -> None:
        """Show a text; returns when it is there, or will be at the end."""
        self._waiting.append(text)
        self._nudge(lambda: self._over or not self._waiting)

    def end(self) -> None:
        """No more lines are wanted: `read` raises Ended."""
        self._ended = True
        self._nudge(lambda: not self._reading)

    def close(self) -> None:
        """Nothing is typed any more: Ctrl-C is what it was."""
        self._ended = self._over = True
        for end in ENDS:
            signal.signal(end, signal.default_int_handler)

    def read(self) -> str:
        """The next line. Raises EOFError, Ended."""
        self._reading = True
        try:
            if self._ended:
                raise Ended
            return input(PROMPT)
        except KeyboardInterrupt:
            raise Ended from None
        except SystemError:
            # What input() makes of Ended if another signal's handler is called behind it.
            if not self._over:
                raise
            raise Ended from None
        finally:
            self._reading = False
            self._draw()

    def _nudge(self, done: Callable[[], bool]) -> None:
        if threading.get_ident() == self._main:
            self._draw()
            return
        patience = 0.001
        while not done():
            # It is lost where readline is busy with a key.
            signal.pthread_kill(self._main, NUDGE)
            with contextlib.suppress(Empty):
                self._shown.get(timeout=patience)
            patience = min(2 * patience, 0.1)

    def _heed(self) -> None:
        while signals := os.read(self._ear, 64):
            if not ENDS.isdisjoint(signals) and not self._over:
                self._nudge(lambda: not self._reading)

    def _interrupted(self, *_: object) -> None:
        self._ended = True
        self._nudged()

    def _nudged(self, *_: object) -> None:
        if self._drawing or self._over:
            # What this has interrupted looks once more.
            return
        self._draw()
        if self._ended and self._reading:
            self._over = True
            raise Ended

    def _draw(self) -> None:
        self._drawing = True
        while self._waiting:
            texts = []
            while self._waiting:
                texts.append(self._waiting.popleft() + "\n")
            # A print that this interrupts has a buffer that is not to be touched.
            above = self._readline.erase() if self._reading else ""
            _write(above + "".join(texts))
            if self._reading:
                self._readline.redraw()
        self._shown.put(None)
        self._drawing = False


class _Readline:
    """State of GNU readline that Python's module does not give: whether a line is read, and its cursor."""

    def __init__(self) -> None:
        self._library: Any = None
        with contextlib.suppress(OSError, ValueError, AttributeError):
            library = ctypes.CDLL(readline.__file__)
            self._state = ctypes.c_ulong.in_dll(library, "rl_readline_state")
            self._point = ctypes.c_int.in_dll(library, "rl_point")
            library.rl_on_new_line, library.rl_redisplay  # noqa: B018
            self._library = library

    @property
    def reads(self) -> bool:
        """True while the prompt is shown."""
        return self._library is None or bool(self._state.value & RL_STATE_CALLBACK)

    def erase(self) -> str:
        """Return the control sequence that goes to the line's beginning and erases it."""
        if not self.reads:
            return ""
        line = readline.get_line_buffer()
        if self._library is not None:
            line = line.encode()[: self._point.value].decode(errors="ignore")
        rows = _width(PROMPT + line) // size(sys.stdout).columns
        return (f"\x1b[{rows}A" if rows else "") + "\r\x1b[J"

    def redraw(self) -> None:
        if self._library is None:
            _write(PROMPT + readline.get_line_buffer())
        elif self.reads:
            self._library.rl_on_new_line()
            self._library.rl_redisplay()


def talk(ws: Client, url: Url, options: Options) -> int:
    """Lines are sent, and what comes is shown, until one side closes."""
    terminal = Terminal()
    chosen = f", subprotocol {ws.subprotocol}" if ws.subprotocol else ""
    terminal.show(f"connected to {url}{chosen}; Ctrl-D closes, /help says what else there is")
    pinged: dict[bytes, float] = {}

    def ponged(data: bytes) -> None:
        if data in pinged:
            trip = (time.perf_counter() - pinged.pop(data)) * 1000
            terminal.show(
                f"pong{' ' if data else ''}{_shown(data.decode(errors='replace'))} in {trip:.3f} ms"
            )

    ws.ponged = ponged  # type: ignore[method-assign]
    listener = threading.Thread(target=_listen, args=(ws, terminal), daemon=True)
    listener.start()
    try:
        while True:
            try:
                if not _obey(ws, terminal, pinged, terminal.read()):
                    break
            except (ValueError, Slow) as error:
                terminal.show(str(error))
    except EOFError:
        _write("\n")
    except (Ended, Closed):
        _write("\r\x1b[J")
    terminal.close()
    ws.close()
    listener.join(ws.limits.close_timeout)
    if ws.outcome is not None and ws.well:
        terminal.show(_shown(f"closed: {ws.outcome[0]} {ws.outcome[1]}".rstrip()))
    return 0


def _listen(ws: Client, terminal: Terminal) -> None:
    try:
        for message in ws:
            terminal.show(_message(message))
    except Closed:
        pass
    ws.wait_closed(ws.limits.close_timeout)
    terminal.end()


def _obey(ws: Client, terminal: Terminal, pinged: dict[bytes, float], text: str) -> bool:
    """Send a line, or do what it says; whether to go on. Raises Closed, Slow, ValueError."""
    if not text.startswith("/") or text.startswith("//"):
        ws.send(text[1:] if text.startswith("//") else text)
        return True
    command, _, rest = text[1:].partition(" ")
    match command:
        case "ping":
            data = rest.encode() or str(len(pinged) + 1).encode()
            pinged[data] = time.perf_counter()
            ws.ping(data)
        case "close":
            code, _, reason = rest.strip().partition(" ")
            if code and not code.isdecimal():
                code, reason = "1000", rest.strip()
            ws.close(int(code or 1000), reason)
            ws.chosen = int(code or 1000)
            return False
        case "binary":
            ws.send(_bytes(rest))
        case "quit" | "exit" | "q":
            return False
        case "help" | "?":
            terminal.show(HELP)
        case _:
            terminal.show(f"there is no /{command}: /help says what there is, //… sends a line with /")
    return True


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ValueError("/binary is followed by hexadecimal digits: /binary 00 ff") from None


def _message(message: str | bytes | memoryview) -> str:
    """A message as it is shown: nothing in it moves the cursor."""
    if isinstance(message, str):
        return f"< {_shown(message)}"
    more = "…" if len(message) > SHOWN else ""
    return f"< {len(message)} bytes: {bytes(message[:SHOWN]).hex(' ')}{more}"


def _shown(text: str) -> str:
    return "\n  ".join(printable(line) for line in text.split("\n"))


def _width(text: str) -> int:
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def _write(text: str) -> None:
    data = text.encode(errors="replace")
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]
