"""How pika's connections write and read: a message at once, and much at a time.

pika 1.3 and 1.4 write each frame of a message by a call of its own, which wakes the broker three times for
one message, and read 4 KiB at a time. Neither can be said otherwise; what is overridden here is not public.
"""

from collections.abc import Sequence
from typing import Any

from pika.adapters.asyncio_connection import AsyncioConnection
from pika.adapters.select_connection import SelectConnection

READ = 64 << 10


class _Framing:
    """Before one of pika's connections among the bases."""

    def _output_marshaled_frames(self, marshaled_frames: Sequence[bytes]) -> None:
        pika: Any = super()
        pika._output_marshaled_frames([b"".join(marshaled_frames)])

    def _proto_connection_made(self, transport: Any) -> None:
        transport._MAX_RECV_BYTES = READ
        pika: Any = super()
        pika._proto_connection_made(transport)


Selected: Any = type("Selected", (_Framing, SelectConnection), {})
OnAsyncio: Any = type("OnAsyncio", (_Framing, AsyncioConnection), {})
