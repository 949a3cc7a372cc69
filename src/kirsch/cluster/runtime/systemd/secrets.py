"""podman's secrets of containers that ended with their machine's power: nobody removed them.

They hold no value, but the command that reads it (see systemd_files), of a file that went with the power.
"""

import logging
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from kirsch.cluster.runtime.systemd.oneoff import NAMES, TIMEOUT

OURS = "kirsch-"
# A line for each: its id, its name, and the command with which podman's driver "shell" reads it.
FORMAT = '{{.ID}} {{.Spec.Name}} {{index .Spec.Driver.Options "lookup"}}'

log = logging.getLogger(__name__)


def sweep(root: Path, prefix: Sequence[str]) -> None:
    """Remove them, on the machine whose file system is seen at `root`; `prefix` is what goes in front of a
    command there. Blocks."""
    try:
        if ids := _podman(prefix, "ls", "--quiet").split():
            described = _podman(prefix, "inspect", "--format", FORMAT, *ids)
            if left := list(stale(described, root)):
                log.info("podman has secrets of containers that are no more: they are removed")
                # By id: one of the same name that a container is given meanwhile stays.
                _podman(prefix, "rm", *left)
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("what is left of podman's secrets cannot be removed: %s", error)


def stale(described: str, root: Path) -> Iterator[str]:
    """The ids of units' secrets, of what podman said by FORMAT, whose file is not there."""
    for line in described.splitlines():
        id, name, command, file = [*line.split(" ", 3), "", "", "", ""][:4]
        ours = name.startswith(OURS) and not name.startswith(NAMES) and command == "cat"
        if ours and not (root / file.lstrip("/")).exists():
            yield id


def _podman(prefix: Sequence[str], *arguments: str) -> str:
    done = subprocess.run(
        [*prefix, "podman", "secret", *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        timeout=TIMEOUT, check=False,
    )  # fmt: skip
    return done.stdout
