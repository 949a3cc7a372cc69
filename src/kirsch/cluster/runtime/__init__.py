"""What runs units on one machine: the protocol, and the runtime of plain processes."""

from kirsch.cluster.runtime.base import Prepared, Runtime, RuntimeState, StateListener
from kirsch.cluster.runtime.process import ProcessRuntime

__all__ = ["Prepared", "ProcessRuntime", "Runtime", "RuntimeState", "StateListener"]
