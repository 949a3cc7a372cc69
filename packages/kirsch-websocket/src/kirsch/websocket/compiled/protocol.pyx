# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""`kirsch.websocket.protocol` in Cython."""

import os

from kirsch.websocket.compiled.frame cimport byte
from kirsch.websocket.compiled.parser cimport Parser
from kirsch.websocket.compiled.sending cimport Sending

from kirsch.websocket.errors import Closed, ProtocolError
from kirsch.websocket.limits import Limits

cdef enum:
    CLOSED = 3

cdef object default_limits = Limits()


cdef class Protocol(Sending):
    """The state of one side.

    See `kirsch.websocket.protocol`, of which all this is the same.
    """

    def __init__(
        self, *, bint client=False, limits=default_limits, codec=None, bint stream=False, entropy=os.urandom
    ):
        Sending.__init__(self, client=client, limits=limits, codec=codec, entropy=entropy)
        self._parser = Parser(client=client, limits=limits, codec=codec, stream=stream)
        self.heard = True

    def receive(self, data):
        """The events that `data` completes; what breaks the protocol sets `error` and fails it."""
        cdef const byte[::1] view
        if self.error is None and self.state != CLOSED:
            view = data
            if data is None:
                raise TypeError("there are no bytes in None")
            if view.shape[0]:
                try:
                    self._reader().run(&view[0], view.shape[0])
                except ProtocolError as error:
                    self.fail(error)
        return self._events()

    def get_buffer(self):
        """Where the rest of a large payload is best read to, if one is on its way: then `advance()`."""
        return self._target()

    cdef object _target(self):
        return None if self.error is not None else self._reader()._rest

    def advance(self, Py_ssize_t count):
        """As `receive()`: so many bytes were read to the start of `get_buffer()`."""
        if self.error is None and self.state != CLOSED:
            try:
                self._reader().advance(count)
            except ProtocolError as error:
                self.fail(error)
        return self._events()

    cdef Parser _reader(self):
        if self._parser is None:
            raise RuntimeError("__init__() was not called")
        return self._parser

    cdef list _events(self):
        cdef Parser parser = self._reader()
        cdef list events = parser.events
        parser.events = []
        return events

    def feed(self, data):
        """As `receive()`, but what extends this class is told of each event by a call of `received_…`."""
        self.heard = True
        self._dispatch(self.receive(data))
        self.arrived(len(data))

    def filled(self, Py_ssize_t count):
        """As `advance()`, but what extends this class is told of each event by a call of `received_…`."""
        self.heard = True
        self._dispatch(self.advance(count))
        self.arrived(count)

    cdef int _fed(self, const byte *data, Py_ssize_t size) except -1:
        """As `feed()`, of bytes that are no object."""
        self.heard = True
        if self.error is None and self.state != CLOSED:
            try:
                self._reader().run(data, size)
            except ProtocolError as error:
                self.fail(error)
        self._dispatch(self._events())
        self.arrived(size)
        return 0

    def received_message(self, message):
        """A message came. For those who extend this class."""

    def received_other(self, event):
        """Something else came: a chunk, or a control frame to answer. For those who extend this class."""

    def arrived(self, Py_ssize_t count):
        """So many bytes came, and all they brought has been told. For those who extend this class."""

    def crashed(self, error):
        """`received_…` raised this. For those who extend this class."""
        raise error

    cdef int _dispatch(self, list events) except -1:
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t count = len(events)
        if count > 1:
            # Replies to what came together go together.
            self.corked = True
        try:
            received = self.received_message
            while at < count:
                try:
                    while at < count:
                        event = events[at]
                        at += 1
                        if type(event) is str or type(event) is bytes or type(event) is memoryview:
                            received(event)
                        else:
                            self.received_other(event)
                except Closed:
                    # It sent on a connection that is closing: what is left it is told of all the same.
                    pass
        except Exception as error:
            self.crashed(error)
        finally:
            self.corked = False
        return 0

    def end(self):
        """Nothing comes or goes any more: drop all that waits, and what has come of a message."""
        Sending.end(self)
        self._reader().close()
