from libc.stdint cimport uint32_t

ctypedef unsigned char byte


cdef struct Utf8:
    # The number of bytes that the current character lacks, and the range of the next one.
    int missing
    byte low
    byte high


cdef void lay(byte *target, const byte *source, Py_ssize_t size, uint32_t key) noexcept nogil
cdef uint32_t turned(uint32_t key, Py_ssize_t offset) noexcept nogil
cdef int header(byte *target, int first, Py_ssize_t length, bint masked) noexcept nogil
cdef bint is_text(Utf8 *state, const byte *data, Py_ssize_t size) noexcept nogil
