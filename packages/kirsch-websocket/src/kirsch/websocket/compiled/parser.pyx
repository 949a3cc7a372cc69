# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""`kirsch.websocket.core.parser` in Cython.

The generator is the same, but the bytes it is fed are pointers, and it is resumed only for what is not a whole
message: those are taken by `_messages` before it.
"""

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_Append
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from io import BytesIO

from kirsch.websocket.compiled.frame cimport Utf8, byte, is_text, lay, turned

from kirsch.websocket.core.errors import ProtocolError
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.message import Chunk, Ping, Pong, Text, invalid_text
from kirsch.websocket.core.parser import parse_close


cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject **bytes, Py_ssize_t size) except -1
    Py_ssize_t Py_REFCNT(PyObject *object)

cdef enum:
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA
    FIN = 0x80
    RSV1 = 0x40
    RESERVED = 0x30
    DIRECT = 256 << 10
    BROKEN = 1002
    INVALID = 1007
    POLICY = 1008
    TOO_BIG = 1009

cdef Py_ssize_t NONE = 1 << 62
# Compression may lengthen a message by so many bytes, and by 1 in 256.
cdef Py_ssize_t SPARE = 64
cdef Limits_default = Limits()


cdef class Unfinished:
    """Writable buffer of a bytes object that is being received, and that nobody has yet."""

    cdef bytes _data

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(
            buffer, self, PyBytes_AS_STRING(self._data), PyBytes_GET_SIZE(self._data), False, flags
        )


cdef class Parser:
    """Parser of the bytes that a server (`client=True`: we are the client) or a client sends.

    See `kirsch.websocket.core.parser`.
    """

    def __init__(self, *, bint client=False, limits=Limits_default, codec=None, bint stream=False, bint views=False):
        self.events = []
        self._masked = not client
        self._largest = NONE if limits.message is None else limits.message
        self._frame = -1 if limits.frame is None else limits.frame
        self._fragments = NONE if limits.fragments is None else limits.fragments
        self._codec = codec
        self._stream = stream
        self._views = views
        self._frames = self._parse()
        self._send = self._frames.send
        self.needed = next(self._frames)

    def feed(self, data):
        """Parse bytes. Raises ProtocolError; the events before it are there."""
        cdef const byte[::1] view = data
        if data is None:
            raise TypeError("there are no bytes in None")
        if view.shape[0]:
            self.run(&view[0], view.shape[0])

    def get_buffer(self):
        """Return a buffer to read the rest of a large payload into, or None; then call `advance()`."""
        return self._rest

    def advance(self, Py_ssize_t count):
        """Process `count` bytes that were read into `get_buffer()`. Raises ProtocolError, ValueError."""
        cdef byte *target
        if self._rest is None or count < 0 or count > self._length - self._done:
            raise ValueError("there is no such room")
        self._rest = None
        target = self._target() + self._done
        if self._masked:
            lay(target, target, count, turned(self._key, self._done))
        self._done += count
        self._fresh = count
        self.run(NULL, 0)

    def close(self):
        """Drop an unfinished message; nothing more will come."""
        if self._frames is not None:
            self._frames.close()
        self._rest = self._message = self._pieces = self._text = None
        # The codec may hold hundreds of KiB.
        self._codec = None
        self.needed = 0

    cdef int run(self, const byte *data, Py_ssize_t size) except -1:
        self._at, self._end = data, data + size
        try:
            self.needed = self._send(None)
        except BaseException as error:
            self.needed = 0
            # The parser has ended before.
            if not isinstance(error, StopIteration):
                raise
        finally:
            self._at = self._end = NULL
        return 0

    def _parse(self):
        cdef Py_ssize_t size
        yield 2
        while True:
            self._messages()
            if self._at == self._end:
                yield 2
                continue
            # The header (5.2): opcode and flags, length, key.
            self._have = 0
            while not self._collect(2):
                yield 2 - self._have
            size = self._header_size()
            while not self._collect(size):
                yield size - self._have
            self._begin()
            # The general case.
            if self._head[0] & 0x8:
                size = self._length
                self._opcode |= (self._head[0] & 0x0F) << 8
                self._have = 0
                while not self._collect(size):
                    yield size - self._have
                if self._control():
                    break
                continue
            if self._stream or self._compressed:
                while not self._piece():
                    yield self._length - self._done
            else:
                self._place()
                while not self._fill():
                    yield self._length - self._done
            if self._final:
                self._finish()
        # Bytes after a close frame are ignored (5.5.1).
        while True:
            yield 0

    cdef int _messages(self) except -1:
        """Take messages that are here as a whole in one frame, which are nearly all."""
        cdef const byte *at = self._at
        cdef const byte *end = self._end
        cdef Py_ssize_t size
        cdef Py_ssize_t plain = self._largest if self._frame < 0 else min(self._largest, self._frame)
        cdef Py_ssize_t length
        cdef uint32_t key = 0
        cdef bint masked = self._masked
        cdef byte first
        cdef byte *target
        cdef bytes payload
        cdef list events = self.events
        cdef byte letters[4096]
        if self._opcode or self._stream:
            return 0
        while end - at >= 2:
            first = at[0]
            if first != (FIN | TEXT) and first != (FIN | BINARY):
                break
            if masked != (at[1] >> 7):
                break
            length = at[1] & 0x7F
            if length < 126:
                size = 2
            elif length == 126:
                if end - at < 4:
                    break
                length = (<Py_ssize_t>at[2] << 8) | at[3]
                size = 4
                if length < 126:
                    break
            else:
                if end - at < 10 or at[2] & 0x80:
                    break
                length = <Py_ssize_t>_wide(at + 2)
                size = 10
                if length < 65536:
                    break
            if masked:
                if end - at < size + 4:
                    break
                memcpy(&key, at + size, 4)
                size += 4
            if length > plain or end - at - size < length:
                break
            at += size
            if first == (FIN | TEXT):
                if not masked:
                    text = _decode(<const char *>at, length)
                elif length <= 4096:
                    lay(letters, at, length, key)
                    text = _decode(<const char *>letters, length)
                else:
                    payload = PyBytes_FromStringAndSize(NULL, length)
                    target = <byte *>PyBytes_AS_STRING(payload)
                    lay(target, at, length, key)
                    text = _decode(<const char *>target, length)
                PyList_Append(events, text)
            else:
                payload = PyBytes_FromStringAndSize(NULL, length)
                target = <byte *>PyBytes_AS_STRING(payload)
                if masked:
                    lay(target, at, length, key)
                else:
                    memcpy(target, at, length)
                PyList_Append(events, memoryview(payload) if self._views else payload)
            at += length
            self._at = at
        self._at = at
        return 0

    cdef bint _collect(self, Py_ssize_t size) noexcept:
        """Gather `size` bytes in `_head`; return True once they are there."""
        cdef Py_ssize_t count = min(size - self._have, self._end - self._at)
        if count > 0:
            memcpy(self._head + self._have, self._at, count)
            self._at += count
            self._have += count
        return self._have == size

    cdef Py_ssize_t _header_size(self) except -1:
        if (self._head[1] >> 7) != self._masked:
            raise ProtocolError(BROKEN, "a frame without a mask" if self._masked else "a masked frame")
        cdef int length = self._head[1] & 0x7F
        return (2 if length < 126 else 4 if length == 126 else 10) + (4 if self._masked else 0)

    cdef int _begin(self) except -1:
        """Interpret the header."""
        cdef byte *head = self._head
        cdef uint64_t length = head[1] & 0x7F
        cdef int size = 0
        if length > 125:
            size = 2 if length == 126 else 8
            length = (<uint64_t>head[2] << 8 | head[3]) if size == 2 else _wide(head + 2)
            if length >> 63 or length < <uint64_t>(126 if size == 2 else 1 << 16):
                raise ProtocolError(BROKEN, f"a length of {length} in {size} bytes")
        if self._masked:
            memcpy(&self._key, head + 2 + size, 4)
        self._length = <Py_ssize_t>length
        self._done = 0
        self._check(head[0], <Py_ssize_t>length)
        if not head[0] & 0x8:
            self._final = head[0] & FIN != 0
            if head[0] & 0x0F:
                self._opcode = head[0] & 0x0F
                self._compressed = head[0] & RSV1 != 0
                self._utf8.missing = 0
                self._text = None
                if self._opcode == TEXT and (self._stream or self._compressed):
                    self._text = Text()
        return 0

    cdef int _check(self, int first, Py_ssize_t length) except -1:
        """Raise ProtocolError for what RFC 6455 (5.2, 5.4, 5.5), RFC 7692 (6) or a limit forbids."""
        cdef int opcode = first & 0x0F
        cdef Py_ssize_t most = self._largest
        if first & RESERVED:
            raise ProtocolError(BROKEN, "a reserved bit is set")
        if opcode & 0x8:
            if opcode > PONG:
                raise ProtocolError(BROKEN, f"an unknown opcode: {opcode}")
            if first & RSV1:
                raise ProtocolError(BROKEN, "a compressed control frame")
            if not first & FIN:
                raise ProtocolError(BROKEN, "a control frame in fragments")
            if length > 125:
                raise ProtocolError(BROKEN, f"a control frame of {length} bytes: 125 at most")
            return 0
        if opcode > BINARY:
            raise ProtocolError(BROKEN, f"an unknown opcode: {opcode}")
        if opcode:
            if self._opcode:
                raise ProtocolError(BROKEN, "a message within another")
            if first & RSV1 and self._codec is None:
                raise ProtocolError(BROKEN, "a compressed message, but no compression was agreed on")
        elif not self._opcode:
            raise ProtocolError(BROKEN, "a continuation of nothing")
        elif first & RSV1:
            raise ProtocolError(BROKEN, "a continuation that is marked as compressed")
        if self._frame >= 0 and length > self._frame:
            raise ProtocolError(TOO_BIG, f"a frame of {length} bytes: {self._frame} at most")
        # Compression makes some messages a little larger.
        if first & RSV1 if opcode else self._compressed:
            most += SPARE + (self._largest >> 8)
        if length > most - self._size:
            raise ProtocolError(TOO_BIG, f"a message of more than {self._largest} bytes")
        self._size += length
        self._count += 1
        if self._count > self._fragments:
            raise ProtocolError(POLICY, f"a message of more than {self._fragments} fragments")
        return 0

    cdef bint _control(self) except -1:
        """Take a control frame; return True for a close frame."""
        cdef int opcode = self._opcode >> 8
        self._opcode &= 0xFF
        cdef bytes payload
        if self._masked:
            # In place, since CPython shares bytes objects of length one, which must not be written to.
            lay(self._head, self._head, self._length, self._key)
        payload = PyBytes_FromStringAndSize(<char *>self._head, self._length)
        if opcode == PING:
            self.events.append(Ping(payload))
        elif opcode == PONG:
            self.events.append(Pong(payload))
        else:
            self.events.append(parse_close(payload))
        return opcode == CLOSE

    cdef int _place(self) except -1:
        """Make room for the frame's payload at its final place."""
        try:
            if self._message is None:
                self._message = PyBytes_FromStringAndSize(NULL, self._length)
            elif PyBytes_GET_SIZE(self._message) < self._size:
                # There is room for more, since a message may have thousands of fragments.
                self._resize(self._size if self._final else self._size + (self._size >> 3))
        except (MemoryError, OverflowError):
            raise ProtocolError(TOO_BIG, f"a frame of {self._length} bytes: no memory for it") from None
        return 0

    cdef int _resize(self, Py_ssize_t size) except -1:
        """Change the size of the message's buffer, which nobody has seen yet."""
        cdef bytes message = self._message
        cdef PyObject *raw = <PyObject *>message
        cdef Py_ssize_t kept = min(size, PyBytes_GET_SIZE(message))
        Py_INCREF(message)
        self._message = message = None
        if Py_REFCNT(raw) == 1:
            _PyBytes_Resize(&raw, size)
            self._message = <bytes>raw
        else:
            # A caller still holds the buffer of an earlier frame.
            self._message = PyBytes_FromStringAndSize(NULL, size)
            memcpy(PyBytes_AS_STRING(self._message), PyBytes_AS_STRING(<bytes>raw), kept)
        Py_DECREF(<bytes>raw)
        return 0

    cdef byte *_target(self) noexcept:
        """Return where the frame's payload belongs."""
        return <byte *>PyBytes_AS_STRING(self._message) + self._size - self._length

    cdef int _fill(self) except -1:
        """Take the payload bytes that are here; return True if that is all of them."""
        cdef Py_ssize_t left = self._length - self._done
        cdef Py_ssize_t count = min(left, self._end - self._at)
        cdef byte *target = self._target() + self._done
        cdef Unfinished unfinished
        if count > 0:
            if self._masked:
                lay(target, self._at, count, turned(self._key, self._done))
            else:
                memcpy(target, self._at, count)
            self._at += count
            self._done += count
        # The bytes that `advance()` told of, or those that were copied just now.
        self._checked(target - self._fresh, count + self._fresh, self._final and count == left)
        self._fresh = 0
        self._rest = None
        if count == left:
            return True
        if left - count >= DIRECT:
            unfinished = Unfinished.__new__(Unfinished)
            unfinished._data = self._message
            start = self._size - self._length + self._done
            self._rest = memoryview(unfinished)[start : start + left - count]
        return False

    cdef int _checked(self, const byte *data, Py_ssize_t size, bint last) except -1:
        """UTF-8 is checked as it arrives (8.1)."""
        if self._opcode == TEXT:
            if not is_text(&self._utf8, data, size) or (last and self._utf8.missing):
                raise ProtocolError(INVALID, "text that is not UTF-8")
        return 0

    cdef int _piece(self) except -1:
        """Take the bytes of a compressed or streamed payload that are here; return True if that is all."""
        cdef Py_ssize_t left = self._length - self._done
        cdef Py_ssize_t count = min(left, self._end - self._at)
        cdef bytes piece = PyBytes_FromStringAndSize(NULL, count)
        cdef byte *target = <byte *>PyBytes_AS_STRING(piece)
        cdef bint last = self._final and count == left
        if count:
            if self._masked:
                lay(target, self._at, count, turned(self._key, self._done))
            else:
                memcpy(target, self._at, count)
            self._at += count
            self._done += count
        self._add(piece, last)
        return count == left

    cdef int _add(self, bytes piece, bint last) except -1:
        """Add a piece of the message's payload."""
        if self._stream:
            self._chunks(piece, last)
            return 0
        if self._compressed:
            piece = self._codec.decompress(piece, last)
        if self._text is not None:
            self._text.add(piece, last)
        if last and self._pieces is None:
            self._message = piece
            return 0
        if self._pieces is None:
            self._pieces = BytesIO()
        self._pieces.write(piece)
        return 0

    cdef int _chunks(self, bytes piece, bint last) except -1:
        """Emit a piece of a streamed message."""
        if self._compressed:
            for part in self._codec.pieces(piece, last):
                self._chunk(part, False)
            piece = b""
        self._chunk(piece, last)
        return 0

    cdef int _chunk(self, bytes piece, bint last) except -1:
        chunk = piece if self._text is None else self._text.add(piece, last)
        if chunk or last:
            self.events.append(Chunk(chunk, not self._begun, last))
            self._begun = True
        return 0

    cdef int _finish(self) except -1:
        """Emit the complete message."""
        cdef bytes message
        cdef int opcode = self._opcode
        if self._pieces is not None:
            # It does not copy them.
            self._message = self._pieces.getvalue()
        elif self._message is None:
            self._message = b""
        elif not self._compressed and PyBytes_GET_SIZE(self._message) > self._size:
            self._resize(self._size)
        message = self._message
        self._message = self._pieces = self._text = None
        self._opcode = 0
        self._count = self._size = 0
        self._begun = False
        if self._stream:
            return 0
        if opcode == TEXT:
            self.events.append(_decode(PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message)))
        else:
            self.events.append(memoryview(message) if self._views else message)
        return 0


cdef inline uint64_t _wide(const byte *at) noexcept nogil:
    cdef uint64_t number = 0
    cdef int i
    for i in range(8):
        number = number << 8 | at[i]
    return number


cdef inline object _decode(const char *data, Py_ssize_t size):
    try:
        return PyUnicode_DecodeUTF8(data, size, NULL)
    except UnicodeDecodeError:
        raise invalid_text() from None
