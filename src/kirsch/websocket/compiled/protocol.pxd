from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from kirsch.websocket.compiled.frame cimport byte
from kirsch.websocket.compiled.parser cimport Parser


cdef class Protocol:
    cdef readonly bint client
    cdef readonly object limits
    cdef public int state
    cdef public object error
    cdef public object close_sent
    cdef public object close_received
    cdef public bint corked
    cdef public bint heard
    cdef public object guard
    cdef public unsigned long thread
    cdef Parser _parser
    cdef object _codec
    cdef Py_ssize_t _minimum
    cdef object _entropy
    cdef bytes _keys
    cdef Py_ssize_t _key_at
    cdef Py_ssize_t _queue
    # What is to be taken: large pieces and full buffers, then the buffer that is being written.
    cdef list _out
    cdef PyObject *_buffer
    cdef Py_ssize_t _filled
    cdef Py_ssize_t _room
    cdef Py_ssize_t _usual
    cdef Py_ssize_t _size
    # The largest payload of that, from APART on.
    cdef Py_ssize_t _largest
    cdef bint _told
    # The close frame was taken.
    cdef bint _said
    # A message that is sent from an iterator, and what waits behind it.
    cdef object _source
    cdef object _behind
    cdef Py_ssize_t _waiting

    cdef Parser _reader(self)
    cdef list _events(self)
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
    cdef object _target(self)
    cdef int _fed(self, const byte *data, Py_ssize_t size) except -1
    cdef bint _all_buffered(self) noexcept
    cdef int _sent(self) except -1
    cdef uint32_t _key(self) except? 0
    cdef int _tell(self) except -1
    cdef list _take(self)
    cdef int _pull(self, source) except -1
    cdef int _follow(self) except -1
    cdef int _dispatch(self, list events) except -1
