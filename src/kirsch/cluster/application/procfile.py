"""A Procfile, as foreman and honcho read it: NAME: COMMAND, a line each. Pure."""

import re
from pathlib import Path

FILE = "Procfile"
# foreman gives each kind of process a hundred ports, from here on.
PORT, STEP = 5000, 100
_LINE = re.compile(r"([A-Za-z0-9_-]+)[ \t]*:[ \t]*(.*?)[ \t]*")


def units(text: str, folder: Path) -> dict[str, str]:
    """Return the unit files of a Procfile's processes in a folder. Raises ValueError with line and reason.

    Each command is run by a shell in the folder, with PORT and the variables of .env.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None or not match[2]:
            raise ValueError(f"{number}: {line.strip()!r} is not NAME: COMMAND")
        name, command = match.groups()
        if f"{name}.service" in found:
            raise ValueError(f"{number}: {name} is there twice")
        found[f"{name}.service"] = unit(name, command, PORT + STEP * len(found), folder)
    return found


def unit(name: str, command: str, port: int, folder: Path) -> str:
    """Return the unit file of one process."""
    return f"""\
[Unit]
Description={name} of the Procfile

[Service]
Environment=PORT={port} PYTHONUNBUFFERED=1
EnvironmentFile=-{str(folder.absolute() / ".env").replace("%", "%%")}
ExecStart=/bin/sh -c {quoted(f"exec {command}" if _is_simple(command) else command)}
"""


def _is_simple(command: str) -> bool:
    """Return True if a shell can be replaced by the command: nothing in it is for the shell alone."""
    return not re.search(r"[;&|<>()`\n]|^\s*\w+=|^\s*(cd|export|set|exec|if|for|while)\b", command)


def quoted(text: str) -> str:
    """Return a text as one word of a command line that reads back as it is (systemd.service(5))."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'
