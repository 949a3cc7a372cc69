"""As `kirsch.websocket.frame`, `parser`, `protocol` and `pump`, in Cython: structure and names are theirs."""

from kirsch.websocket.compiled.frame import mask
from kirsch.websocket.compiled.parser import Parser
from kirsch.websocket.compiled.protocol import Protocol
from kirsch.websocket.compiled.pump import Pump

__all__ = ["Parser", "Protocol", "Pump", "mask"]
