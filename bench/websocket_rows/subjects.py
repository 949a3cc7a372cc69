"""What is measured: a server's name and how it is started, in a role of `websocket_peers/ready.py`."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

BENCH = Path(__file__).parent.parent
PEERS = BENCH / "websocket_peers"
VENV = BENCH.parent / ".venv-bench"
PYTHON = str(VENV / "bin/python")
PACKAGES = (
    "aiohttp", "cherrypy>=18.10,<19", "cheroot>=11.1,<11.2", "gevent", "picows",
    "prometheus-client", "tornado", "uvicorn", "uvloop", "websockets", "ws4py", "wsproto",
)  # fmt: skip
ENVIRONMENT = {"PYTHONPATH": ":".join(map(str, (BENCH.parent / "src", *BENCH.parent.glob("packages/*/src"))))}
PURE = {"KIRSCH_PURE": "1"}


@dataclass(frozen=True)
class Subject:
    """`argv` follows Python, with the role for `{role}`. `floor` is no WebSocket, and no peer."""

    name: str
    argv: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict, hash=False)
    floor: bool = False

    def command(self, role: str) -> list[str]:
        return [PYTHON, *(argument.format(role=role) for argument in self.argv)]


def peer(name: str, file: str = "", *more: str) -> Subject:
    file = file or name.replace("-", "_")
    return Subject(name, (f"{file}_server.py", "{role}", *more), floor=file == "raw")


def own(name: str, *more: str, **environment: str) -> Subject:
    """kirsch by a file of ours, as an application would be written."""
    return Subject(f"kirsch-{name}", ("kirsch_server.py", "{role}", *more), environment)


def command(name: str) -> Subject:
    """kirsch by its command line, which only echoes."""
    argv = ("-m", "kirsch.cli.main", "ws", "serve", "127.0.0.1:0", "--provider", name)
    return Subject(f"kirsch-{name}", argv)


PEER_SUBJECTS = (
    peer("raw"),
    peer("picows"),
    peer("picows-uvloop", "picows", "uvloop"),
    peer("picows-websockets"),
    peer("aiohttp"),
    peer("websockets"),
    peer("websockets-sync"),
    peer("uvicorn-websockets", "uvicorn", "websockets-sansio"),
    peer("uvicorn-wsproto", "uvicorn", "wsproto"),
    peer("tornado"),
    peer("ws4py"),
    peer("ws4py-gevent", "ws4py", "gevent"),
)
KIRSCH_SUBJECTS = (
    own("asyncio"),
    own("asyncio-for", "for"),
    own("uvloop", "uvloop"),
    own("uvloop-for", "for", "uvloop"),
    Subject("kirsch-uvicorn", ("uvicorn_server.py", "{role}", "kirsch.websocket.uvicorn:Protocol")),
    own("pure", **PURE),
    own("pure-for", "for", **PURE),
    command("threaded"),
    command("tornado"),
    command("gevent"),
    command("cherrypy"),
    command("wsgi"),
)
SUBJECTS = {subject.name: subject for subject in (*PEER_SUBJECTS, *KIRSCH_SUBJECTS)}
# No servers, but in the tables of what is measured in memory.
FLOORS = {"raw", "memcpy"}

if __name__ == "__main__":
    sys.exit("run bench/websocket.py")
