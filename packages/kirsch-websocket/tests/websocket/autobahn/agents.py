"""Programs that are tested: our echo servers and clients, each compiled and in pure Python."""

import sys
from pathlib import Path

from tests.source import PYTHONPATH
from tests.websocket.programs import Program

SERVERS = ("asyncio", "threaded", "tornado", "gevent", "cherrypy", "wsgi", "uvicorn")
BLOCKING, AWAITED = ("threaded", "gevent"), ("asyncio", "tornado")
PROGRAMS = Path(__file__).parent / "clients"
SERVE = (sys.executable, "-m", "kirsch.cli.main", "ws", "serve", "127.0.0.1:0")


def variants(name: str, command: tuple[str, ...], **environment: str) -> list[Program]:
    pure = environment | {"KIRSCH_PURE": "1"}
    return [Program(name, command, environment), Program(f"{name}-pure", command, pure)]


def servers() -> list[Program]:
    """`kirsch ws serve` on each provider, and with an ASGI application."""
    agents = [agent for name in SERVERS[:-1] for agent in variants(name, (*SERVE, "--provider", name))]
    path = f"{PYTHONPATH}:{PROGRAMS}"
    return [*agents, *variants(SERVERS[-1], (*SERVE, "--asgi", "echo_asgi:app"), PYTHONPATH=path)]


def clients() -> list[Program]:
    """The programs in clients/, one a kind of provider.

    Each is given two arguments more, the fuzzing server's URL and its own name, asks for the number of cases,
    runs them, and ends.
    """
    return [
        agent
        for program, names in (("blocking", BLOCKING), ("awaited", AWAITED))
        for name in names
        for agent in variants(name, (sys.executable, str(PROGRAMS / f"{program}.py"), name))
    ]
