"""podman on a machine, beside what Quadlet runs: one-off containers, and what a killed kirsch left of them.

The kirsch that runs a one-off container holds its folder locked (flock(2)) until it ends, however it does: an
unlocked folder is one whose kirsch was killed.
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

from kirsch.cluster.runtime.host import specifiers
from kirsch.unit import UnitError, UnitName, expand, split_words

RUN = "run"
NAMES = "kirsch-run-"
# Seconds that a folder's maker has to lock it.
FRESH = 5.0
TIMEOUT = 60.0  # seconds, for a call of podman
_SECRETS = "kirsch-"
# One line a secret: its id, its name, and the command with which podman's driver "shell" reads it.
_FORMAT = '{{.ID}} {{.Spec.Name}} {{index .Spec.Driver.Options "lookup"}}'

log = logging.getLogger(__name__)


@contextmanager
def one_off_folder(name: str) -> Iterator[Path]:
    """Make the folder of a one-off container, 0700; at the end remove it, the container and its secrets.

    `name` is the container's, and begins with NAMES. A file VARIABLE in the folder holds podman's secret
    NAME-VARIABLE. Raises OSError.
    """
    folder = Path("/", RUN, name)
    folder.mkdir(mode=0o700)
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        _remove(folder, ())
        os.close(lock)


def sweep_containers(root: Path = Path("/"), prefix: Sequence[str] = ()) -> None:
    """Remove one-off containers whose kirsch was killed, on the machine whose file system is at `root`.

    `prefix` goes in front of a command there. Blocks.
    """
    for folder in (root / RUN).glob(f"{NAMES}*"):
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue  # another sweep has removed it
        try:
            fresh = time.time() - os.stat(lock).st_mtime < FRESH
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not fresh:
                log.info("removing %s: the kirsch that ran it was killed", folder.name)
                _remove(folder, prefix)
        except OSError:
            continue  # its kirsch holds the lock
        finally:
            os.close(lock)


def _remove(folder: Path, prefix: Sequence[str]) -> None:
    """Remove the container first, then its secrets and the folder."""
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


def sweep_secrets(root: Path, prefix: Sequence[str]) -> None:
    """Remove podman's secrets of units' containers that ended with the machine's power.

    They hold no value, but the command that reads it (see files.py), of a file that went with the power.
    `root` and `prefix` as in sweep_containers. Blocks.
    """
    try:
        if ids := _podman_secret(prefix, "ls", "--quiet").split():
            described = _podman_secret(prefix, "inspect", "--format", _FORMAT, *ids)
            if left := list(stale(described, root)):
                log.info("removing podman's secrets of containers that are gone")
                # By id: a secret of the same name that a container is given meanwhile stays.
                _podman_secret(prefix, "rm", *left)
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("podman's secrets of containers that are gone cannot be removed: %s", error)


def stale(described: str, root: Path) -> Iterator[str]:
    """Yield the ids of units' secrets whose file is gone, from podman's output in _FORMAT."""
    for line in described.splitlines():
        id, name, command, file = [*line.split(" ", 3), "", "", "", ""][:4]
        ours = name.startswith(_SECRETS) and not name.startswith(NAMES) and command == "cat"
        if ours and not (root / file.lstrip("/")).exists():
            yield id


def _podman_secret(prefix: Sequence[str], *arguments: str) -> str:
    done = subprocess.run(
        [*prefix, "podman", "secret", *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        timeout=TIMEOUT, check=False,
    )  # fmt: skip
    return done.stdout


# systemd.unit(5), "Specifiers": %t %S %C %L of the system's own.
_FOLDERS = {
    "runtime": Path("/run"),
    "state": Path("/var/lib"),
    "cache": Path("/var/cache"),
    "logs": Path("/var/log"),
}
# Options that make a container the unit's own: its name, its supervision by systemd, its address, its ports.
_FLAGS = frozenset({"--replace", "--rm", "-d", "--detach"})
_VALUED = frozenset(
    (
        *("--name", "--cidfile", "--cgroups", "--sdnotify", "--restart", "--ip", "--ip6", "--mac-address"),
        *("--publish", "-p", "--network-alias", "--conmon-pidfile", "--systemd", "--log-driver", "--log-opt"),
    )
)
# Nobody asks a one-off command for its health.
_HEALTH = "--health-"
# Options of podman-run(1) that take no value, of those that Quadlet or PodmanArgs= may give.
_SINGLE = frozenset(
    (
        *("--init", "--privileged", "--read-only", "--no-hosts", "--no-hostname", "--env-host"),
        *("--http-proxy", "--oom-kill-disable", "--quiet", "--rmi", "--sig-proxy", "--tls-verify"),
        *("--read-only-tmpfs", "--interactive", "-i", "--tty", "-t", "--publish-all", "-P"),
        "--no-healthcheck",
    )
)


def container_arguments(command: str, name: UnitName) -> tuple[str, ...]:
    """Return podman's arguments for a container like a unit's, the image last. Pure.

    `command` is the unit's, as Quadlet makes it (ExecStart=). Raises UnitError unless it is a `podman run`.
    """
    words = [_expand(each, name) for each in split_words(command)]
    try:
        start = words.index("run") + 1
    except ValueError:
        raise UnitError(f"{name}: Quadlet does not run a container: {command[:80]}") from None
    kept: list[str] = []
    rest = iter(words[start:])
    for word in rest:
        if not word.startswith("-"):
            return (*kept, word)
        option, equals, _ = word.partition("=")
        value = [] if equals or option in _FLAGS | _SINGLE else [next(rest, "")]
        if option not in _FLAGS | _VALUED and not option.startswith(_HEALTH):
            kept += [word, *value]
    raise UnitError(f"{name}: Quadlet runs a container without an image: {command[:80]}")


def _expand(text: str, name: UnitName) -> str:
    """Expand a word as systemd would (systemd.service(5), "Command lines"), but for variables."""
    return expand(text.replace("$$", "$"), name, specifiers(_FOLDERS))
