from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from kirsch.websocket.compiled.frame cimport byte


cdef class Sending:
    cdef readonly bint client
    cdef readonly object limits
    cdef public int state
    cdef public object error
    cdef public object close_sent
    cdef public object close_received
    cdef public bint corked
    cdef public object guard
    cdef public unsigned long thread
    cdef public object room
    cdef object _codec
    cdef Py_ssize_t _minimum
    cdef object _entropy
    cdef bytes _keys
    cdef Py_ssize_t _key_at
    cdef Py_ssize_t _queue
    # Pieces to be taken: large payloads and full buffers, then the buffer that is being written.
    cdef list _out
    cdef PyObject *_buffer
    cdef Py_ssize_t _filled
    cdef Py_ssize_t _room
    cdef Py_ssize_t _usual
    cdef Py_ssize_t _size
    # Size of the largest payload in it, of those from APART on.
    cdef Py_ssize_t _largest
    cdef bint _notified
    # True once the close frame was taken.
    cdef bint _close_taken
    # A message that is sent from an iterator; True if it may have a fragment; and what waits behind it.
    cdef object _source
    cdef bint _ready
    cdef object _behind
    cdef Py_ssize_t _waiting

    cdef int _require_thread(self) except -1
    cdef int _require_open(self) except -1
    cdef int _send(self, object data) except -1
    cdef int _require_room(self) except -1
    cdef int _message(self, int opcode, payload) except -1
    cdef int _stream(self, data) except -1
    cdef int _wait(self, item, Py_ssize_t size) except -1
    cdef int _close(self, close) except -1
    cdef int _drop(self) except -1
    cdef int _write(self, int first, payload) except -1
    cdef int _copy(self, int first, const byte *payload, Py_ssize_t size) except -1
    cdef int _reserve(self, Py_ssize_t size) except -1
    cdef int _spill(self) except -1
    cdef bint _all_buffered(self) noexcept
    cdef int _sent(self) except -1
    cdef uint32_t _key(self) except? 0
    cdef int _notify(self) except -1
    cdef list _take(self)
    cdef int _pull(self, source) except -1
    cdef int _follow(self) except -1
