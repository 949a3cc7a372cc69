# cython: language_level=3, boundscheck=False, wraparound=False
"""`kirsch.hbase.cell.decode_rows` and `kirsch.hbase.mutation.put` in Cython, with raw pointers.

One source in Cython's pure-Python mode would take 1.4 times as long (bench/RESULTS.md).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from libc.string cimport memcmp, memcpy

from kirsch.hbase.cell import Cell
from kirsch.hbase.mutation import PLAIN

cdef object new = tuple.__new__
ctypedef const unsigned char *place


cdef inline long long length(place at) noexcept nogil:
    """Return the number in the four bytes of a length."""
    return (<long long>at[0] << 24) | (at[1] << 16) | (at[2] << 8) | at[3]


cdef inline int64_t stamp(place at) noexcept nogil:
    """Return the number in the eight bytes of a timestamp."""
    cdef unsigned long long number = 0
    cdef int index
    for index in range(8):
        number = (number << 8) | at[index]
    return <int64_t>number


cdef inline bytes same(bytes before, place begin, place end):
    """Return the bytes between two places: the object from before, if its bytes are the same."""
    cdef Py_ssize_t size = end - begin
    if before is not None and PyBytes_GET_SIZE(before) == size:
        if not memcmp(PyBytes_AS_STRING(before), begin, size):
            return before
    return PyBytes_FromStringAndSize(<const char *>begin, size)


def decode_rows(bytes block not None):
    """Return the rows of a block: their keys and cells. Raises ValueError where the block ends within a cell,
    or a cell's parts are longer than it."""
    cdef place at = <place>PyBytes_AS_STRING(block)
    cdef place last = at + PyBytes_GET_SIZE(block)
    cdef place row, family, qualifier, value, end
    cdef bytes key = None, found, family_name = None, qualifier_name = None
    cdef list members = None, rows = []
    while at < last:
        # What a pointer is compared with is never beyond the block, where no pointer may be.
        if last - at < 15 or last - at < 4 + length(at):
            raise ValueError("the block ends within a cell")
        end = at + 4 + length(at)
        row = at + 14
        if length(at + 4) > end - at - 12 or (at[12] << 8 | at[13]) >= end - row:
            raise ValueError("the block ends within a cell")
        value = at + 12 + length(at + 4)
        family = row + (at[12] << 8 | at[13])
        if family[0] + 10 > value - family:
            raise ValueError("the block ends within a cell")
        qualifier = family + 1 + family[0]
        found = same(key, row, family)
        if found is not key:
            key = found
            members = []
            rows.append((key, members))
        family_name = same(family_name, family + 1, qualifier)
        qualifier_name = same(qualifier_name, qualifier, value - 9)
        members.append(
            new(
                Cell,
                (
                    key,
                    family_name,
                    qualifier_name,
                    stamp(value - 9),
                    PyBytes_FromStringAndSize(<const char *>value, end - value),
                    (value - 1)[0],
                ),
            )
        )
        at = end
    return rows


cdef inline Py_ssize_t width(unsigned long long number) noexcept nogil:
    """Return the number of bytes of a varint."""
    cdef Py_ssize_t size = 1
    while number >= 0x80:
        number >>= 7
        size += 1
    return size


cdef inline unsigned char *varint(unsigned char *at, unsigned long long number) noexcept nogil:
    while number >= 0x80:
        at[0] = <unsigned char>(number & 0x7F | 0x80)
        at += 1
        number >>= 7
    at[0] = <unsigned char>number
    return at + 1


cdef inline unsigned char *head(unsigned char *at, unsigned char tag, Py_ssize_t size) noexcept nogil:
    """Write the tag and length of a field."""
    at[0] = tag
    return varint(at + 1, size)


cdef inline unsigned char *field(unsigned char *at, unsigned char tag, bytes data) noexcept:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    at = head(at, tag, size)
    memcpy(at, PyBytes_AS_STRING(data), size)
    return at + size


cdef inline Py_ssize_t whole(Py_ssize_t size) noexcept nogil:
    """Return the length of a field whose data has this length."""
    return 1 + width(size) + size


cdef inline Py_ssize_t inner(bytes qualifier, bytes value, bint stamped, object timestamp) except -1:
    """Return the length of a QualifierValue."""
    cdef Py_ssize_t size = whole(PyBytes_GET_SIZE(qualifier)) + whole(PyBytes_GET_SIZE(value))
    return size + 1 + width(<unsigned long long><int64_t>timestamp) if stamped else size


def put(bytes row not None, values, settings=PLAIN):
    """Encode a put as an action of a block; values are Value, or the first three parts of one."""
    cdef bytes extra = b"" if settings is PLAIN else settings.encoded()
    cdef bytes family, qualifier, value, made
    cdef list given = values if type(values) is list else list(values)
    cdef object one
    cdef bint stamped
    cdef object timestamp
    cdef Py_ssize_t size, column, message = whole(PyBytes_GET_SIZE(row)) + 2 + PyBytes_GET_SIZE(extra)
    cdef unsigned char *at
    # Twice through the values: lengths come before what they are of.
    for one in given:
        family, qualifier, value = one[0], one[1], one[2]
        if family is None or qualifier is None or value is None:
            raise TypeError("a column and its value are bytes, not None")
        timestamp = one[3] if len(one) > 3 else None
        column = whole(PyBytes_GET_SIZE(family)) + whole(
            inner(qualifier, value, timestamp is not None, timestamp)
        )
        message += whole(column)
    size = whole(message)
    made = PyBytes_FromStringAndSize(NULL, whole(size))
    at = head(<unsigned char *>PyBytes_AS_STRING(made), 0x1A, size)
    at = field(head(at, 0x12, message), 0x0A, row)
    at[0], at[1] = 0x10, 2
    at += 2
    for one in given:
        family, qualifier, value = one[0], one[1], one[2]
        timestamp = one[3] if len(one) > 3 else None
        stamped = timestamp is not None
        size = inner(qualifier, value, stamped, timestamp)
        at = field(head(at, 0x1A, whole(PyBytes_GET_SIZE(family)) + whole(size)), 0x0A, family)
        at = field(field(head(at, 0x12, size), 0x0A, qualifier), 0x12, value)
        if stamped:
            at[0] = 0x18
            at = varint(at + 1, <unsigned long long><int64_t>timestamp)
    memcpy(at, PyBytes_AS_STRING(extra), PyBytes_GET_SIZE(extra))
    return made
