"""Who is tested: our echo server on every provider, our clients, each compiled and in pure Python."""

import sys
from pathlib import Path

from tests.websocket.programs import Program

SERVERS = ("asyncio", "threaded", "tornado", "gevent", "cherrypy")
CLIENTS = ("threaded", "asyncio", "tornado")
# Where the pure engine runs too: one provider that calls back and one that blocks; the engine is the same.
PURE = ("asyncio", "threaded")
PROGRAMS = Path(__file__).parent / "clients"


def variants(kind: str, command: tuple[str, ...], pure: bool) -> list[Program]:
    agents = [Program(kind, command)]
    if pure:
        agents.append(Program(f"{kind}-pure", command, {"KIRSCH_PURE": "1"}))
    return agents


def servers(pure: tuple[str, ...] = PURE) -> list[Program]:
    """`kirsch ws serve` on each provider; those in `pure` without compiled modules too."""
    run = (sys.executable, "-m", "kirsch.cli.main", "ws", "serve", "127.0.0.1:0", "--provider")
    return [agent for name in SERVERS for agent in variants(name, (*run, name), name in pure)]


def clients(pure: tuple[str, ...] = PURE) -> list[Program]:
    """The programs in clients/, one a provider; those in `pure` without compiled modules too.

    Each is given two arguments more, the fuzzing server's URL and its own name, asks for the number of cases,
    runs them, and ends.
    """
    return [
        agent
        for name in CLIENTS
        for agent in variants(name, (sys.executable, str(PROGRAMS / f"echo_{name}.py")), name in pure)
    ]
