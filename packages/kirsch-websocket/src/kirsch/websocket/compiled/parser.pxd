from libc.stdint cimport uint32_t

from kirsch.websocket.compiled.frame cimport Utf8, byte


cdef class Parser:
    cdef public list events
    cdef readonly Py_ssize_t needed
    cdef object _frames
    cdef object _send
    cdef object _codec
    cdef bint _masked
    cdef bint _stream
    cdef bint _views
    cdef Py_ssize_t _largest
    cdef Py_ssize_t _frame
    cdef Py_ssize_t _fragments
    # Bytes that are being fed.
    cdef const byte *_at
    cdef const byte *_end
    # The current frame: its header or a control frame's payload, then the number of payload bytes that came.
    cdef byte _head[128]
    cdef Py_ssize_t _have
    cdef Py_ssize_t _length
    cdef Py_ssize_t _done
    cdef Py_ssize_t _fresh
    cdef uint32_t _key
    cdef bint _final
    # The current message.
    cdef int _opcode
    cdef bint _compressed
    cdef bint _begun
    cdef Py_ssize_t _count
    cdef Py_ssize_t _size
    # Its bytes; or those pieces of it that came decompressed.
    cdef bytes _message
    cdef object _pieces
    cdef object _text
    cdef Utf8 _utf8
    cdef object _rest

    cdef int run(self, const byte *data, Py_ssize_t size) except -1
    cdef int _messages(self) except -1
    cdef bint _collect(self, Py_ssize_t size) noexcept
    cdef Py_ssize_t _header_size(self) except -1
    cdef int _begin(self) except -1
    cdef int _check(self, int first, Py_ssize_t length) except -1
    cdef bint _control(self) except -1
    cdef int _place(self) except -1
    cdef int _piece(self) except -1
    cdef int _add(self, bytes piece, bint last) except -1
    cdef int _chunks(self, bytes piece, bint last) except -1
    cdef int _chunk(self, bytes piece, bint last) except -1
    cdef int _finish(self) except -1
    cdef int _resize(self, Py_ssize_t size) except -1
    cdef byte *_target(self) noexcept
    cdef int _fill(self) except -1
    cdef int _checked(self, const byte *data, Py_ssize_t size, bint last) except -1
