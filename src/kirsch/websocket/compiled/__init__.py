"""As `kirsch.websocket.frame`, `parser` and `protocol`, in Cython: structure and names are theirs."""

from kirsch.websocket.compiled.frame import mask
from kirsch.websocket.compiled.parser import Parser
from kirsch.websocket.compiled.protocol import Protocol

__all__ = ["Parser", "Protocol", "mask"]
