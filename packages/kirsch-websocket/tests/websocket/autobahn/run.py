"""All agents through Autobahn, a few at a time."""

import os
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.websocket.autobahn.suite import Outcome, run_client, run_server
from tests.websocket.programs import Program


@dataclass(frozen=True, slots=True)
class Run:
    """One run each, under way or done: `servers["asyncio"].result()` waits, and raises what went wrong."""

    servers: dict[str, Future[Outcome]]
    clients: dict[str, Future[Outcome]]


# Half of wstest's time is waiting for its own timers, so more run at once than there are cores; not many
# more, for some cases have a second to be answered in.
def pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1 + (os.cpu_count() or 1))


def begin(
    pool: ThreadPoolExecutor,
    servers: Iterable[Program],
    clients: Iterable[Program],
    cases: tuple[str, ...],
    folder: Path,
    limit: float,
) -> Run:
    """Each agent's cases, `limit` seconds at most; Autobahn's own reports go to folders in `folder`."""
    return Run(
        {
            agent.name: pool.submit(run_server, agent, cases, folder / "servers" / agent.name, limit)
            for agent in servers
        },
        {
            agent.name: pool.submit(run_client, agent, cases, folder / "clients" / agent.name, limit)
            for agent in clients
        },
    )
