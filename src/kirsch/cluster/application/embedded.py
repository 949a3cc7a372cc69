"""The embedded cluster of `kirsch up`: a kirschd of its own, started and awaited from outside."""

import contextlib
import errno
import fcntl
import json
import os
import pwd
import select
import socket
import stat
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kirsch.cluster.api.client import Client, ClientError
from kirsch.cluster.application import Application
from kirsch.install import pip_install
from kirsch.unit import Options, UnitError, UnitFile, UnitName

START_TIMEOUT = 30.0
# With LC_* and KIRSCH_*: all of root's environment that the owner's processes get.
PASSED = {"PATH", "LANG", "TERM", "TZ", "NO_COLOR", "PYTHONPATH", "VIRTUAL_ENV"}


class EmbeddedError(Exception):
    """A kirschd that cannot be started: one line."""


@dataclass(slots=True)
class Embedded:
    """A kirschd that was started. As long as `tether` is open an attached one lives. `user` is whom it runs
    as where that is not who started it."""

    client: Client
    process: subprocess.Popen[bytes]
    tether: socket.socket
    user: str = ""

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait until it has ended: its exit status, negative for a signal; None if it has not."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None


def socket_path(state: Path) -> Path:
    """Return the socket of a state folder's kirschd."""
    return state / "kirsch.sock"


def running(state: Path) -> Client | None:
    """A client of the kirschd that runs for a state folder, if one answers. Raises ClientError where the
    folder is another user's."""
    path = socket_path(state)
    try:
        if not path.exists():
            return None
    except PermissionError:
        if not os.path.isdir(state):
            return None
        raise ClientError(0, f"{state} is another user's: run kirsch as that user (root, by sudo)") from None
    client = Client(path)
    try:
        client.get("/kirsch/v1/machines")
    except ClientError as error:
        if error.status == 0:
            return None
    return client


def owner(state: Path) -> int:
    """The process that holds a state folder's registry, though it may not answer; 0 if none does."""
    try:
        with (state / "registry.db.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int((state / "registry.db.lock").read_bytes() or 0)
    except OSError:
        pass
    return 0


def launch(application: Application, *, attached: bool) -> Embedded:
    """Start a kirschd for an application and wait until it answers. Raises EmbeddedError.

    An attached one ends when this process does; its output goes to kirschd.log in the state folder.
    """
    if find_spec("cherrypy") is None:
        raise EmbeddedError(f"cherrypy is not installed: {pip_install('kirsch')}")
    state = application.state
    user = _user(application)
    try:
        log = _log(state, user)
    except OSError as error:
        raise EmbeddedError(f"cannot keep state in {state}: {error.strerror}") from None
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-P", "-m", "kirsch.cluster.daemon"]
    command += [
        "--directory",
        str(application.directory),
        "--state",
        str(state),
        "--parent",
        str(theirs.fileno()),
    ]
    process = subprocess.Popen(
        [*command, "--attached"] if attached else command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=[theirs.fileno()],
        # Ctrl-C is ours: we ask kirschd to stop, in order.
        start_new_session=True,
        **_as(user, application),
    )
    os.close(log)
    theirs.close()
    try:
        answer = _first_line(ours)
    except BaseException:
        # Ctrl-C: nobody is to know of it, so nothing is to be left of it.
        process.kill()
        process.wait()
        raise
    if not answer.get("ready"):
        if not answer or not ended(process.pid, START_TIMEOUT):
            process.kill()
        process.wait()
        where = state / "kirschd.log"
        raise EmbeddedError(str(answer.get("error") or f"kirschd did not start; {where} says why"))
    return Embedded(Client(socket_path(state)), process, ours, user.pw_name if user else "")


def _user(application: Application) -> pwd.struct_passwd | None:
    """Return the user as whom an application runs that root starts: its folder's owner; in root's own folder
    who typed sudo, or nobody.

    None where kirschd is to run as who starts it: nobody but root can be another user; a unit names its user,
    or PostgreSQL's data has one from before; only root can bind a port or run the containers; that user may
    not enter the folder or run this Python."""
    uid = application.directory.stat().st_uid
    if os.geteuid() != 0 or _names_a_user(application):
        return None
    if uid == 0 and (not is_real_root() or application.boxed or _binds_low_ports(application)):
        return None
    try:
        user = pwd.getpwuid(uid or int(os.environ.get("SUDO_UID", "0")) or pwd.getpwnam("nobody").pw_uid)
        if _may_run(user, application):
            return user
    except (KeyError, ValueError, OSError, subprocess.TimeoutExpired):
        pass
    if uid:
        print(
            f"{application.directory}: its owner cannot run {sys.executable}, so root runs it",
            file=sys.stderr,
        )
    return None


def _names_a_user(application: Application) -> bool:
    """Return True if a unit has a user of its own, or a database here has one from before."""
    files = [UnitFile.parse(text, name) for name, text in application.units.items()]
    named = any(file.get(s, key) for file in files for s in file.sections for key in ("User", "Group"))
    return named or any(path.is_symlink() for path in (application.state / "state").glob("*/data"))


def _binds_low_ports(application: Application) -> bool:
    """Return True if a unit has a port that only root may bind."""
    # Imported here, for only root's `kirsch up` asks.
    from kirsch.cluster.runtime.process.podman import unprivileged_port

    lowest = unprivileged_port()
    for name, text in application.units.items():
        try:
            options = Options.parse(UnitFile.parse(text, name), UnitName.parse(name))
        except UnitError:
            continue  # kirschd says what is wrong
        ports = [port.number for port in options.expose] + [port.host for port in options.published]
        if any(0 < port < lowest for port in ports):
            return True
    return False


def is_real_root() -> bool:
    """Return True if root is the machine's: in a rootless container it is a user (user_namespaces(7))."""
    try:
        return Path("/proc/self/uid_map").read_text().split()[:2] == ["0", "0"]
    except OSError:
        return True  # this kernel has no namespaces of users


def _may_run(user: pwd.struct_passwd, application: Application) -> bool:
    """Return True if a user may enter an application's folder and run kirschd."""
    folder = str(application.directory.resolve())
    enters = 'cd "$1" && ls . >/dev/null && test -x "$2"'
    # Without -P the folder's own secrets.py would be imported.
    for command in (
        ["sh", "-c", enters, "sh", folder, sys.executable],
        [sys.executable, "-P", "-c", "import kirsch.cluster.daemon"],
    ):
        done = subprocess.run(command, cwd="/", capture_output=True, timeout=60, **_as(user, application))
        if done.returncode:
            return False
    return True


def _as(user: pwd.struct_passwd | None, application: Application) -> dict[str, Any]:
    """Return the arguments of subprocess that run a program as a user; none for None."""
    if user is None:
        return {}
    home = user.pw_dir if os.path.isdir(user.pw_dir) else str(application.state.resolve())
    login = {"HOME": home, "USER": user.pw_name, "LOGNAME": user.pw_name, "SHELL": user.pw_shell}
    return {
        # Root's environment may have secrets that are not the owner's to read.
        "env": {k: v for k, v in os.environ.items() if k in PASSED or k.startswith(("LC_", "KIRSCH_"))}
        | login,
        "user": user.pw_uid,
        "group": user.pw_gid,
        "extra_groups": os.getgrouplist(user.pw_name, user.pw_gid),
    }


def _log(state: Path, user: pwd.struct_passwd | None) -> int:
    """Open kirschd's log in a state folder, which is made, and given to a user. Links are refused with
    OSError: the folder's owner could have root write to, or give away, anything."""
    parent = os.open(state.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if user and os.fstat(parent).st_uid not in (0, user.pw_uid):
            raise OSError(errno.EPERM, "its folder is not the owner's any more")
        with contextlib.suppress(FileExistsError):
            os.mkdir(state.name, 0o700, dir_fd=parent)
        try:
            folder = os.open(state.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        except NotADirectoryError:
            raise OSError(errno.ENOTDIR, "it is a link or a file: replace it with a folder") from None
    finally:
        os.close(parent)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        log = os.open("kirschd.log", flags, 0o600, dir_fd=folder)
        if user:
            _give(folder, user)
        return log
    finally:
        os.close(folder)


def _give(state: int, user: pwd.struct_passwd) -> None:
    """Give an open state folder to a user, with what root has left in it."""
    for _, folders, files, fd in os.fwalk(".", dir_fd=state):
        for name in (*folders, *files, "."):
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            # A file with another name may be root's own, elsewhere.
            if found.st_uid == 0 and (found.st_nlink == 1 or stat.S_ISDIR(found.st_mode)):
                os.chown(name, user.pw_uid, user.pw_gid, dir_fd=fd, follow_symlinks=False)


def ended(pid: int, timeout: float | None = None) -> bool:
    """Wait until a process, ours or not, has ended; True if it has (pidfd_open(2))."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], timeout)[0])
    finally:
        os.close(fd)


def _first_line(parent: socket.socket) -> dict[str, object]:
    """Return kirschd's message about its start; nothing if it ends or stays silent too long."""
    parent.settimeout(START_TIMEOUT)
    data = b""
    try:
        while not data.endswith(b"\n"):
            chunk = parent.recv(65536)
            if not chunk:
                return {}
            data += chunk
    except TimeoutError:
        return {}
    answer: dict[str, object] = json.loads(data)
    return answer
