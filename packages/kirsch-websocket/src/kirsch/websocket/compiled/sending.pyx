# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""`kirsch.websocket.core.sending` in Cython.

Small frames are written one after another into one buffer, which `take()` gives as `bytes`.
"""

from collections import deque

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport Py_XDECREF
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from kirsch.websocket.compiled.frame cimport byte, header, lay

from kirsch.websocket.core.errors import Closed, ProtocolError, Slow
from kirsch.websocket.core.message import Close, Ping, Prepared, check_close, frozen, of_type
from kirsch.websocket.core.sending import FREE, _wrong_thread
from kirsch.websocket.core.source import Incoming, Relay, Source

cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject **bytes, Py_ssize_t size) except -1
    PyObject *PyBytes_Raw "PyBytes_FromStringAndSize"(const char *data, Py_ssize_t size) except NULL

cdef enum:
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA
    FIN = 0x80
    RSV1 = 0x40
    # Bytes returned at a time; from APART on a payload is returned as it is, not copied.
    BATCH = 256 << 10
    APART = 32 << 10
    ABNORMAL = 1006
    NORMAL = 1000
    INTERNAL = 1011
    OPEN = 1
    CLOSING = 2
    CLOSED = 3
    # The largest header with its key, which is counted for each message that waits.
    HEADER = 14

cdef Py_ssize_t KEYS = 4096
# A buffer that no connection uses at the moment.
cdef PyObject *spare = NULL
cdef Py_ssize_t spare_room = 0


cdef class Sending:
    """Sending half of a Protocol: `take()` the bytes to write while `pending`.

    See `kirsch.websocket.core.sending`.
    """

    def __init__(self, *, bint client, limits, codec, entropy):
        self.client = client
        self.limits = limits
        self.state = OPEN
        self._codec = codec
        self._minimum = 0 if codec is None else codec.minimum
        self._entropy = entropy
        self._keys = b""
        self._queue = limits.queue
        self._out = []

    def __dealloc__(self):
        Py_XDECREF(self._buffer)

    def answer(self, event):
        """Answer a Ping with a Pong, a Close with a Close (RFC 6455, 5.5.1 and 5.5.2)."""
        with self.guard or FREE:
            if isinstance(event, Ping):
                # A peer that pings and does not read gets no answers beyond the limit.
                if self.state == OPEN and self._size <= self._queue:
                    self._write(FIN | PONG, event.data)
            elif isinstance(event, Close):
                self.close_received = event
                if self.close_sent is None and self.state != CLOSED:
                    self._close(event)
        self._notify()

    @property
    def pending(self):
        """True if `take()` would return anything."""
        return self._size > 0 or self._ready

    @property
    def under_way(self):
        """True while a message from an iterator is sent whose end was not read yet."""
        return self._source is not None

    @property
    def queued(self):
        """Bytes that wait to be taken."""
        return self._size + self._waiting

    def send(self, data, text=None):
        """Queue a message: `str` is text, bytes are binary; an iterator's items, or a file, are one message.

        A message that is received in chunks is sent on as they come.

        Never blocks. On asyncio and Tornado it may be awaited, which waits while the peer reads slowly.

        Args:
            data: the message.
            text: True sends bytes as text, False `str` as a binary message; None decides by the type.

        Raises:
            Closed: the connection is closing or closed.
            Slow: more than `limits.queue` bytes wait besides the largest message; nothing was queued.
            TypeError: the argument is no message.
            ValueError: bytes to be sent as text are not UTF-8.
            RuntimeError: on asyncio, Tornado and gevent, in another thread than the connection's.
        """
        if text is not None:
            data = of_type(data, text)
        if not isinstance(data, (str, bytes, bytearray, memoryview)):
            self._stream(data)
        elif self.guard is None:
            self._send(data)
        else:
            with self.guard:
                self._send(data)
        if not self._notified and (not self.corked or self._size >= BATCH):
            self._notify()
        return self.room

    def ping(self, bytes data not None=b""):
        """Send a ping; the peer's Pong carries `data` back, 125 bytes at most.

        Raises Closed, ValueError, and RuntimeError as `send` does.
        """
        if len(data) > 125:
            raise ValueError("a ping carries 125 bytes at most")
        with self.guard or FREE:
            self._require_open()
            self._write(FIN | PING, data)
        self._notify()

    def close(self, code=NORMAL, str reason not None=""):
        """Begin to close; queued messages are sent first. Does nothing if closing has begun.

        Raises ValueError for a code that may not be sent or a reason over 123 bytes (RFC 6455, 5.5), and
        RuntimeError as `send` does.
        """
        self._require_thread()
        check_close(code, reason)
        with self.guard or FREE:
            if self.close_sent is None and self.state != CLOSED:
                self._close(Close(code, reason))
        self._notify()

    def fail(self, error):
        """Close because of an error: drop queued messages, and read nothing more."""
        # Its traceback would keep the frames it was raised in alive, and with them this object.
        error.__traceback__ = error.__context__ = None
        with self.guard or FREE:
            self.error = error
            self._drop()
            # A close frame that was not taken yet was dropped.
            if not self._close_taken and self.state != CLOSED:
                self._close(Close(error.code, error.reason))
        self._notify()

    def discard(self):
        """Drop all messages that wait to be taken."""
        with self.guard or FREE:
            self._drop()

    def end(self):
        """Drop everything, since the connection is gone."""
        with self.guard or FREE:
            self.state = CLOSED
            self._drop()
            self._spill()
            self._codec = None

    def take(self):
        """Return the bytes to write now, in order: about BATCH, more if a message is larger."""
        cdef object source
        self._notified = False
        while True:
            if self.guard is None:
                if not self._ready or self._size >= BATCH:
                    return self._take()
                source = self._source
                # Cleared first, since `resume()` may be called meanwhile.
                self._ready = False
            else:
                with self.guard:
                    if not self._ready or self._size >= BATCH:
                        return self._take()
                    source = self._source
                    self._ready = False
            self._pull(source)

    def resume(self):
        """Go on with a message that is sent on: more of it has come."""
        with self.guard or FREE:
            self._ready = self._source is not None
        self._notify()

    def wake(self):
        """Have `take()` called. For subclasses."""

    cdef int _require_thread(self) except -1:
        if self.thread and self.thread != PyThread_get_thread_ident():
            raise _wrong_thread()
        return 0

    cdef int _require_open(self) except -1:
        self._require_thread()
        if self.state != OPEN:
            close = self.close_received or self.close_sent or Close(ABNORMAL, "")
            raise Closed(close.code, close.reason)
        return 0

    cdef int _send(self, object data) except -1:
        cdef Py_ssize_t size
        cdef const char *text
        cdef int opcode
        self._require_open()
        if type(data) is str:
            text = PyUnicode_AsUTF8AndSize(data, &size)
            if size < APART and (self._codec is None or size < self._minimum) and self._source is None:
                self._require_room()
                self._copy(FIN | TEXT, <const byte *>text, size)
                return 0
            opcode, payload = TEXT, PyBytes_FromStringAndSize(text, size)
        elif type(data) is bytes:
            size = PyBytes_GET_SIZE(data)
            if size < APART and (self._codec is None or size < self._minimum) and self._source is None:
                self._require_room()
                self._copy(FIN | BINARY, <const byte *>PyBytes_AS_STRING(data), size)
                return 0
            opcode, payload = BINARY, data
        elif isinstance(data, str):
            opcode, payload = TEXT, data.encode()
        elif isinstance(data, Prepared):
            opcode, payload = data.opcode, data
        else:
            opcode, payload = BINARY, frozen(data)
        self._require_room()
        if self._source is None:
            self._message(opcode, payload)
        else:
            self._wait((opcode, payload), len(payload))
        return 0

    cdef int _require_room(self) except -1:
        # The largest message that waits may be of any size, and so may the new one.
        if self._size + self._waiting - self._largest > self._queue:
            raise Slow(self._size + self._waiting, self._queue)
        return 0

    cdef int _message(self, int opcode, payload) except -1:
        if self._codec is None or len(payload) < self._minimum:
            self._write(FIN | opcode, payload)
        elif isinstance(payload, Prepared):
            self._write(FIN | RSV1 | opcode, payload.compressed(self._codec))
        else:
            self._write(FIN | RSV1 | opcode, self._codec.compress(payload))
        return 0

    cdef int _stream(self, data) except -1:
        with self.guard or FREE:
            self._require_open()
            self._require_room()
        # No lock is held while the application's iterator runs.
        source = Relay(data, self) if isinstance(data, Incoming) else Source(data)
        with self.guard or FREE:
            if self.state != OPEN:
                source.drop()
                self._require_open()
            if self._source is None:
                self._source = source
                self._ready = True
            else:
                self._wait(source, source.size)
        return 0

    cdef int _wait(self, item, Py_ssize_t size) except -1:
        if self._behind is None:
            self._behind = deque()
        self._behind.append(item)
        self._waiting += size + HEADER
        return 0

    cdef int _close(self, close) except -1:
        self.close_sent = close
        self.state = CLOSING
        payload = close.payload
        if self._source is None:
            self._write(FIN | CLOSE, payload)
        else:
            self._wait((CLOSE, payload), len(payload))
        return 0

    cdef int _drop(self) except -1:
        if self._source is not None:
            self._source.drop()
        for item in self._behind or ():
            if isinstance(item, Source):
                item.drop()
        if self._out is not None:
            self._out.clear()
        self._behind = None
        self._source = None
        self._filled = self._size = self._largest = self._waiting = 0
        self._notified = self._ready = False
        return 0

    cdef int _write(self, int first, payload) except -1:
        cdef const byte[::1] view
        cdef const byte *data
        cdef Py_ssize_t size
        cdef byte head[10]
        cdef int length
        if isinstance(payload, bytes):
            # A memoryview would take as long as everything else here.
            data, size = <const byte *>PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload)
        else:
            view = payload
            size = view.shape[0]
            data = &view[0] if size else NULL
        if size < APART:
            self._copy(first, data, size)
            return 0
        self._largest = max(self._largest, size)
        if self.client:
            self._copy(first, data, size)
        else:
            length = header(head, first, size, False)
            self._reserve(length)
            memcpy(PyBytes_AS_STRING(<object>self._buffer) + self._filled, head, length)
            self._filled += length
            self._size += length + size
            self._spill()
            self._out.append(payload)
        return 0

    cdef int _copy(self, int first, const byte *payload, Py_ssize_t size) except -1:
        """Write a frame into the buffer."""
        cdef byte *at
        cdef byte *start
        cdef uint32_t key
        self._reserve(size + 14)
        start = at = <byte *>PyBytes_AS_STRING(<object>self._buffer) + self._filled
        at += header(at, first, size, self.client)
        if self.client:
            key = self._key()
            memcpy(at, &key, 4)
            at += 4
            lay(at, payload, size, key)
        else:
            memcpy(at, payload, size)
        at += size
        self._filled += at - start
        self._size += at - start
        return 0

    cdef int _reserve(self, Py_ssize_t size) except -1:
        """Make room in the buffer, which grows up to BATCH before another is begun."""
        global spare, spare_room
        cdef Py_ssize_t room
        if self._buffer != NULL:
            if self._filled + size <= self._room:
                return 0
            room = 2 * (self._filled + size)
            if room <= BATCH:
                _PyBytes_Resize(&self._buffer, room)
                self._room = room
                return 0
            self._spill()
        # The size that was needed the last time.
        room = max(size, self._usual, 256)
        if room <= spare_room:
            self._buffer, self._room = spare, spare_room
            spare, spare_room = NULL, 0
            return 0
        self._buffer = PyBytes_Raw(NULL, room)
        self._room = room
        return 0

    cdef int _spill(self) except -1:
        """Move the buffer to the pieces that are to be taken."""
        cdef PyObject *buffer = self._buffer
        if buffer != NULL:
            self._buffer = NULL
            if self._filled:
                if self._filled < self._room:
                    _PyBytes_Resize(&buffer, self._filled)
                self._out.append(<object>buffer)
            Py_XDECREF(buffer)
            self._filled = 0
        return 0

    cdef bint _all_buffered(self) noexcept:
        """Return True if everything to be taken is in the buffer, and only this thread takes."""
        return self._filled > 0 and self._filled == self._size and self._source is None and self.guard is None

    cdef int _sent(self) except -1:
        """Take the buffer as `take()` does, but without making an object of it, after it was sent."""
        global spare, spare_room
        cdef PyObject *buffer = self._buffer
        self._close_taken = self.close_sent is not None
        self._usual = min(self._filled, BATCH)
        self._filled = self._size = self._largest = 0
        self._notified = False
        self._buffer = NULL
        # The next connection uses it, so that one buffer stays in the processor's caches.
        if self._room > spare_room:
            buffer, spare = spare, buffer
            spare_room = self._room
        Py_XDECREF(buffer)
        return 0

    cdef uint32_t _key(self) except? 0:
        """Return an unpredictable masking key (RFC 6455, 5.3)."""
        cdef uint32_t key
        if self._key_at + 4 > len(self._keys):
            self._keys = self._entropy(KEYS)
            self._key_at = 0
            if len(self._keys) < 4:
                raise ValueError("a key has 4 bytes")
        memcpy(&key, PyBytes_AS_STRING(self._keys) + self._key_at, 4)
        self._key_at += 4
        return key

    cdef int _notify(self) except -1:
        if (
            (not self.corked or self._size >= BATCH)
            and not self._notified
            and (self._size > 0 or self._ready)
        ):
            self._notified = True
            self.wake()
        return 0

    cdef list _take(self):
        cdef list taken
        self._close_taken = self._source is None and self.close_sent is not None
        self._usual = min(self._filled, BATCH)
        self._spill()
        taken = self._out
        self._out = []
        self._size = self._largest = 0
        return taken

    cdef int _pull(self, source) except -1:
        """Queue the next fragment of a message from an iterator, and after its last the messages behind it."""
        try:
            fragment = source.fragment()
        except Closed:
            # The connection that the message came from failed or ended.
            self.fail(ProtocolError(INTERNAL, "a message that was sent on did not come to its end"))
            return 0
        except Exception as cause:
            error = ProtocolError(INTERNAL, "a message could not be read to its end")
            error.__cause__ = cause
            self.fail(error)
            return 0
        if fragment is None:
            # The next fragment has not come yet.
            return 0
        first, payload = fragment
        with self.guard or FREE:
            if self._source is not source:
                # The message was dropped meanwhile.
                return 0
            last = (first & FIN) != 0
            if self._codec is not None:
                payload = self._codec.compress(payload, last)
                if first & 0x0F:
                    first |= RSV1
            self._write(first, payload)
            self._ready = not last
            if last:
                self._source = None
                self._follow()
        return 0

    cdef int _follow(self) except -1:
        """Queue the messages that waited behind one from an iterator, up to the next of that kind."""
        while self._behind and self._source is None:
            item = self._behind.popleft()
            if isinstance(item, Source):
                self._source = item
                self._ready = True
                self._waiting -= item.size + HEADER
                continue
            opcode, payload = item
            self._waiting -= len(payload) + HEADER
            if opcode == CLOSE:
                self._write(FIN | CLOSE, payload)
            else:
                self._message(opcode, payload)
        return 0
