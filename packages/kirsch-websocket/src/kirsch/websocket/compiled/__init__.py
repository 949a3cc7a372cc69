"""Compiled versions of core's Parser, Protocol and mask, and of loops' Pump, with the same behaviour."""

from kirsch.websocket.compiled.frame import mask
from kirsch.websocket.compiled.parser import Parser
from kirsch.websocket.compiled.protocol import Protocol
from kirsch.websocket.compiled.pump import Pump

__all__ = ["Parser", "Protocol", "Pump", "mask"]
