# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""`kirsch.websocket.core.protocol` in Cython."""

import os

from kirsch.websocket.compiled.frame cimport byte
from kirsch.websocket.compiled.parser cimport Parser
from kirsch.websocket.compiled.sending cimport Sending

from kirsch.websocket.core.errors import Closed, ProtocolError
from kirsch.websocket.core.limits import Limits

cdef enum:
    CLOSED = 3

cdef object default_limits = Limits()


cdef class Protocol(Sending):
    """State of one side of a connection.

    See `kirsch.websocket.core.protocol`.
    """

    views = False

    def __init__(
        self, *, bint client=False, limits=default_limits, codec=None, bint stream=False, entropy=os.urandom
    ):
        Sending.__init__(self, client=client, limits=limits, codec=codec, entropy=entropy)
        self._parser = Parser(
            client=client, limits=limits, codec=codec, stream=stream, views=self.views
        )
        self.heard = True

    def receive(self, data):
        """Return the events that `data` completes; a violation of the protocol sets `error` and closes."""
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
        """Return a buffer to read the rest of a large payload into, or None; then call `advance()`."""
        return self._target()

    cdef object _target(self):
        return None if self.error is not None else self._reader()._rest

    def advance(self, Py_ssize_t count):
        """Return events as `receive()` does, after `count` bytes were read into `get_buffer()`."""
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
        """Receive bytes, and call `received_message` or `received_other` for each event."""
        self.heard = True
        self._dispatch(self.receive(data))
        self.arrived(len(data))

    def filled(self, Py_ssize_t count):
        """Process bytes in `get_buffer()`, and call `received_message` or `received_other` for each event."""
        self.heard = True
        self._dispatch(self.advance(count))
        self.arrived(count)

    cdef int _fed(self, const byte *data, Py_ssize_t size) except -1:
        """Do as `feed()`, with bytes that are no object."""
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
        """Process a message. For subclasses."""

    def received_other(self, event):
        """Process another event: a chunk, or a control frame to answer. For subclasses."""

    def arrived(self, Py_ssize_t count):
        """Act on `count` bytes that came, after all their events. For subclasses."""

    def crashed(self, error):
        """Handle an exception of a callback. For subclasses."""
        raise error

    cdef int _dispatch(self, list events) except -1:
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t count = len(events)
        if count > 1:
            # Replies to messages that came together are written together.
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
                    # The application sent on a closing connection; it gets the remaining events all the same.
                    pass
        except Exception as error:
            self.crashed(error)
        finally:
            self.corked = False
        return 0

    def end(self):
        """Drop everything, since the connection is gone."""
        Sending.end(self)
        self._reader().close()
