"""pika's connection to a broker on an asyncio event loop, with asyncio's own transports.

`AsyncioConnection` takes an `AbstractIOServices` as its `custom_ioloop`. pika's own one writes each frame
with a call of its own, reads 4 KiB at a time, and has no public way to end a connection whose peer is silent.
This one writes the frames of a loop iteration together, reads what is there, and can abort. pika's docstrings
call the interface internal, though the parameter is public: tests/amqp/test_amqp_plugin.py checks all three.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

from pika import ConnectionParameters
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.adapters.utils.nbio_interface import (
    AbstractIOReference,
    AbstractIOServices,
    AbstractStreamTransport,
    AbstractTimerReference,
)

Opened = Callable[[Any], object]
Gone = Callable[[Any, Any], object]


class Connection:
    """One connection attempt and, once it has opened, the connection.

    Attributes:
        amqp: pika's connection.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        parameters: ConnectionParameters,
        opened: Opened,
        failed: Gone,
        closed: Gone,
    ) -> None:
        self._services = Services(loop)
        self.amqp: Any = AsyncioConnection(parameters, opened, failed, closed, custom_ioloop=self._services)

    def abort(self) -> None:
        """End the connection without waiting for the broker; `closed` or `failed` is called soon."""
        if not (self.amqp.is_closing or self.amqp.is_closed):
            self.amqp.close()
        if self._services.transport is not None:
            self._services.transport.abort()


class _Timer(AbstractTimerReference):
    def __init__(self, handle: asyncio.TimerHandle) -> None:
        self._handle = handle

    def cancel(self) -> None:
        self._handle.cancel()


class _Task(AbstractIOReference):
    """A coroutine whose result, or exception, goes to a callback unless it is cancelled."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Coroutine[Any, Any, Any],
        on_done: Callable[[Any], object],
        discard: Callable[[Any], object] = lambda result: None,
    ) -> None:
        self._on_done = on_done
        self._discard = discard
        self._cancelled = False
        self._task = loop.create_task(work)
        self._task.add_done_callback(self._done)

    def cancel(self) -> bool:
        # A task that has ended cannot be cancelled, and its callback may be yet to come: pika has given the
        # connection up by then, and may not hear of it.
        self._cancelled = True
        return self._task.cancel()

    def _done(self, task: "asyncio.Task[Any]") -> None:
        if task.cancelled():
            return
        result = task.exception() or task.result()
        if not self._cancelled:
            self._on_done(result)
        elif not isinstance(result, BaseException):
            self._discard(result)


class Services(AbstractIOServices):
    """The event loop as pika's connection uses it.

    Attributes:
        transport: that of the open stream; None before and after.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.transport: Transport | None = None

    def get_native_ioloop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def close(self) -> None:
        """Not called by connections; the loop belongs to the application."""

    run = stop = close

    def add_callback_threadsafe(self, callback: Callable[..., object]) -> None:
        self._loop.call_soon_threadsafe(callback)

    def call_later(self, delay: float, callback: Callable[..., object]) -> _Timer:
        return _Timer(self._loop.call_later(delay, callback))

    def getaddrinfo(
        self,
        host: str,
        port: int,
        on_done: Callable[[Any], object],
        family: int = 0,
        socktype: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> _Task:
        found = self._loop.getaddrinfo(host, port, family=family, type=socktype, proto=proto, flags=flags)
        return _Task(self._loop, found, on_done)

    def connect_socket(
        self, sock: socket.socket, resolved_addr: Any, on_done: Callable[[Any], object]
    ) -> _Task:
        return _Task(self._loop, self._loop.sock_connect(sock, resolved_addr), on_done)

    def create_streaming_connection(
        self,
        protocol_factory: Callable[[], Any],
        sock: socket.socket,
        on_done: Callable[[Any], object],
        ssl_context: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> _Task:

        def done(result: Transport | BaseException) -> None:
            if isinstance(result, BaseException):
                on_done(result)
                return
            self.transport = result
            on_done((result, result.attach(protocol_factory())))
            result.resume()

        stream = self._stream(sock, ssl_context, server_hostname)
        return _Task(self._loop, stream, done, discard=Transport.abort)

    async def _stream(
        self, sock: socket.socket, ssl_context: ssl.SSLContext | None, server_hostname: str | None
    ) -> "Transport":
        transport = Transport(self._loop, self._lost)
        try:
            await self._loop.create_connection(
                lambda: transport, sock=sock, ssl=ssl_context, server_hostname=server_hostname
            )
        except BaseException:
            sock.close()
            raise
        return transport

    def _lost(self) -> None:
        self.transport = None


class Transport(asyncio.Protocol, AbstractStreamTransport):
    """A stream between asyncio's transport and pika's protocol: what is written is sent once an iteration."""

    def __init__(self, loop: asyncio.AbstractEventLoop, lost: Callable[[], None]) -> None:
        self._loop = loop
        self._lost = lost
        self._stream: Any = None
        self._protocol: Any = None
        self._unsent: list[bytes] = []

    # asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        self._stream = transport
        # pika's protocol is attached in a moment; nothing may arrive before.
        transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        kept_open: bool | None = self._protocol.eof_received()
        return kept_open

    def connection_lost(self, error: Exception | None) -> None:
        self._unsent.clear()
        self._lost()
        if self._protocol is not None:
            self._protocol.connection_lost(error)

    # AbstractStreamTransport

    def attach(self, protocol: Any) -> Any:
        """Introduce pika's protocol to this transport, and return it."""
        self._protocol = protocol
        protocol.connection_made(self)
        return protocol

    def resume(self) -> None:
        """Begin to read, once pika knows the connection."""
        self._stream.resume_reading()

    def abort(self) -> None:
        self._unsent.clear()
        self._stream.abort()

    def get_protocol(self) -> Any:
        return self._protocol

    def write(self, data: bytes) -> None:
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(data)

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self._unsent)) + int(self._stream.get_write_buffer_size())

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent and not self._stream.is_closing():
            self._stream.write(b"".join(unsent))
