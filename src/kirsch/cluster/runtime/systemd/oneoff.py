"""One-off containers on a machine: each with a folder in memory for its secrets, and nothing left of it.

The kirsch that runs one holds the folder locked (flock(2)) until it ends, however it does: a folder that
nobody holds is one whose kirsch was killed.
"""

import fcntl
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

RUN = "run"
NAMES = "kirsch-run-"
# Seconds in which whoever has made a folder has locked it.
FRESH = 5.0
TIMEOUT = 60.0  # seconds, for a call of podman

log = logging.getLogger(__name__)


@contextmanager
def held(name: str) -> Iterator[Path]:
    """The folder of a one-off container, 0700; afterwards neither container, secrets nor folder are there.

    `name` is the container's, and begins with NAMES. A file VARIABLE in the folder is what podman has a
    secret NAME-VARIABLE of. Raises OSError."""
    folder = Path("/", RUN, name)
    folder.mkdir(mode=0o700)
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        _remove(folder, ())
        os.close(lock)


def sweep(root: Path = Path("/"), prefix: Sequence[str] = ()) -> None:
    """Remove what is left of one-off containers whose kirsch is no more, on the machine whose file system is
    seen at `root`; `prefix` is what goes in front of a command there. Blocks."""
    for folder in (root / RUN).glob(f"{NAMES}*"):
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue  # it has just gone
        try:
            fresh = time.time() - os.stat(lock).st_mtime < FRESH
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not fresh:
                log.info("%s is left of a kirsch that was killed: it is removed", folder.name)
                _remove(folder, prefix)
        except OSError:
            continue  # somebody holds it
        finally:
            os.close(lock)


def _remove(folder: Path, prefix: Sequence[str]) -> None:
    """The container first, then what it was given."""
    name = folder.name
    secrets = [f"{name}-{file.name}" for file in folder.glob("*")]
    commands = [["rm", "--force", "--ignore", "--time=0", name]]
    commands += [["secret", "rm", "--ignore", *secrets]] if secrets else []
    for command in commands:
        try:
            subprocess.run(
                [*prefix, "podman", *command],
                stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            log.warning("podman %s: %s", " ".join(command), error)
    shutil.rmtree(folder, ignore_errors=True)
