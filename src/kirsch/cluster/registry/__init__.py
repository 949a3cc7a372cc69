"""The store of a cluster: one protocol, several implementations."""

from .base import (
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
from .memory import MemoryRegistry
from .sqlite import SQLiteRegistry

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
