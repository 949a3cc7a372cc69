"""A WebSocket on a terminal: a line editor, and above its line what comes.

All that is drawn is drawn by the event loop of the main thread; messages are read by another thread, commands
carried out by a third, so that neither holds up a key.
"""

import asyncio
import signal
import threading
import time
from collections import deque

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal

from kirsch.cli.journal import printable
from kirsch.cli.verb import Options
from kirsch.websocket import Closed, Slow
from kirsch.websocket.core.url import Url
from kirsch.websocket.verb.pipe import Client

PROMPT = "> "
# So many bytes of a binary message are shown.
SHOWN = 256
# So many texts may wait to be drawn; their thread waits with the next.
WAITING = 100
HELP = """\
/ping [TEXT]           ask whether the peer is there
/close [CODE] [REASON] close the connection (1000)
/binary HEX            send bytes
/quit                  close the connection; so do Ctrl-D and Ctrl-C
//TEXT                 send /TEXT"""


class Ended(Exception):
    """No line will come: the connection has ended, or Ctrl-C was typed."""


class Terminal:
    """Lines that are typed, and texts that are shown above them by any thread. Made where the loop runs."""

    def __init__(self) -> None:
        self._session: PromptSession[str] = PromptSession(PROMPT)
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[str] = deque()
        self._ended = False
        # Else a key that is typed between two prompts would be echoed, and Ctrl-D be the end of all input.
        self._raw = self._session.input.raw_mode()
        self._raw.__enter__()

    def show(self, text: str) -> None:
        """Show a text, from another thread than the loop's."""
        self._waiting.append(text)
        drawn = asyncio.run_coroutine_threadsafe(self.draw(), self._loop)
        if len(self._waiting) > WAITING:
            drawn.result()

    def end(self) -> None:
        """No more lines are wanted: `read` raises Ended."""
        self._loop.call_soon_threadsafe(self._end)

    def close(self) -> None:
        """Give the terminal back as it was."""
        self._raw.__exit__(None, None, None)

    async def read(self) -> str:
        """Return the next line. Raises EOFError, Ended."""
        if self._ended:
            raise Ended
        try:
            return await self._session.prompt_async(pre_run=self._begin)
        except KeyboardInterrupt:
            raise Ended from None

    async def draw(self) -> None:
        """Print the lines that wait above the prompt."""
        if self._waiting:
            await run_in_terminal(self._print)

    def _print(self) -> None:
        while self._waiting:
            print(self._waiting.popleft(), flush=not self._waiting)

    def _begin(self) -> None:
        if self._ended:
            self._end()

    def _end(self) -> None:
        self._ended = True
        application = self._session.app
        if application.is_running and not application.is_done:
            application.erase_when_done = True
            application.exit(exception=Ended())


def talk(ws: Client, url: Url, options: Options) -> int:
    """Send each line, and show what comes, until one side closes."""
    outcome = asyncio.run(_talk(ws, url))
    if outcome:
        print(_shown(outcome))
    return 0


async def _talk(ws: Client, url: Url) -> str:
    """Return what is to be said of a connection that ended well."""
    terminal = Terminal()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminal.end)
    chosen = f", subprotocol {ws.subprotocol}" if ws.subprotocol else ""
    print(f"connected to {url}{chosen}; Ctrl-D closes, /help says what else there is", flush=True)
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
                if not await asyncio.to_thread(_obey, ws, terminal, pinged, await terminal.read()):
                    break
            except (ValueError, Slow) as error:
                print(error, flush=True)
    except (EOFError, Ended, Closed):
        pass
    terminal.close()
    await asyncio.to_thread(ws.close)
    await asyncio.to_thread(listener.join, ws.limits.close_timeout)
    await terminal.draw()
    return f"closed: {ws.outcome[0]} {ws.outcome[1]}".rstrip() if ws.outcome is not None and ws.well else ""


def _listen(ws: Client, terminal: Terminal) -> None:
    try:
        for message in ws:
            terminal.show(_message(message))
    except Closed:
        pass
    ws.wait_closed(ws.limits.close_timeout)
    terminal.end()


def _obey(ws: Client, terminal: Terminal, pinged: dict[bytes, float], text: str) -> bool:
    """Send a line, or do what it says; return False at the end. Raises Closed, Slow, ValueError."""
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
