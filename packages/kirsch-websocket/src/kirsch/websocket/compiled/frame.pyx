# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""`kirsch.websocket.core.frame` in Cython: masks, headers, and UTF-8 as it arrives."""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy


cdef extern from "lay.h":
    void kirsch_lay_here(byte *at, size_t size, uint32_t key) noexcept nogil
    void kirsch_lay(byte *target, const byte *source, Py_ssize_t size, uint32_t key) noexcept nogil


# glibc returns free memory at the end of its heap to the system, and with messages of some 64 KiB it would do
# so, and fetch it again page by page, at every read. After a larger block was freed it keeps that much.
PyMem_RawFree(PyMem_RawMalloc(1 << 20))


cdef void lay(byte *target, const byte *source, Py_ssize_t size, uint32_t key) noexcept nogil:
    """Mask `source` to `target`, which may be the same."""
    kirsch_lay(target, source, size, key)


cdef uint32_t turned(uint32_t key, Py_ssize_t offset) noexcept nogil:
    """Return the key rotated for an offset into a payload; in memory's order, as on the wire."""
    cdef byte bytes[4]
    cdef byte result[4]
    cdef int i
    memcpy(bytes, &key, 4)
    for i in range(4):
        result[i] = bytes[(offset + i) & 3]
    memcpy(&key, result, 4)
    return key


def mask(data, bytes key not None, Py_ssize_t offset=0):
    """Mask or unmask `data`, which begins `offset` bytes into a payload, with `key` (4 bytes)."""
    if data is None:
        raise TypeError("there are no bytes in None")
    if len(key) != 4:
        raise ValueError("a key has 4 bytes")
    cdef const byte[::1] view = data
    cdef Py_ssize_t size = view.shape[0]
    cdef bytes result = PyBytes_FromStringAndSize(NULL, size)
    cdef uint32_t word
    memcpy(&word, PyBytes_AS_STRING(key), 4)
    if size:
        lay(<byte *>PyBytes_AS_STRING(result), &view[0], size, turned(word, offset))
    return result


def mask_in_place(bytearray data not None, bytes key not None):
    """Mask or unmask `data` where it is."""
    cdef uint32_t word
    if PyBytes_GET_SIZE(key) != 4:
        raise ValueError("a key has 4 bytes")
    memcpy(&word, PyBytes_AS_STRING(key), 4)
    kirsch_lay_here(<byte *>PyByteArray_AS_STRING(data), PyByteArray_GET_SIZE(data), word)


cdef int header(byte *target, int first, Py_ssize_t length, bint masked) noexcept nogil:
    """Write a frame's header without its key; return its size, 10 at most."""
    cdef byte bit = 0x80 if masked else 0
    cdef int i
    target[0] = <byte>first
    if length < 126:
        target[1] = bit | <byte>length
        return 2
    if length < 65536:
        target[1] = bit | 126
        target[2] = <byte>(length >> 8)
        target[3] = <byte>length
        return 4
    target[1] = bit | 127
    for i in range(8):
        target[2 + i] = <byte>(<uint64_t>length >> (56 - 8 * i))
    return 10


cdef bint is_text(Utf8 *state, const byte *data, Py_ssize_t size) noexcept nogil:
    """Return True if `data` is valid UTF-8 (RFC 3629) after the bytes before, which `state` stands for."""
    cdef Py_ssize_t at = 0
    cdef uint64_t word
    cdef byte one
    while at < size:
        if state.missing == 0:
            while at + 8 <= size:
                memcpy(&word, data + at, 8)
                if word & 0x8080808080808080ULL:
                    break
                at += 8
            if at == size:
                break
            one = data[at]
            at += 1
            if one < 0x80:
                continue
            state.low, state.high = 0x80, 0xBF
            if one < 0xC2 or one > 0xF4:
                return False
            if one < 0xE0:
                state.missing = 1
            elif one < 0xF0:
                state.missing = 2
                if one == 0xE0:
                    state.low = 0xA0
                elif one == 0xED:
                    state.high = 0x9F
            else:
                state.missing = 3
                if one == 0xF0:
                    state.low = 0x90
                elif one == 0xF4:
                    state.high = 0x8F
        else:
            one = data[at]
            at += 1
            if one < state.low or one > state.high:
                return False
            state.missing -= 1
            state.low, state.high = 0x80, 0xBF
    return True
