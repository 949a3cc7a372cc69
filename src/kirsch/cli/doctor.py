"""doctor: what this computer has and lacks for an application, with the line to type."""

import json
import os
import re
import resource
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from kirsch.cli.errors import Failure
from kirsch.cli.values import JSON
from kirsch.cli.verb import Options, argument, verb
from kirsch.cluster.application import Application, load
from kirsch.cluster.convert.service import services_of
from kirsch.unit import Published

# Enough for some hundred units and their sockets.
FILES, WATCHES, FREE = 1024, 8192, 1 << 30
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"


@dataclass(frozen=True, slots=True)
class Needs:
    """Needs of an application: programs, and the ports that it publishes."""

    haproxy: bool = False
    postgres: bool = False
    podman: bool = False
    ports: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Computer:
    """Facts about a computer; a version is empty for a program that is not there."""

    python: str
    application_python: str
    compiled: bool
    haproxy: str
    postgres: str
    podman: str
    root: bool
    cgroups: bool
    manager: bool
    files: int
    watches: int
    free: int
    taken: tuple[int, ...]
    kirschd: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, what is there, and what to type where that is not enough.

    `state` is "ok", "missing" where the application cannot run without it, else "note"."""

    name: str
    state: str
    said: str
    advice: str = ""


@verb(
    "doctor",
    argument("directory", "DIR", "the application's folder; this one", optional=True, default="."),
    JSON,
    text="Each line says what is there, what is missing, and what to type. Without an application in DIR it "
    "tells what kirsch can do here. Nothing is changed. The exit status is 1 if the application cannot run.",
    example="kirsch doctor",
)
def doctor(options: Options) -> int:
    """Look at this computer."""
    directory = Path(options.directory)
    if not directory.is_dir():
        raise Failure(f"{directory}: no such directory")
    application = _application(directory)
    needs = needs_of(application) if application else Needs()
    findings = list(diagnose(needs, look(directory, needs), known=application is not None))
    if options.json:
        print(json.dumps([asdict(each) for each in findings], indent=2, ensure_ascii=False))
    else:
        width = max(len(each.name) for each in findings)
        for each in findings:
            print(f"{each.state:<8} {each.name:<{width}}  {each.said}")
            if each.advice:
                print(f"{'':<8} {'':<{width}}  → {each.advice}")
    return 1 if any(each.state == "missing" for each in findings) else 0


def _application(directory: Path) -> Application | None:
    """The application of a folder; None if there is none. Raises ApplicationError, UnitError."""
    there = any((directory / name).exists() for name in ("kirsch.toml", "units", "Procfile"))
    return load(directory) if there else None


def needs_of(application: Application) -> Needs:
    """Return what an application needs of its computer. Pure. Raises UnitError."""
    haproxy = postgres = podman = False
    ports: set[int] = set()
    for service in services_of(application):
        file = service.file
        section = "X-Kirsch-Process" if file.has("X-Kirsch-Process") else "Service"
        commands = " ".join(entry.value for entry in file.values(section, "ExecStart"))
        haproxy |= bool(re.search(r"\bkirsch balancer\b|\bhaproxy\b", commands))
        postgres |= bool(re.search(r"\bkirsch\.sql\.postgres\b|\bkirsch postgres\b", commands))
        podman |= file.has("Container") and section == "Service"
        ports |= {port.host for port in service.options.published if port.host}
    return Needs(haproxy, postgres, podman, tuple(sorted(ports)))


def diagnose(needs: Needs, computer: Computer, *, known: bool) -> Iterator[Finding]:
    """Say of each thing whether it is there, needed, and how to get it. Pure.

    `known` is true where there is an application to run.
    """
    lacking = "missing" if known else "note"

    def program(name: str, version: str, needed: bool, advice: str, use: str) -> Finding:
        if version:
            return Finding(name, "ok", version)
        return Finding(name, lacking if needed else "note", f"not there: {use} needs it", advice)

    yield Finding("python", "ok", f"{computer.python}, for kirsch")
    own = computer.application_python
    yield Finding("application", "ok", f"its Python is {own}" if own else "kirsch's own Python runs it")
    compiled = "compiled" if computer.compiled else "in Python: slower, and complete"
    yield Finding("websocket", "ok" if computer.compiled else "note", compiled)
    yield program("haproxy", computer.haproxy, needs.haproxy, "apt-get install haproxy", "a balancer")
    advice = "install the extra `postgres` of kirsch, or your system's PostgreSQL server"
    yield program("postgres", computer.postgres, needs.postgres, advice, "a database of the application")
    where = "a unit without [X-Kirsch-Process], and a cluster of containers,"
    yield program("podman", computer.podman, needs.podman, "apt-get install podman", where)
    for port in needs.ports:
        if port not in computer.taken:
            yield Finding(f"port {port}", "ok", "free")
        elif computer.kirschd:
            yield Finding(f"port {port}", "ok", "in use, and the application is up")
        else:
            yield Finding(f"port {port}", "missing", "in use", f"ss -ltnp sport = :{port}   tells by whom")
    if computer.root:
        text = "root: an application runs as the owner of its folder, in root's own as nobody where it can"
        yield Finding("user", "note", text, "chown -R USER DIR, or run kirsch as a user of its own")
    if not computer.cgroups:
        yield Finding("cgroups", "note", "no cgroup v2: memory and CPU of units are not limited here")
    if not computer.manager and not computer.root:
        yield Finding("systemd", "note", "no user manager: limits of units are those of the session")
    if computer.files < FILES:
        yield Finding("files", "note", f"{computer.files} open files a process", f"ulimit -n {FILES}")
    if computer.watches < WATCHES:
        change = f"sysctl fs.inotify.max_user_watches={WATCHES}"
        yield Finding("watches", "note", f"{computer.watches} for `kirsch dev`", change)
    if computer.free < FREE:
        yield Finding("disk", lacking, f"{computer.free >> 20} MiB are free", "remove what is not needed")


def look(directory: Path, needs: Needs) -> Computer:
    """Look at this computer; programs are asked for their versions for at most five seconds each."""
    from kirsch.cluster.agent.ports import taken
    from kirsch.cluster.provision.endpoint import SOCKET
    from kirsch.cluster.runtime.host import virtual_environment
    from kirsch.websocket.core.speedups import compiled

    try:
        from kirsch.sql.postgres.binaries import client
    except ImportError:  # without the extra `sql`
        postgres = None
    else:
        postgres = client("postgres")
    own = virtual_environment(directory, os.environ)
    return Computer(
        python=f"{sys.version_info.major}.{sys.version_info.minor} ({sys.executable})",
        application_python=str(own / "bin/python") if own else "",
        compiled=compiled,
        haproxy=_version("haproxy -v"),
        postgres=_version(shlex.join([str(postgres), "--version"])) if postgres else "",
        podman=_version("podman --version"),
        root=os.geteuid() == 0,
        cgroups=Path("/sys/fs/cgroup/cgroup.controllers").exists(),
        manager=bool(os.environ.get("XDG_RUNTIME_DIR")) and find_spec("dbus_fast") is not None,
        files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        watches=_number("/proc/sys/fs/inotify/max_user_watches"),
        free=shutil.disk_usage(directory).free,
        taken=tuple(port for port in needs.ports if taken(Published(None, port, port), process=True)),
        kirschd=_listens(directory / SOCKET),
    )


def _version(command: str) -> str:
    """The first line that a program says of itself; empty if it is not there."""
    words = shlex.split(command)
    path = shutil.which(words[0], path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")
    if path is None:
        return ""
    try:
        done = subprocess.run([path, *words[1:]], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = (done.stdout or done.stderr).splitlines()
    return lines[0] if done.returncode == 0 and lines else ""


def _number(path: str) -> int:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return sys.maxsize


def _listens(path: Path) -> bool:
    """Return True if somebody answers at a socket of a folder."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
