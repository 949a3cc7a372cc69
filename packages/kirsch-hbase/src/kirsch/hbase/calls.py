"""Calls into Java that Ctrl-C interrupts, and that raise Python's errors in place of Java's.

Python handles signals between bytecodes of the main thread, which would be late while that thread is in Java.
So during a call signals are written to a pipe too (signal.set_wakeup_fd), and a thread that reads it
interrupts the Java thread: the call ends, and KeyboardInterrupt follows. This costs a call about a
microsecond.
"""

import atexit
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import jpype

from kirsch.hbase.errors import BatchError, HBaseError, OtherJVM, Unavailable, from_chain
from kirsch.hbase.jvm import check_fork, cls

T = TypeVar("T")
# How long a chain of causes is followed.
_DEPTH = 12
# Seconds behind its deadline at which a call is interrupted, for Java's own error says more; from one look at
# its thread to the next; and at which it is interrupted though its thread runs. So each operation ends within
# a second of its timeout.
GRACE, AGAIN, RUNNING = 0.6, 0.1, 0.8
# Seconds that the end of Python waits for calls that are under way.
_JOIN = 2.0
# A call is over only once nobody is about to interrupt it: else the thread's next one would be.
_interrupting = threading.Lock()


class _Own(threading.local):
    _java: Any = None

    def java(self) -> Any:
        """Return the java.lang.Thread of this thread."""
        if self._java is None:
            self._java = cls("java.lang.Thread").currentThread()
        return self._java


_own = _Own()


class Pending(Generic[T]):
    """A Java call in another thread, and its result."""

    __slots__ = ("_begun", "_done", "_error", "_function", "_thread", "_value", "cancelled")

    def __init__(self, function: Callable[[], T]) -> None:
        self._function: Callable[[], T] | None = function
        self._begun, self._done = threading.Lock(), threading.Lock()
        self._begun.acquire()
        self._done.acquire()
        self._value: T | None = None
        self._error: BaseException | None = None
        self._thread: Any = None
        self.cancelled = False

    def run(self) -> None:
        """Run the call, in its thread; `finish` comes next."""
        function, self._function = self._function, None
        try:
            try:
                self._thread = _own.java()
            finally:
                self._begun.release()
            assert function is not None
            self._value = function()
        except BaseException as error:
            self._error = error
        finally:
            with _interrupting:
                self._thread = None

    def finish(self) -> None:
        """Wake the threads that wait for the result."""
        self._done.release()

    def handed_over(self) -> None:
        """Wait until the call has begun. Until then its thread needs the interpreter lock, which the caller
        would hold for milliseconds; afterwards it is in Java, if Java is what it calls first."""
        with self._begun:
            pass

    def result(self, timeout: float | None = None) -> T:
        """Return what the call returned, or raise what it raised; TimeoutError after `timeout` seconds.
        KeyboardInterrupt ends the wait at once and interrupts the Java call."""
        try:
            finished = self._done.acquire(timeout=-1 if timeout is None else timeout)
        except BaseException:
            self.cancel()
            raise
        if not finished:
            self.cancel()
            raise TimeoutError
        self._done.release()
        error, self._error = self._error, None
        if error is not None:
            raise error
        value: Any = self._value
        return value  # type: ignore[no-any-return]

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the call is done, whatever its outcome, or until `timeout` seconds have passed."""
        if self._done.acquire(timeout=-1 if timeout is None else timeout):
            self._done.release()

    def cancel(self) -> None:
        """Interrupt the Java call, if it has begun and is not done."""
        with _interrupting:
            if self._thread is not None:
                self.cancelled = True
                self._thread.interrupt()


class Workers:
    """Threads for Java calls: as many as there are calls at the same time, kept for the next ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[Pending[Any] | None]] = []
        self._busy: set[Pending[Any]] = set()
        self._threads: list[threading.Thread] = []

    def submit(self, function: Callable[[], T]) -> Pending[T]:
        """Begin a call in a thread of its own."""
        pending = Pending(function)
        with self._lock:
            queue = self._idle.pop() if self._idle else None
            self._busy.add(pending)
        if queue is None:
            queue = SimpleQueue()
            # A daemon: a call that Java does not let go of must not keep Python from ending.
            thread = threading.Thread(target=self._serve, args=(queue,), name="kirsch-hbase", daemon=True)
            self._threads.append(thread)
            thread.start()
        queue.put(pending)
        return pending

    def _serve(self, queue: "SimpleQueue[Pending[Any] | None]") -> None:
        while (pending := queue.get()) is not None:
            pending.run()
            if pending.cancelled:
                # An interrupt that came too late is not the next call's.
                cls("java.lang.Thread").interrupted()
            # Before anybody hears that it is done: what they begin next is for this thread.
            with self._lock:
                self._busy.discard(pending)
                self._idle.append(queue)
            pending.finish()
            del pending

    def end(self) -> None:
        """Stop the threads before the interpreter exits: a thread that returned from Java later would abort
        the process."""
        with self._lock:
            idle, self._idle = self._idle, []
            busy = list(self._busy)
        for pending in busy:
            pending.cancel()
        for queue in idle:
            queue.put(None)
        for pending in busy:
            pending.wait(_JOIN)
        with self._lock:
            idle, self._idle = self._idle, []
        for queue in idle:
            queue.put(None)
        for thread in self._threads:
            thread.join(_JOIN)


class Interrupter:
    """Interrupter of the main thread's Java call on SIGINT; `java` returns java.lang.Thread."""

    def __init__(self, java: Callable[[], Any] = lambda: cls("java.lang.Thread")) -> None:
        self._java = java
        self._lock = threading.Lock()
        self._writing = -1
        self._previous = -1
        self._calling = False
        self._interrupted = False
        self._main: Any = None

    def run(self, function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        """Run a call in the main thread."""
        if self._writing < 0 or self._calling:
            if self._calling:
                return function(*arguments)  # Java has called Python, which calls Java
            self._start()
        previous = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        if previous != self._writing:
            # Else the call before was left between two bytecodes, and it is known already.
            self._previous = previous
        self._calling = True
        late = False
        # KeyboardInterrupt may be raised after any call of these: what follows it is done all the same.
        try:
            return function(*arguments)
        finally:
            try:
                with self._lock:
                    self._calling = False
                    late, self._interrupted = self._interrupted, False
            finally:
                try:
                    signal.set_wakeup_fd(self._previous, warn_on_full_buffer=False)
                finally:
                    if late:
                        # It may have come when the call was over.
                        self._java().interrupted()

    def _start(self) -> None:
        self._main = self._java().currentThread()
        reading, writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(writing, False)
        threading.Thread(
            target=self._watch, args=(reading,), name="kirsch-hbase-signals", daemon=True
        ).start()
        os.register_at_fork(after_in_child=self._forget)
        # Last: if Ctrl-C comes before this it is begun anew, else nobody might read what is told.
        self._writing = writing

    def _watch(self, reading: int) -> None:
        while data := os.read(reading, 512):
            if self._previous >= 0:
                # Whoever was told before, such as asyncio, is told too.
                try:
                    os.write(self._previous, data)
                except OSError:
                    pass
            if signal.SIGINT in data and callable(signal.getsignal(signal.SIGINT)):
                with self._lock:
                    if self._calling:
                        self._interrupted = True
                        self._main.interrupt()

    def _forget(self) -> None:
        self._writing = -1

    def end(self) -> None:
        """Stop reading signals, before the interpreter exits."""
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1


@dataclass(slots=True)
class Watched:
    """A call with its deadline (monotonic seconds); `again` is when its thread is looked at next. Pure."""

    deadline: float
    thread: Any
    again: float = 0.0
    interrupted: bool = False

    def __post_init__(self) -> None:
        self.again = self.deadline + GRACE

    def look(self, now: float, runs: bool) -> bool:
        """Return whether to interrupt the thread, which runs or waits, and set the time of the next look."""
        last = self.deadline + RUNNING
        self.again = min(now + AGAIN, last) if now < last else now + AGAIN
        if runs and now < last:
            return False
        self.interrupted = True
        return True


class Deadlines:
    """Watch that interrupts Java calls behind their deadlines; one thread for all calls.

    HBase's client bounds most waits itself, but not all: the lookup of a region counts its attempts only. A
    call that goes on after an interrupt gets another. A thread that runs is left alone for a while: it may be
    JPype's, converting an exception, and an interrupt would break that.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[int, Watched] = {}
        self._numbers = count()
        self._wake = threading.Event()
        # The time until which the thread sleeps; before its start and without calls there is none.
        self._next = math.inf
        self._thread: threading.Thread | None = None

    def run(self, seconds: float, function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        """Call Java for about `seconds`. Raises TimeoutError, caused by Java's exception."""
        deadline = time.monotonic() + seconds
        number, watched = next(self._numbers), Watched(deadline, _own.java())
        try:
            self._calls[number] = watched
            if watched.again < self._next:
                self._start()
            return function(*arguments)
        except (jpype.JException, RuntimeError) as error:
            if time.monotonic() >= deadline and (isinstance(error, jpype.JException) or watched.interrupted):
                raise TimeoutError from error
            raise
        finally:
            # Nobody interrupts the thread after this, for its next call would end by it.
            with self._lock:
                self._calls.pop(number, None)
            if watched.interrupted:
                cls("java.lang.Thread").interrupted()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._watch, name="kirsch-hbase-deadlines", daemon=True
                )
                self._thread.start()
        self._wake.set()

    def _watch(self) -> None:
        while True:
            self._wake.clear()
            now = time.monotonic()
            with self._lock:
                for watched in self._calls.values():
                    if watched.again > now:
                        continue
                    state = str(watched.thread.getState().name())
                    if watched.look(now, state == "RUNNABLE"):
                        watched.thread.interrupt()
                        if state == "BLOCKED":
                            self._free(watched.thread)
                self._next = min((watched.again for watched in self._calls.values()), default=math.inf)
            self._wake.wait(None if self._next == math.inf else max(0.0, self._next - now))

    def _free(self, thread: Any) -> None:
        """Interrupt the owner of the monitor that a thread waits for, a wait which no interrupt ends.

        HBase's client looks hbase:meta up in threads of its own, which hold a monitor meanwhile and are left
        to themselves when the call that they look it up for is given up. An owner that is another of our
        calls has a deadline itself.
        """
        threads = cls("java.lang.management.ManagementFactory").getThreadMXBean()
        found = threads.getThreadInfo(thread.getId())
        owner = -1 if found is None else int(found.getLockOwnerId())
        if owner in {int(watched.thread.getId()) for watched in self._calls.values()}:
            return
        for one in cls("java.lang.Thread").getAllStackTraces().keySet():
            if int(one.getId()) == owner:
                one.interrupt()


workers = Workers()
interrupter = Interrupter()
deadlines = Deadlines()
_MAIN = threading.main_thread().ident


def call(
    function: Callable[..., T], *arguments: Any, timeout: float | None = None, limit: float | None = None
) -> T:
    """Call Java: `call(admin.java.listTableNames)`. Raises HBaseError for Java's exceptions.

    After `limit` seconds the call is interrupted and Unavailable is raised. With `timeout` it runs in another
    thread, which is left to itself after so many seconds.
    """
    check_fork()
    try:
        if timeout is not None:
            return workers.submit(lambda: function(*arguments)).result(timeout)
        if limit is not None:
            function, arguments = deadlines.run, (limit, function, arguments)
        if threading.get_ident() != _MAIN:
            return function(*arguments)
        return interrupter.run(function, arguments)
    except jpype.JException as error:
        raise translated(error) from error
    except TimeoutError as error:
        java = error.__cause__ if isinstance(error.__cause__, jpype.JException) else None
        raise late(timeout or limit or 0.0, java) from error.__cause__


def late(seconds: float, java: Any = None) -> Unavailable:
    """Return the error of an operation that was given up after so many seconds."""
    return Unavailable(
        f"HBase did not answer within {seconds:g} s, and the operation was given up; it may still be carried "
        "out. Check that HBase runs (`status` of its shell, its log), or give connect a longer timeout=",
        java,
    )


def begin(function: Callable[..., T], *arguments: Any) -> Pending[T]:
    """Begin a Java call in another thread; its `result` may raise Java's exceptions."""
    check_fork()
    return workers.submit(lambda: function(*arguments))


@atexit.register
def end() -> None:
    """Stop all threads of this module at exit; a forked process has none of them."""
    try:
        check_fork()
    except OtherJVM:
        return
    workers.end()
    interrupter.end()


def translated(error: Any) -> HBaseError:
    """Return the Python error of a Java exception."""
    while _is(error, "UndeclaredThrowableException") and error.getCause() is not None:
        # What kirsch.hbase.block_transfer made of several methods wraps what these have not declared.
        error = error.getCause()
    if _is(error, "RetriesExhaustedWithDetailsException") and error.getNumExceptions():
        return _batch(error)
    chain: list[tuple[str, str]] = []
    cause = error
    while cause is not None and len(chain) < _DEPTH:
        chain.append((str(cause.getClass().getName()), str(cause.getMessage() or "")))
        cause = cause.getCause()
    kind, words = from_chain(chain)
    return kind(words, java=error)


def _batch(error: Any) -> HBaseError:
    failures = [
        (bytes(error.getRow(index).getRow()), translated(error.getCause(index)))
        for index in range(error.getNumExceptions())
    ]
    first = failures[0][1]
    if {(type(failure), str(failure)) for _, failure in failures} == {(type(first), str(first))}:
        # All for one reason: that is the error.
        first.failures = tuple(failures)
        return first
    count = len(failures)
    return BatchError(f"{count} rows could not be written; the first: {first}", failures, java=error)


def _is(error: Any, name: str) -> bool:
    return str(error.getClass().getName()).endswith(name)
