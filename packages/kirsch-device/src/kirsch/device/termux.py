"""Location of the phone from Termux: the command termux-location of Termux:API.

It prints a JSON object: latitude, longitude, altitude, accuracy, vertical_accuracy, bearing, speed, provider
and elapsedMs, the age in milliseconds; or {"API_ERROR": why}, or {"error": why} where a permission is
missing.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator
from threading import Event, Lock
from typing import Any

from kirsch.device.error import BadAnswer, LocationError, NoFix, PermissionDenied, one_line
from kirsch.device.fixed import CLOSED
from kirsch.device.location import Location, number

COMMAND = "termux-location"
MOST = 64 * 1024  # bytes of an answer
# What is asked one after the other, and which part of the time it has: satellites take longest.
REQUESTS = (("gps", "once", 0.6), ("network", "once", 0.75), ("network", "last", 1.0))
# `last` answers at once, whatever was spent before it, seconds.
PROMPT = 5.0
# By how many seconds the time of one location may differ: it is told as an age.
JITTER = 0.5


class TermuxSource:
    """The location service through Termux:API's command."""

    name = "termux"

    def __init__(self, command: str = COMMAND) -> None:
        self._command = command
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = Lock()
        self._closed = Event()

    def read(self, timeout: float, after: Location | None = None) -> Location:
        """Return the phone's location by satellites, else by networks, else the last known one.

        Raises LocationError.
        """
        deadline = time.monotonic() + timeout
        failure: LocationError = NoFix(f"{COMMAND} has had no location for {timeout:g} s")
        for provider, kind, part in REQUESTS:
            left = deadline - time.monotonic()
            seconds = min(PROMPT, timeout) if kind == "last" else left * part
            if seconds <= 0:
                continue
            try:
                found = self._ask(provider, kind, seconds)
            except NoFix as error:
                failure = error
                continue
            if after is None or found.time > after.time + JITTER:
                return found
        raise failure

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            for process in self._running:
                _kill(process)

    def _ask(self, provider: str, kind: str, seconds: float) -> Location:
        with self._process(provider, kind) as process:
            deadline = time.monotonic() + seconds
            try:
                out, err = _output(process, deadline)
                process.wait(max(0.0, deadline - time.monotonic()))
            except (TimeoutError, subprocess.TimeoutExpired):
                raise NoFix(f"{COMMAND} -p {provider} did not answer within {seconds:.3g} s") from None
        if self._closed.is_set():
            raise LocationError(CLOSED)
        if not out.strip() and process.returncode:
            said = one_line(err.decode("utf-8", "replace")) or f"exit status {process.returncode}"
            raise LocationError(f"{COMMAND} failed: {said}")
        return parse(out, time.time())

    @contextlib.contextmanager
    def _process(self, provider: str, kind: str) -> Iterator["subprocess.Popen[bytes]"]:
        """The command, with all it starts in a group of its own; none of that is left at the end."""
        with self._lock:
            if self._closed.is_set():
                raise LocationError(CLOSED)
            try:
                process = subprocess.Popen(
                    [self._command, "-p", provider, "-r", kind],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
            except OSError as error:
                raise LocationError(
                    f"{self._command} cannot be run ({error.strerror}): pkg install termux-api, and the app "
                    "Termux:API"
                ) from None
            self._running.add(process)
        try:
            yield process
        finally:
            _kill(process)
            with self._lock:
                self._running.discard(process)
            for pipe in (process.stdout, process.stderr):
                assert pipe is not None
                pipe.close()
            process.wait()


def _output(process: "subprocess.Popen[bytes]", deadline: float) -> tuple[bytes, bytes]:
    """All it prints, as output and as errors. Raises TimeoutError; BadAnswer where it is too much."""
    found = {process.stdout: b"", process.stderr: b""}
    with selectors.DefaultSelector() as selector:
        for pipe in found:
            assert pipe is not None
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            if (left := deadline - time.monotonic()) <= 0:
                raise TimeoutError
            for key, _ in selector.select(left):
                read = os.read(key.fd, MOST)
                if not read:
                    selector.unregister(key.fileobj)
                pipe = process.stdout if key.fileobj is process.stdout else process.stderr
                found[pipe] += read
                if len(found[pipe]) > MOST:
                    raise BadAnswer(f"{COMMAND} printed more than {MOST:,} bytes")
    return found[process.stdout], found[process.stderr]


def parse(out: bytes, now: float) -> Location:
    """Parse the command's output of the time `now`. Raises LocationError."""
    if not out.strip():
        raise NoFix(f"{COMMAND} printed nothing: is the app Termux:API installed, is the location on?")
    try:
        fields = json.loads(out)
    except (ValueError, RecursionError):
        raise BadAnswer(
            f"{COMMAND} printed what is not JSON: {one_line(out.decode('utf-8', 'replace'), 60)}"
        ) from None
    if not isinstance(fields, dict):
        raise BadAnswer(f"{COMMAND} printed no JSON object")
    for name in ("API_ERROR", "error"):
        if name in fields:
            raise _failure(one_line(fields[name]))
    elapsed = number("elapsedMs", fields.get("elapsedMs")) or 0.0
    return Location.read(fields, source=TermuxSource.name, time=now - max(0.0, elapsed / 1000))


def _failure(said: str) -> LocationError:
    if "permission" in said.lower():
        return PermissionDenied(
            f"Termux:API may not use the location: allow it in Android's settings ({said})"
        )
    return NoFix(f"{COMMAND}: {said}")


def _kill(process: "subprocess.Popen[Any]") -> None:
    """End the command and what it started; its group is there as long as it has not been waited for."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
