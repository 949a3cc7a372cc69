# cython: language_level=3, boundscheck=False, wraparound=False
"""`kirsch.hbase.cell.decode_rows` in Cython, with raw pointers.

One source in Cython's pure-Python mode would take 1.4 times as long (bench/RESULTS.md).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from libc.string cimport memcmp

from kirsch.hbase.cell import Cell

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
