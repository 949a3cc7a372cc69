"""Who is tested: our echo server on every provider, our clients, each compiled and in pure Python."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

SERVERS = ("asyncio", "threaded", "tornado", "gevent", "cherrypy")
CLIENTS = ("threaded", "asyncio", "tornado")
# Where the pure engine runs too: one provider that calls back and one that blocks; the engine is the same.
PURE = ("asyncio", "threaded")
PROGRAMS = Path(__file__).parent / "clients"


@dataclass(frozen=True, slots=True)
class Agent:
    """A program under test: its name in the reports, how it is run, what its environment has besides.

    A server prints `listening on URL` when it is ready and ends by SIGTERM. A client is given two arguments
    more, the fuzzing server's URL and the name, asks for the number of cases, runs each, and ends.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


def variants(kind: str, command: tuple[str, ...], pure: bool) -> list[Agent]:
    agents = [Agent(kind, command)]
    if pure:
        agents.append(Agent(f"{kind}-pure", command, {"KIRSCH_PURE": "1"}))
    return agents


def servers(pure: tuple[str, ...] = PURE) -> list[Agent]:
    """`kirsch ws serve` on each provider; those in `pure` without compiled modules too."""
    run = (sys.executable, "-m", "kirsch.cli.main", "ws", "serve", "127.0.0.1:0", "--provider")
    return [agent for name in SERVERS for agent in variants(name, (*run, name), name in pure)]


def clients(pure: tuple[str, ...] = PURE) -> list[Agent]:
    """The programs in clients/, one a provider; those in `pure` without compiled modules too."""
    return [
        agent
        for name in CLIENTS
        for agent in variants(name, (sys.executable, str(PROGRAMS / f"echo_{name}.py")), name in pure)
    ]
