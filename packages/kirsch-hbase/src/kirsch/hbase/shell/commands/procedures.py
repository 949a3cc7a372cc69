"""procedures: what the master is at."""

import base64
import json
from typing import Any

from kirsch.hbase.shell.answer import Grid
from kirsch.hbase.shell.command import command
from kirsch.hbase.shell.session import Session


@command("procedures")
def list_procedures(session: Session) -> Grid:
    """List the master's procedures, those that are done too while it remembers them.

    list_procedures
    """
    rows = [
        (
            int(p.get("procId", 0)),
            str(p.get("className", "")).rpartition(".")[2],
            p.get("state"),
            int(p.get("submittedTime", 0)),
            int(p.get("lastUpdate", 0)),
            _table(p.get("stateMessage", [])),
        )
        for p in _json(session.admin("getProcedures"))
    ]
    return Grid(("PID", "NAME", "STATE", "SUBMITTED", "LAST_UPDATE", "TABLE"), rows, "procedure")


@command("procedures")
def list_locks(session: Session) -> Grid:
    """List the locks that procedures hold, and who waits for them.

    list_locks
    """
    rows = [
        (
            lock.get("resourceType"),
            lock.get("resourceName"),
            lock.get("lockType"),
            (lock.get("exclusiveLockOwnerProcedure") or {}).get("procId"),
            len(lock.get("waitingProcedures") or ()),
        )
        for lock in _json(session.admin("getLocks"))
    ]
    return Grid(("RESOURCE", "NAME", "LOCK", "OWNER_PID", "WAITING"), rows, "lock")


def _table(message: Any) -> str | None:
    """The table that a procedure's state names first."""
    if isinstance(message, list):
        return next((found for one in message if (found := _table(one))), None)
    if not isinstance(message, dict):
        return None
    if isinstance(name := message.get("tableName"), dict) and "qualifier" in name:
        namespace, table = (
            base64.b64decode(name.get(key, "")).decode() for key in ("namespace", "qualifier")
        )
        return table if namespace in ("", "default") else f"{namespace}:{table}"
    return next((found for one in message.values() if (found := _table(one))), None)


def _json(answer: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(str(answer))
    return found
