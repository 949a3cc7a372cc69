# cython: language_level=3, boundscheck=False, wraparound=False
"""`kirsch.websocket.pump` in Cython."""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno

from kirsch.websocket.compiled.protocol cimport Protocol

cdef extern from "<sys/types.h>" nogil:
    ctypedef long ssize_t

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int fd, void *data, size_t size, int flags)
    ssize_t send(int fd, const void *data, size_t size, int flags)
    int MSG_NOSIGNAL

cdef enum:
    OPEN = 1
    AGAIN = -2


cdef class Pump:
    """Reads once and writes what that brought about, if it can be written at once; all else is its wire's."""

    cdef public bint feeding
    cdef object _wire
    cdef Protocol _websocket
    cdef int _fd
    cdef object _buffer

    def __init__(self, wire, Protocol websocket not None, sock, buffer):
        self._wire = wire
        self._websocket = websocket
        self._fd = sock.fileno()
        self._buffer = buffer

    def readable(self):
        """The socket has something, or its end."""
        cdef Protocol websocket = self._websocket
        cdef ssize_t count
        cdef Py_buffer view
        direct = websocket.get_buffer()
        PyObject_GetBuffer(self._buffer if direct is None else direct, &view, PyBUF_WRITABLE)
        with nogil:
            count = recv(self._fd, view.buf, view.len, 0)
            if count < 0 and (errno == EAGAIN or errno == EINTR):
                count = AGAIN
        PyBuffer_Release(&view)
        if count == AGAIN:
            return
        if count <= 0:
            self._wire.abort()
            return
        # It is written in the end: no need to be woken, unless there is much.
        self.feeding = websocket.corked = True
        if direct is None:
            websocket.feed(self._buffer[:count])
        else:
            websocket.filled(count)
        self.feeding = False
        self._write()

    def write(self):
        """Write what is to be sent."""
        self._write()

    cdef int _write(self) except -1:
        cdef Protocol websocket = self._websocket
        if websocket.state != OPEN or not self._wire.plain:
            self._wire.flush()
        elif websocket._size or websocket._source is not None:
            pieces = websocket.take()
            if len(pieces) == 1 and type(pieces[0]) is bytes:
                self._one(pieces[0])
            else:
                self._wire.write(pieces)
            if websocket._size or websocket._source is not None:
                self._wire.flush()
        return 0

    cdef int _one(self, bytes piece) except -1:
        cdef const char *data = PyBytes_AS_STRING(piece)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(piece)
        cdef ssize_t count
        with nogil:
            count = send(self._fd, data, size, MSG_NOSIGNAL)
        if count < 0:
            # It says why when it is told again.
            self._wire.write([piece])
        elif count < size:
            self._wire.later([memoryview(piece)[count:]])
        return 0
