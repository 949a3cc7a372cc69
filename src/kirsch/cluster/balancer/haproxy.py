"""HAProxy's runtime API: commands as values, its tables as values, and the Unix socket in between.

See HAProxy's management guide, section 9.3, "Unix Socket commands" (2.6).
"""

import csv
import io
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

TIMEOUT = 5.0  # seconds; HAProxy answers within milliseconds or is no more


class HAProxyError(Exception):
    """HAProxy refused a command, or answered what nobody can read; its own words are in the message."""


class State(Enum):
    """Administrative state of a server."""

    READY = "ready"
    DRAIN = "drain"
    MAINTENANCE = "maint"


@dataclass(frozen=True, slots=True)
class Command:
    """One command, and what its answer contains when it was done; empty: the answer is empty."""

    line: str
    done: str = ""


@dataclass(frozen=True, slots=True)
class Server:
    """A server of a backend as it stands.

    `port` is 0 when its line names none; `sessions` counts requests in flight and waiting for it; `since`
    is the seconds for which it has been sent no new ones, which HAProxy 3 does not tell (`plan.timed`).
    `silent`: it did not answer the last check in time.
    """

    backend: str
    name: str
    address: str
    port: int
    state: State
    sessions: int = 0
    since: float = 0.0
    silent: bool = False


@dataclass(frozen=True, slots=True)
class BackendCounts:
    """Counts of a backend, or of one of its servers, since HAProxy was started.

    `latency` is the mean time of the last 1024 answers, in seconds; `queue` is how many requests wait."""

    requests: int
    errors: int
    latency: float
    queue: int


def add_server(backend: str, name: str, address: str, port: int, options: str) -> Command:
    """A new server, in maintenance. `options` as on a server line; the file's defaults do not apply to it."""
    line = f"add server {backend}/{name} {socket_address(address, port)} {options}".rstrip()
    return Command(line, "New server registered.")


def enable_health(backend: str, name: str) -> Command:
    """Start a new server's checks; one without a check has none to start."""
    return Command(f"enable health {backend}/{name}")


def set_state(backend: str, name: str, state: State) -> Command:
    """Give a server traffic, let it finish what it has, or take it out."""
    return Command(f"set server {backend}/{name} state {state.value}")


def set_address(backend: str, name: str, address: str, port: int) -> Command:
    """Send a server's next connections elsewhere; those it has stay."""
    return Command(f"set server {backend}/{name} addr {address} port {port}", "changed")


def shutdown_sessions(backend: str, name: str) -> Command:
    """Cut the connections that a server still has."""
    return Command(f"shutdown sessions server {backend}/{name}")


def delete_server(backend: str, name: str) -> Command:
    """Forget a server; it must be in maintenance and without connections."""
    return Command(f"del server {backend}/{name}", "Server deleted.")


def socket_address(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def parse_servers(states: str, statistics: str) -> tuple[Server, ...]:
    """Read `show servers state` and `show stat` together. Raises HAProxyError."""
    rows = {(row["pxname"], row["svname"]): row for row in parse_statistics(statistics)}
    servers = []
    for state in parse_states(states):
        key = state["be_name"], state["srv_name"]
        # A server that came or went between the two answers is told of the next time.
        if row := rows.get(key):
            try:
                servers.append(
                    Server(
                        *key,
                        address=state["srv_addr"],
                        port=int(state["srv_port"]),
                        state=admin_state(int(state["srv_admin_state"])),
                        sessions=int(row["scur"] or 0) + int(row["qcur"] or 0),
                        # L4TOUT, L6TOUT, L7TOUT; a star before it while the next check is under way.
                        silent=row.get("check_status", "").endswith("TOUT"),
                    )
                )
            except (KeyError, ValueError) as error:
                raise HAProxyError(f"cannot read the state of server {'/'.join(key)}: {error}") from error
    return tuple(servers)


def admin_state(bits: int) -> State:
    """From srv_admin_state: maintenance is 0x01, 0x02 or 0x20, drain 0x08 or 0x10."""
    if bits & 0x23:
        return State.MAINTENANCE
    return State.DRAIN if bits & 0x18 else State.READY


def parse_states(text: str) -> list[dict[str, str]]:
    """Read `show servers state`: one dict a server. Raises HAProxyError."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2 or lines[0] != "1" or not lines[1].startswith("# "):
        raise HAProxyError(first_line(text) or "no answer to `show servers state`")
    names = lines[1].removeprefix("# ").split(" ")
    rows = [dict(zip(names, line.split(" "), strict=False)) for line in lines[2:]]
    if any(not {"be_id", "be_name", "srv_name"} <= row.keys() for row in rows):
        raise HAProxyError("an answer to `show servers state` without names")
    return rows


def parse_statistics(text: str) -> list[dict[str, str]]:
    """Read `show stat`: one dict a line of its CSV, empty fields as "". Raises HAProxyError."""
    if not text.startswith("# pxname,svname,"):
        raise HAProxyError(first_line(text) or "no answer to `show stat`")
    try:
        names, *rows = csv.reader(io.StringIO(text.removeprefix("# ")))
    except csv.Error as error:
        raise HAProxyError(f"an answer to `show stat` that is no CSV: {error}") from error
    return [dict(zip(names, row, strict=False)) for row in rows if len(row) > 1]


def backend_counts(statistics: str) -> dict[tuple[str, str], BackendCounts]:
    """Read from `show stat` what backends and their servers did, by both names; "" for a backend as a whole.
    Raises HAProxyError."""
    found = {}
    for row in parse_statistics(statistics):
        whole = row["svname"] == "BACKEND"
        refused, answered = _number(row, "econ") + _number(row, "eresp"), _number(row, "hrsp_5xx")
        # A backend counts the 503 that HAProxy answers for a server that cannot be reached; servers do not.
        errors = (answered or refused) if whole else answered + refused
        found[row["pxname"], "" if whole else row["svname"]] = BackendCounts(
            _number(row, "stot"),
            errors,
            (_number(row, "rtime") or _number(row, "ttime")) / 1000,
            _number(row, "qcur"),
        )
    return found


def _number(row: Mapping[str, str], name: str) -> int:
    """A field of the statistics; 0 where the backend's mode has none."""
    value = row.get(name, "")
    return int(value) if value.isdecimal() else 0


def first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


class RuntimeAPI:
    """HAProxy's stats socket, of level admin. Every method may raise OSError: HAProxy is not there."""

    def __init__(self, path: str) -> None:
        self.path = path

    def ask(self, line: str) -> str:
        """Send one line, one connection for it; returns the answer. Raises OSError."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT)
            connection.connect(self.path)
            connection.sendall(line.encode() + b"\n")
            answer = b""
            while data := connection.recv(65536):
                answer += data
        if not answer:
            raise ConnectionResetError(f"{self.path}: HAProxy went away")
        return answer.decode(errors="replace")

    def run(self, command: Command) -> None:
        """Raises HAProxyError with HAProxy's words when it did not do the command."""
        answer = self.ask(command.line).strip()
        if (command.done not in answer) if command.done else answer:
            raise HAProxyError(first_line(answer))

    def backends(self) -> list[str]:
        """The names of all backends, `listen` sections included."""
        return [line for line in self.ask("show backend").splitlines() if line and not line.startswith("#")]

    def servers(self, backends: Iterable[str]) -> tuple[Server, ...]:
        """The servers of some backends, in their order. Raises HAProxyError when there is no such backend."""
        servers: list[Server] = []
        for backend in backends:
            states = self.ask(f"show servers state {backend}")
            if rows := parse_states(states):
                # By its number, for a frontend may have the same name. 4: servers only; -1: all of them.
                servers += parse_servers(states, self.ask(f"show stat {rows[0]['be_id']} 4 -1"))
        return tuple(servers)

    def counts(self) -> dict[tuple[str, str], BackendCounts]:
        """Return the counts of all backends and servers, see backend_counts. Raises HAProxyError."""
        return backend_counts(self.ask("show stat -1 6 -1"))  # 2: backends, 4: servers
