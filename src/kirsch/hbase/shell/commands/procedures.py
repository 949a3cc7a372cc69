"""procedures: what the master is at."""

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
            json.dumps(p.get("stateMessage", [])),
        )
        for p in _json(session.admin("getProcedures"))
    ]
    return Grid(("PID", "NAME", "STATE", "SUBMITTED", "LAST_UPDATE", "PARAMETERS"), rows, "procedure")


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


def _json(answer: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(str(answer))
    return found
