# cython: language_level=3, boundscheck=False, wraparound=False
"""`kirsch.websocket.loops.pump` in Cython."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING
from libc.errno cimport EAGAIN, EINTR, errno
from libc.string cimport memset

from kirsch.websocket.compiled.frame cimport byte
from kirsch.websocket.compiled.protocol cimport Protocol

cdef extern from "<sys/types.h>" nogil:
    ctypedef long ssize_t

cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "<sys/socket.h>" nogil:
    cdef struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    ssize_t sendmsg(int fd, const msghdr *message, int flags)
    ssize_t recv(int fd, void *data, size_t size, int flags)
    ssize_t send(int fd, const void *data, size_t size, int flags)
    int MSG_NOSIGNAL

cdef enum:
    OPEN = 1
    AGAIN = -2
    # Reads of a socket that always has something before the loop's other callbacks get a turn.
    READS = 8
    SHORT = 16 << 10
    # Pieces written by one call.
    FEW = 64


cdef class Pump:
    """Reads, and writes the answers if that can be done at once; everything else is the wire's."""

    cdef public bint gathering
    cdef object _wire
    cdef object _ticker
    cdef Protocol _websocket
    cdef int _fd
    cdef object _buffer

    def __init__(self, wire, Protocol websocket not None, sock, buffer, ticker):
        self._wire = wire
        self._ticker = ticker
        self._websocket = websocket
        self._fd = sock.fileno()
        self._buffer = buffer

    def readable(self):
        """Read what there is, or see the end."""
        for _ in range(READS):
            if not self._read() or not self._wire.clear:
                return

    cdef bint _read(self) except -1:
        """Read once, and write; return True if there may be more to read."""
        cdef Protocol websocket = self._websocket
        cdef ssize_t count
        cdef Py_buffer view
        cdef bint full
        direct = websocket._target()
        PyObject_GetBuffer(self._buffer if direct is None else direct, &view, PyBUF_WRITABLE)
        with nogil:
            count = recv(self._fd, view.buf, view.len, 0)
            if count < 0 and (errno == EAGAIN or errno == EINTR):
                count = AGAIN
        full = count == view.len
        if count > 0 and direct is None:
            # No wake-up is needed below the batch size, since all is written at the end.
            websocket.corked = True
            try:
                websocket._fed(<const byte *>view.buf, count)
            finally:
                PyBuffer_Release(&view)
            self._write()
            return full
        PyBuffer_Release(&view)
        if count == AGAIN:
            return False
        if count <= 0:
            self._wire.abort()
            return False
        websocket.corked = True
        # The application may keep the buffer, so no view of it may stay here.
        direct = None
        websocket.filled(count)
        self._write()
        return full

    def wake(self):
        """Write the first message since the loop's last turn at once; gather the rest until its next.

        A broadcast is one message for each connection.
        """
        cdef list gathering
        if self._websocket.corked:
            # A batch is full, though the application has not returned yet.
            self._wire.flush()
        elif not self.gathering:
            self.gathering = True
            gathering = self._ticker.gathering
            if not gathering:
                self._ticker.schedule()
            gathering.append(self)
            self._write()

    def flush_gathered(self):
        """Write what was sent since the loop's last turn."""
        self.gathering = False
        self._write()

    cdef int _write(self) except -1:
        cdef Protocol websocket = self._websocket
        if websocket.state != OPEN or not self._wire.clear:
            self._wire.flush()
        elif websocket._size or websocket._ready:
            if websocket._all_buffered():
                self._buffered(websocket)
            else:
                self._pieces(websocket.take())
            if websocket._size or websocket._ready:
                self._wire.flush()
        return 0

    cdef int _buffered(self, Protocol websocket) except -1:
        """Write the WebSocket's buffer, without making an object of it if the system takes all."""
        cdef const char *data = PyBytes_AS_STRING(<object>websocket._buffer)
        cdef Py_ssize_t size = websocket._filled
        cdef ssize_t count
        if size < SHORT:
            # Faster than releasing the interpreter's lock and taking it again.
            count = send(self._fd, data, size, MSG_NOSIGNAL)
        else:
            with nogil:
                count = send(self._fd, data, size, MSG_NOSIGNAL)
        if count == size:
            websocket._sent()
        elif count > 0:
            self._wire.wrote(websocket.take(), count)
        else:
            # The wire's own attempt meets the error and handles it.
            self._wire.write(websocket.take())
        return 0

    cdef int _pieces(self, list pieces) except -1:
        """Write a large message, or several."""
        cdef Py_buffer views[FEW]
        cdef iovec parts[FEW]
        cdef msghdr message
        cdef Py_ssize_t total = 0
        cdef Py_ssize_t at
        cdef ssize_t count
        cdef int held = 0
        cdef int number = min(<Py_ssize_t>FEW, len(pieces))
        try:
            for piece in pieces[:number]:
                PyObject_GetBuffer(piece, &views[held], PyBUF_SIMPLE)
                parts[held].iov_base, parts[held].iov_len = views[held].buf, views[held].len
                total += views[held].len
                held += 1
            memset(&message, 0, sizeof(message))
            message.msg_iov, message.msg_iovlen = parts, held
            with nogil:
                count = sendmsg(self._fd, &message, MSG_NOSIGNAL)
        finally:
            while held:
                held -= 1
                PyBuffer_Release(&views[held])
        if count < 0:
            # The wire's own attempt meets the error and handles it.
            self._wire.write(pieces)
            return 0
        if count < total or number < len(pieces):
            self._wire.wrote(pieces, count)
        return 0
