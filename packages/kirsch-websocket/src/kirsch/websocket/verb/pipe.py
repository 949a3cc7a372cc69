"""A WebSocket in a pipe: lines of standard input go out as messages, messages come as lines."""

import json
import os
import stat
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from kirsch.cli.errors import Failure
from kirsch.cli.verb import Options
from kirsch.websocket import Closed, Slow
from kirsch.websocket.core.frame import GOING_AWAY, NO_CODE, NORMAL
from kirsch.websocket.core.url import Url
from kirsch.websocket.threaded import Connection

INPUT = 0
# Once all is sent, so much silence is the end.
QUIET = 1.0
READ = 256 << 10

WELL = (NORMAL, GOING_AWAY, NO_CODE)


class Client(Connection):
    """Connection with its `outcome`, close code and reason, and the close code a person has `chosen`."""

    outcome: tuple[int, str] | None = None
    chosen: int | None = None

    @property
    def well(self) -> bool:
        """True if the connection was closed normally, or as the person asked."""
        return self.outcome is not None and self.outcome[0] in (*WELL, self.chosen)

    def closed(self, code: int, reason: str) -> None:
        self.outcome = (code, reason)


def pipe(ws: Client, url: Url, options: Options) -> int:
    """Send what comes on standard input, print what comes from the peer."""
    wanted = 1 if options.one else options.exit_after
    quiet = options.timeout or (None if options.listen or wanted else QUIET)
    feeder = Feeder(ws, options.binary, quiet)
    feeder.start()
    came = 0
    try:
        for message in ws:
            feeder.printing = True
            write(message, options)
            feeder.printing, feeder.last = False, time.monotonic()
            came += 1
            if came == wanted:
                break
    except Closed:
        pass  # `ws` knows why
    ws.close()
    ws.wait_closed(ws.limits.close_timeout)
    if feeder.trouble:
        raise Failure(feeder.trouble)
    if wanted and came < wanted and ws.well:
        raise Failure(
            f"{came} of {wanted} messages came" + (f" within {quiet:g} s" if feeder.gave_up else "")
        )
    return 0


class Feeder(threading.Thread):
    """Sends standard input, and closes the connection when all is sent and nothing comes any more.

    Attributes:
        last: when something came. printing: it is being printed.
        gave_up: whether this has closed the connection. trouble: what was wrong with the input.
    """

    def __init__(self, ws: Client, binary: bool, quiet: float | None) -> None:
        super().__init__(daemon=True)
        self.last = 0.0
        self.printing = self.gave_up = False
        self.trouble = ""
        self._ws, self._binary, self._quiet = ws, binary, quiet

    def run(self) -> None:
        try:
            self._binary_message() if self._binary else self._lines()
            self.last = max(self.last, time.monotonic())
            if self._quiet is not None and not self.trouble:
                self._wait(self._quiet)
                self.gave_up = True
        except Closed:
            return
        if self.trouble or self.gave_up:
            self._ws.close()

    def _lines(self) -> None:
        for number, each in enumerate(lines(), 1):
            try:
                self._send(each.decode())
            except UnicodeDecodeError:
                self.trouble = f"line {number} of standard input is not UTF-8: --binary sends bytes"
                return

    def _binary_message(self) -> None:
        # A file is sent piece by piece; a pipe may keep us waiting, which the connection must not.
        try:
            regular = stat.S_ISREG(os.fstat(INPUT).st_mode)
        except OSError:
            regular = False
        self._send(chunks() if regular else b"".join(chunks()))

    def _send(self, message: str | bytes | Iterator[bytes]) -> None:
        while True:
            try:
                self._ws.send(message)
                return
            except Slow:
                self._ws.drain()

    def _wait(self, quiet: float) -> None:
        """Until nothing has gone out or come for so many seconds."""
        ws = self._ws
        while (left := self.last + quiet - time.monotonic()) > 0 or ws.buffered or self.printing:
            if ws.outcome is not None:
                return
            time.sleep(max(min(left, quiet), 0.01))


def chunks() -> Iterator[bytes]:
    """Standard input as it comes; without Python's buffer, whose lock a thread would keep at the exit."""
    try:
        while data := os.read(INPUT, READ):
            yield data
    except OSError:
        return


def lines() -> Iterator[bytes]:
    """Standard input's lines, without their ends."""
    # In pieces: a line may be of any length.
    rest: list[bytes] = []
    for data in chunks():
        first, *others = data.split(b"\n")
        rest.append(first)
        for other in others:
            yield b"".join(rest)
            rest = [other]
    if last := b"".join(rest):
        yield last


def write(message: str | bytes | memoryview, options: Options) -> None:
    """A message on standard output: a line, hexadecimal where it is binary; with --binary just its bytes."""
    if options.json:
        print(line({"text": message} if isinstance(message, str) else {"binary": message.hex()}), flush=True)
        return
    out = sys.stdout.buffer
    if isinstance(message, str):
        out.write(message.encode() if options.binary else message.encode() + b"\n")
    elif options.binary and not sys.stdout.isatty():
        out.write(message)
    else:
        out.write(message.hex().encode() + b"\n")
    out.flush()


def line(value: dict[str, Any]) -> str:
    """A line of JSON."""
    return json.dumps(value, ensure_ascii=False)
