"""Procedures: what the master is doing, and what it holds locked meanwhile."""

import json
from typing import Any

from kirsch.hbase.calls import call


class Procedures:
    """`admin.procedures`."""

    def __init__(self, java: Any) -> None:
        self._java = java

    def locks(self) -> list[dict[str, Any]]:
        """Locks that are held or waited for: resourceType, resourceName, lockType, …"""
        found: list[dict[str, Any]] = json.loads(str(call(self._java.getLocks)))
        return found

    def abort(self, number: int) -> bool:
        """Ask a procedure to stop; whether it will."""
        return bool(call(self._java.abortProcedure, number, True))

    def list(self) -> list[dict[str, Any]]:
        """All that the master remembers, as it tells them: procId, className, state, submittedTime (ms), …"""
        found: list[dict[str, Any]] = json.loads(str(call(self._java.getProcedures)))
        return found
