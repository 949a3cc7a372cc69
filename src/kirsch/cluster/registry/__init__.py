"""The store of a cluster: one protocol, several implementations."""

from kirsch.cluster.registry.base import (
    MAX_OPERATIONS,
    MAX_REQUEST_BYTES,
    Change,
    Compacted,
    Condition,
    Created,
    Delete,
    Entry,
    LeaseLost,
    LimitExceeded,
    Listing,
    Operation,
    Put,
    Registry,
    RegistryError,
    Unavailable,
    Unchanged,
)
from kirsch.cluster.registry.memory import MemoryRegistry
from kirsch.cluster.registry.sqlite import SQLiteRegistry

__all__ = [
    "MAX_OPERATIONS",
    "MAX_REQUEST_BYTES",
    "Change",
    "Compacted",
    "Condition",
    "Created",
    "Delete",
    "Entry",
    "LeaseLost",
    "LimitExceeded",
    "Listing",
    "MemoryRegistry",
    "Operation",
    "Put",
    "Registry",
    "RegistryError",
    "SQLiteRegistry",
    "Unavailable",
    "Unchanged",
]
