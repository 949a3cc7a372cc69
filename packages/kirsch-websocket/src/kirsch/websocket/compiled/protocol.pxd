from kirsch.websocket.compiled.frame cimport byte
from kirsch.websocket.compiled.parser cimport Parser
from kirsch.websocket.compiled.sending cimport Sending


cdef class Protocol(Sending):
    cdef public bint heard
    cdef Parser _parser

    cdef Parser _reader(self)
    cdef list _events(self)
    cdef object _target(self)
    cdef int _fed(self, const byte *data, Py_ssize_t size) except -1
    cdef int _dispatch(self, list events) except -1
