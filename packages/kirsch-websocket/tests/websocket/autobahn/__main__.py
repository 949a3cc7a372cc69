"""`python -m tests.websocket.autobahn`: run Autobahn, print what fails, write the report page.

With --record what an agent's run came to is kept as soon as it ends, beside what others did, and the page
(the same name with .md) is made of all of them: the cases can be run a few at a time, and a run that is cut
short has lost only the agents that were under way.

Exit status: 0 everything passes, 1 something does not, 2 wrong usage or no Autobahn to be had.
"""

import argparse
import datetime
import importlib.metadata
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import as_completed
from pathlib import Path

from tests.websocket.autobahn import agents, record, report, suite
from tests.websocket.autobahn.run import Run, begin, pool
from tests.websocket.autobahn.suite import Outcome, Unavailable
from tests.websocket.programs import Program

# All 517 cases take one agent about twelve minutes alone.
LIMIT = {False: 600.0, True: 5400.0}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.websocket.autobahn", description=__doc__)
    parser.add_argument("--all", action="store_true", help="all 517 cases, not only the quick ones")
    parser.add_argument("--case", action="append", metavar="PATTERN", help="these cases instead: 7.*, 12.1.3")
    parser.add_argument("--agent", action="append", metavar="NAME", help="these agents only: asyncio-pure")
    parser.add_argument("--kind", choices=("server", "client"), help="servers or clients only")
    parser.add_argument("--record", type=Path, metavar="FILE", help="keep what came of it in this JSON file")
    parser.add_argument(
        "--beside", default="nothing else", metavar="TEXT", help="what else the machine does, for the page"
    )
    parser.add_argument("--folder", type=Path, help="keep Autobahn's own reports in this folder")
    arguments = parser.parse_args()

    servers = [] if arguments.kind == "client" else chosen(agents.servers(), arguments.agent)
    clients = [] if arguments.kind == "server" else chosen(agents.clients(), arguments.agent)
    if not servers and not clients:
        parser.error("no such agent: " + ", ".join(arguments.agent))
    try:
        suite.prepare()
    except Unavailable as error:
        print(error, file=sys.stderr)
        return 2
    before = os.getloadavg()[0]
    cases = tuple(arguments.case or (suite.ALL if arguments.all else suite.QUICK))
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="autobahn-"))
    with pool() as workers:
        run = begin(workers, servers, clients, cases, folder.resolve(), LIMIT[arguments.all])
        outcomes = []
        for kind, outcome in collect(run):
            outcomes.append(outcome)
            if arguments.record:
                keep(arguments.record, kind, outcome, arguments.beside, [before, os.getloadavg()[0]])
    print(f"Autobahn's own reports are in {folder}")
    complete = len(outcomes) == len(servers) + len(clients)
    return 0 if complete and not any(outcome.failures for outcome in outcomes) else 1


def chosen(all_of_them: list[Program], names: list[str] | None) -> list[Program]:
    return [agent for agent in all_of_them if names is None or agent.name in names]


def collect(run: Run) -> Iterator[tuple[str, Outcome]]:
    """What each agent's run came to, printed as it ends; one that could not be run is told, not counted."""
    agents = {future: ("server", name) for name, future in run.servers.items()}
    agents |= {future: ("client", name) for name, future in run.clients.items()}
    for future in as_completed(agents):
        kind, name = agents[future]
        try:
            outcome = future.result()
        except (AssertionError, OSError) as error:
            print(f"{kind} {name}: {error}", flush=True)
            continue
        passed = len(outcome.verdicts) - len(outcome.failures)
        print(f"{kind} {name}: {passed} of {len(outcome.verdicts)}, {outcome.seconds:.0f} s", flush=True)
        for case, verdict in outcome.failures.items():
            print(f"  {case} {verdict}", flush=True)
        for case in outcome.pinged:
            print(f"  {case} was silent until it pinged", flush=True)
        yield kind, outcome


def keep(path: Path, kind: str, outcome: Outcome, beside: str, load: list[float]) -> None:
    """Add an outcome to those in the file, and write the page beside it."""
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    runs = record.merged(record.load(path), record.of(kind, outcome, date, where(), beside, load))
    record.save(path, runs)
    path.with_suffix(".md").write_text(report.page(runs))


def where() -> str:
    """Python, and what the providers run on."""
    found = [f"{platform.python_implementation()} {platform.python_version()}"]
    for name in ("tornado", "gevent", "cherrypy"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


if __name__ == "__main__":
    sys.exit(main())
