"""This machine as a process runtime gives it to units: folders, PATH, and what specifiers stand for."""

import os
import platform
import pwd
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# What systemd searches (systemd.exec(5), $PATH), and where Debian keeps daemons such as haproxy.
STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Virtual environments in an application's folder (uv and poetry make the first), and the tools that keep them
# elsewhere, by the files that say so.
ENVIRONMENTS = (".venv", "venv")
LOCKS = {"poetry.lock": ("poetry", "env", "info", "--path"), "Pipfile": ("pipenv", "--venv")}
# What makes the environment that a file is about.
MAKERS = {"uv.lock": "uv sync", "poetry.lock": "poetry install", "Pipfile": "pipenv install"}


@dataclass(frozen=True, slots=True)
class Host:
    """`folders` are those below which StateDirectory= and its like lie, by kind: state, runtime, cache, logs.
    `directory` is where a unit runs that names no WorkingDirectory=, and what relative paths start from."""

    folders: Mapping[str, Path]
    directory: Path
    path: str
    environment: Mapping[str, str]
    specifiers: Mapping[str, str]

    @classmethod
    def create(cls, state_directory: Path, directory: Path, path: Sequence[str]) -> "Host":
        """Look around once. `path` goes in front of this process's own PATH."""
        state_directory = state_directory.absolute()
        names = {"state": "state", "runtime": "run", "cache": "cache", "logs": "logs"}
        folders = {kind: state_directory / name for kind, name in names.items()}
        environment = dict(os.environ)
        return cls(
            folders=folders,
            directory=directory.absolute(),
            path=_search_path(path, environment.get("PATH", "")),
            environment=environment,
            specifiers=specifiers(folders),
        )


def _search_path(extra: Sequence[str], own: str) -> str:
    folders = [*extra, *own.split(os.pathsep), *STANDARD_PATH.split(os.pathsep)]
    return os.pathsep.join(dict.fromkeys(folder for folder in folders if folder))


def default_path(directory: Path | None = None) -> list[str]:
    """Return the folders searched before PATH: the Python of an application's folder, then this one."""
    own = virtual_environment(directory, os.environ) if directory else None
    return [*([str(own / "bin")] if own else []), os.path.dirname(sys.executable)]


def virtual_environment(directory: Path, environment: Mapping[str, str]) -> Path | None:
    """Return the virtual environment that an application is developed in, or None.

    The folder's own goes first, then the active one, then the one that poetry or pipenv keeps elsewhere.
    """
    active = environment.get("VIRTUAL_ENV")
    for found in (*(directory / name for name in ENVIRONMENTS), *([Path(active)] if active else [])):
        if (found / "bin/python").exists():
            return found.absolute()
    for file, command in LOCKS.items():
        if (directory / file).is_file() and shutil.which(command[0]):
            try:
                done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=20)
            except (OSError, subprocess.TimeoutExpired):
                continue
            found = Path(done.stdout.strip() or "/nowhere")
            if done.returncode == 0 and (found / "bin/python").exists():
                return found
    return None


def missing_environment(directory: Path, environment: Mapping[str, str]) -> str:
    """Return the command that makes a folder's virtual environment; empty where there is one, or no lock."""
    command = next((made for file, made in MAKERS.items() if (directory / file).is_file()), "")
    return "" if command and virtual_environment(directory, environment) else command


def specifiers(folders: Mapping[str, Path]) -> dict[str, str]:
    """systemd.unit(5), "Specifiers": those that do not come from the unit's name. `folders` are those of
    runtime, state, cache and logs."""
    host = socket.gethostname()
    user = pwd.getpwuid(os.geteuid()) if _has_name(os.geteuid()) else None
    return {
        "t": str(folders["runtime"]),
        "S": str(folders["state"]),
        "C": str(folders["cache"]),
        "L": str(folders["logs"]),
        "T": "/tmp",  # noqa: S108
        "V": "/var/tmp",  # noqa: S108
        "h": user.pw_dir if user else os.path.expanduser("~"),
        "s": user.pw_shell if user else "/bin/sh",
        "u": user.pw_name if user else str(os.geteuid()),
        "U": str(os.geteuid()),
        "G": str(os.getegid()),
        "H": host,
        "l": host.partition(".")[0],
        "m": _read("/etc/machine-id"),
        "b": _read("/proc/sys/kernel/random/boot_id").replace("-", ""),
        "v": platform.release(),
    }


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
