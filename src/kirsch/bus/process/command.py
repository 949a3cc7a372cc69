"""Commands and the users they run as: values, and calls that tell the kernel."""

import functools
import grp
import os
import pwd
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SHIM = str(Path(__file__).with_name("shim.py"))
PROBE = "--isolate"  # as the shim knows it
# Variables by which systemd-run finds the user's manager.
MANAGER = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")


class ChildError(Exception):
    """A command that cannot be run, in one line. `errno` is 0 where no system call failed."""

    def __init__(self, message: str, errno: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.errno = errno


@dataclass(frozen=True, slots=True)
class Mounts:
    """Files that a command sees otherwise than the rest of the machine (mount_namespaces(7)).

    `strict` makes all read-only but /dev, /proc, /sys and what is `writable`, `read_only` these paths; all of
    them exist. `private` has folders in place of others, below which those `kept` are still seen.
    """

    strict: bool = False
    read_only: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    private: Mapping[str, str] = field(default_factory=dict)
    kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """A command and the circumstances it runs in.

    `argv[0]` is looked for in the PATH of `environment` (None: this process's own environment). `user` and
    `group` are names or numbers; with a user alone, its own groups. `limits` are soft and hard limits by
    their names in setrlimit(2): {"NOFILE": (1024, 4096)}; -1 is infinity.
    `oom_score` goes to proc(5)'s oom_score_adj; `no_new_privileges` is for life (prctl(2)), and so is
    `no_capabilities`, which only root can ask for. `mounts` needs `can_isolate`; `scope` are properties of a
    control group of its own (systemd.resource-control(5)), and need `scope_command`. `stdin` is a descriptor
    the command reads (None: /dev/null), `fds` (3 and up) are more that it gets under the same numbers; both
    stay the caller's to close.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] | None = None
    directory: str | None = None
    user: str | None = None
    group: str | None = None
    umask: int | None = None
    nice: int = 0
    limits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    oom_score: int | None = None
    no_new_privileges: bool = False
    no_capabilities: bool = False
    mounts: Mounts | None = None
    scope: tuple[str, ...] = ()
    stdin: int | None = None
    fds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.argv or not self.argv[0]:
            raise ValueError("a command needs a program to run")
        if any(fd < 3 for fd in self.fds):
            raise ValueError("descriptors 0 to 2 are the command's own input and output")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Arguments of setuid(2), setgid(2) and setgroups(2); None: not called."""

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None


def resolve_credentials(user: str | None, group: str | None) -> Credentials:
    """Look a user and a group up. Raises ChildError when there is no such user or group."""
    gid = None if group is None else _gid(group)
    if user is None:
        return Credentials(None, gid, None if gid is None else (gid,))
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except KeyError:
        raise ChildError(f"no such user: {user}") from None
    if gid is None:
        gid = entry.pw_gid
    if entry.pw_uid == os.geteuid() and gid == os.getegid():
        return Credentials()  # who we are already; it needs no privilege
    return Credentials(entry.pw_uid, gid, tuple(os.getgrouplist(entry.pw_name, gid)))


@functools.cache
def can_isolate() -> bool:
    """Return True if the kernel lets us give a command other mounts, asked once."""
    probe = [sys.executable, "-I", "-S", SHIM, PROBE]
    return subprocess.run(probe, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0


def scope_command() -> tuple[str, ...]:
    """Return how a command begins that systemd is to put into a control group of its own: a scope of the
    system's manager or of the user's. Empty where there is no such manager."""
    program = shutil.which("systemd-run")
    if program and os.geteuid() == 0 and os.path.isdir("/run/systemd/system"):
        return program, "--scope", "--quiet", "--collect"
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    if program and os.geteuid() != 0 and os.path.exists(f"{runtime}/systemd/private"):
        return program, "--user", "--scope", "--quiet", "--collect"
    return ()


def resolve_limits(limits: Mapping[str, tuple[int, int]]) -> dict[int, tuple[int, int]]:
    """Limits by number instead of by name. Raises ChildError for a name setrlimit(2) does not have."""
    resolved = {}
    for name, values in limits.items():
        number = getattr(resource, f"RLIMIT_{name}", None)
        if number is None:
            raise ChildError(f"no such resource limit: {name}")
        resolved[number] = values
    return resolved


def _gid(group: str) -> int:
    if group.isdecimal():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ChildError(f"no such group: {group}") from None
