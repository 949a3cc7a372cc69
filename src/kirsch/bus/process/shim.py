"""The shim: stands between kirsch and one command, and leaves nothing of it behind.

A program of its own, run by kirsch.bus.process.child as `python -I -S shim.py NAME`: standard library only,
and lean, since every import is paid at each start. It is a child subreaper (prctl(2),
PR_SET_CHILD_SUBREAPER), so that whatever descends from the command ends up as its child, however often it
forks and whatever session it makes.
When the parent is gone, even by kill -9, the shim kills its whole tree and ends.

Standard input is the control channel, a stream socket; standard output and error are the command's.

    parent -> shim   4 bytes of length and a marshalled dict (see Child._request), then lines:
                     signal N | all N | stop N GRACE | kill
    shim -> parent   error ERRNO STAGE | started PID, then: exited STATUS (as of waitpid(2)), then: empty
"""

from __future__ import annotations

import ctypes
import errno
import marshal
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 1, 15, 36  # <linux/prctl.h>
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000  # <linux/sched.h>
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x80000  # <sys/mount.h>
MOUNT_SETATTR, MOUNT_ATTR_RDONLY, AT_FDCWD, AT_RECURSIVE = 442, 1, -100, 0x8000  # mount_setattr(2)
# What ProtectSystem=strict leaves as it is.
INTERFACES = (b"/dev", b"/proc", b"/sys")
# In place of a command's name: end with 0 if commands can be isolated here.
PROBE = "--isolate"
CONTROL = 0
IGNORED = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGTSTP", "SIGUSR1", "SIGUSR2")

libc = ctypes.CDLL(None, use_errno=True)
prctl = libc.prctl


def children(pid: int) -> list[int]:
    """The processes whose parent is `pid` (proc_pid_task(5)); none when it is gone."""
    found: list[int] = []
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found  # it ended while we looked: its children are the shim's now
    for task in tasks:
        try:
            with open(f"/proc/{pid}/task/{task}/children", "rb") as listing:
                found.extend(map(int, listing.read().split()))
        except OSError:
            pass  # a thread that ended
    return found


def descendants(pid: int) -> list[int]:
    """All that descends from `pid`, parents before their children."""
    found = children(pid)
    for child in found:  # which grows as we go
        found.extend(children(child))
    return found


def kill(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except OSError:
        pass


class Shim:
    """Starts one command and minds its tree until nothing of it is left."""

    def __init__(self, control: int, request: dict[str, Any]) -> None:
        self.control = control
        self.parent = request["parent"]
        self.keep = request["keep"]
        self.grace = request["grace"]
        self.kill_at: float | None = None
        self.main = 0
        self.pending = b""
        self.wakeup, wakeup_in = os.pipe()
        os.set_blocking(self.wakeup, False)
        os.set_blocking(wakeup_in, False)
        signal.set_wakeup_fd(wakeup_in, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        # A forked copy of the parent may hold the control channel open: notice its death by this too.
        prctl(PR_SET_PDEATHSIG, signal.SIGCHLD, 0, 0, 0)
        prctl(PR_SET_NAME, b"kirsch-shim", 0, 0, 0)

    def report(self, line: str) -> None:
        try:
            os.write(self.control, line.encode() + b"\n")
        except OSError:
            pass  # the parent is gone: the loop will see it

    def start(self, request: dict[str, Any]) -> bool:
        """Fork and execute the command; reports what came of it."""
        failure, failure_in = os.pipe()
        shim = os.getpid()
        self.main = os.fork()
        if self.main == 0:
            become(request, failure_in, shim)  # never returns
        os.close(failure_in)
        # Only the command may hold these, so that they end when it does.
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        for fd in request["inherited"]:
            os.close(fd)
        os.close(null)
        message = os.read(failure, 100)
        os.close(failure)
        self.report(message.decode() or f"started {self.main}")
        return not message

    def watch(self) -> None:
        """Until nothing of the tree is left, or the parent is gone: then nothing is left either."""
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.wakeup, select.POLLIN)
        while self.reap():
            wait = None if self.kill_at is None else self.kill_at - time.monotonic()
            if os.getppid() != self.parent or (wait is not None and wait <= 0):
                self.kill_all()
                break
            ready = [fd for fd, _ in poll.poll(None if wait is None else wait * 1000)]
            if self.wakeup in ready:
                os.read(self.wakeup, 4096)
            if self.control in ready and not self.obey():
                self.kill_all()
        self.report("empty")

    def obey(self) -> bool:
        """Do what the parent wrote; False when it is gone."""
        try:
            data = os.read(self.control, 65536)
        except OSError:
            data = b""
        *lines, self.pending = (self.pending + data).split(b"\n")
        for line in lines:
            verb, *words = line.split()
            if verb == b"signal" and self.main:
                kill(self.main, int(words[0]))
            elif verb == b"all":
                self.signal_all(int(words[0]))
            elif verb == b"stop":
                self.stop(int(words[0]), float(words[1]))
            elif verb == b"kill":
                self.kill_all()
        return bool(data)

    def reap(self) -> bool:
        """Collect what has ended; False once nothing of the tree is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.main:
                self.main = 0
                self.report(f"exited {status}")
                if not self.keep:
                    self.signal_all(signal.SIGTERM)
                    self.kill_by(self.grace)

    def signal_all(self, signum: int) -> None:
        for pid in descendants(os.getpid()):
            kill(pid, signum)
            if signum == signal.SIGTERM:
                kill(pid, signal.SIGCONT)  # a stopped process hears nothing else

    def stop(self, signum: int, grace: float) -> None:
        """Signal the main process, or all that is left when it is gone, and kill what stays after `grace`."""
        self.keep, self.grace = False, grace
        if self.main:
            kill(self.main, signum)
            kill(self.main, signal.SIGCONT)
        else:
            self.signal_all(signum)
        self.kill_by(grace)

    def kill_by(self, grace: float) -> None:
        at = time.monotonic() + grace
        self.kill_at = at if self.kill_at is None else min(at, self.kill_at)

    def kill_all(self) -> None:
        """Kill every descendant, again and again until there is none: a fork storm has new ones each time."""
        self.keep = True  # no SIGTERM for what is about to be killed
        pause, before = 0.0, [0]
        while self.reap():
            left = descendants(os.getpid())
            for pid in left:
                self.kill_with_group(pid)
            # Against a storm only haste helps; what is killed and still there takes its time.
            pause = min(pause + 0.001, 0.05) if left == before else 0.0
            time.sleep(pause)
            before = left

    def kill_with_group(self, pid: int) -> None:
        """A group dies at one stroke: the kernel lets none of it fork away. Groups never leave the tree, as
        the command has a session of its own."""
        try:
            group = os.getpgid(pid)
            if group != os.getpgrp():
                os.killpg(group, signal.SIGKILL)
        except OSError:
            pass
        kill(pid, signal.SIGKILL)


def become(request: dict[str, Any], failure: int, shim: int) -> None:
    """In the forked child: become the command, or write 'error ERRNO STAGE' to `failure`. Never returns."""
    stage = "prepare"
    try:
        os.setsid()
        os.dup2(request["stdin"] if request["stdin"] is not None else os.open("/dev/null", os.O_RDONLY), 0)
        for fd in request["inherited"]:
            os.set_inheritable(fd, fd in request["fds"])
        stage = "limits"
        if request["limits"]:
            import resource

            for limit, values in request["limits"].items():
                resource.setrlimit(limit, values)
        if request["nice"]:
            os.nice(request["nice"])
        if request["oom_score"] is not None:
            with open("/proc/self/oom_score_adj", "w") as file:
                file.write(str(request["oom_score"]))
        stage = "mounts"
        if request["mounts"]:
            isolate(request["mounts"])
        stage = "prepare"
        if request["no_capabilities"]:
            drop_capabilities()
        stage = "user"
        if request["groups"] is not None:
            os.setgroups(request["groups"])
        if request["gid"] is not None:
            os.setgid(request["gid"])
        if request["uid"] is not None:
            os.setuid(request["uid"])
        if request["no_new_privileges"]:
            prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        # After setuid(2), which clears it; and the shim may have died before it was set.
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != shim:
            os._exit(1)
        stage = "directory"
        os.chdir(request["directory"])
        if request["umask"] is not None:
            os.umask(request["umask"])
        stage = "execute"
        reset_signals()
        execute(request["argv"], request["environment"])
    except Exception as error:
        number = getattr(error, "errno", errno.EINVAL)
        os.write(failure, f"error {number} {stage}".encode())
    finally:
        os._exit(127)


def reset_signals() -> None:
    """Give each signal its default action, and block none."""
    for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(signum, signal.SIG_DFL)
        except OSError:
            pass  # two that the C library keeps for itself
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def drop_capabilities() -> None:
    """Empty the bounding set (capabilities(7)): what is executed from then on has none, root or not."""
    capability = 0
    while prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    if capability == 0:
        raise OSError(errno.EPERM, "only root can do without capabilities")


def call(function: Any, *arguments: Any) -> None:
    """Call a function of the C library. Raises OSError."""
    if function(*arguments) < 0:
        raise OSError(ctypes.get_errno(), function.__name__)


def isolate(mounts: dict[str, Any]) -> None:
    """See other files than the rest of the machine (see command.Mounts). Raises OSError."""
    own_mounts()
    for path in mounts["read_only"]:
        bind(path, path)
        set_read_only(path, True, recursive=True)
    if mounts["strict"]:
        for path in mount_points():
            if not is_below(path, INTERFACES):
                try:
                    set_read_only(path, True)
                except OSError:
                    # Those that another mount hides, or that this user cannot reach, cannot be written to.
                    if path == b"/":
                        raise
    for path in mounts["writable"]:
        bind(path, path)
        set_read_only(path, False)
    private = mounts["private"]
    kept = [path for path in mounts["kept"] if is_below(path, private) and os.path.isdir(path)]
    # They may be hidden by what is mounted before them.
    opened = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in {*kept, *private.values()}}
    for path, source in private.items():
        bind_opened(opened[source], path)
        set_read_only(path, False)
    for path in kept:
        if not os.path.isdir(path):  # or it came with one above it
            os.makedirs(path)
            bind_opened(opened[path], path)
    for descriptor in opened.values():
        os.close(descriptor)


def own_mounts() -> None:
    """Enter a mount namespace, which for others than root needs a user namespace (user_namespaces(7))."""
    uid, gid = os.geteuid(), os.getegid()
    call(libc.unshare, CLONE_NEWNS if uid == 0 else CLONE_NEWNS | CLONE_NEWUSER)
    if uid != 0:
        for name, text in ("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1"):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    call(libc.mount, None, b"/", None, MS_REC | MS_SLAVE, None)


def bind(source: bytes, path: bytes) -> None:
    call(libc.mount, source, path, None, MS_BIND | MS_REC, None)


def bind_opened(descriptor: int, path: bytes) -> None:
    bind(b"/proc/self/fd/%d" % descriptor, path)


def set_read_only(path: bytes, value: bool, recursive: bool = False) -> None:
    """Change the mount at a path, and those below it."""
    given, taken = (MOUNT_ATTR_RDONLY, 0) if value else (0, MOUNT_ATTR_RDONLY)
    attributes = (ctypes.c_uint64 * 4)(given, taken, 0, 0)
    flags = ctypes.c_long(AT_RECURSIVE if recursive else 0)
    number, folder, size = ctypes.c_long(MOUNT_SETATTR), ctypes.c_long(AT_FDCWD), ctypes.c_size_t(32)
    call(libc.syscall, number, folder, path, flags, attributes, size)


def mount_points() -> list[bytes]:
    """All that is mounted (proc_pid_mountinfo(5)), whose paths have escapes."""
    with open("/proc/self/mountinfo", "rb") as file:
        found = [line.split()[4] for line in file]
    for escape, character in (b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\"):
        found = [path.replace(escape, character) for path in found]
    return found


def is_below(path: bytes, folders: Any) -> bool:
    return any(path == folder or path.startswith(folder + b"/") for folder in folders)


def execute(argv: list[bytes], environment: dict[bytes, bytes]) -> None:
    """execve(2) with execvp(3)'s search along PATH. Not os.execvpe, which first imports a module: the user
    that we are by now may not be allowed to read it."""
    if b"/" in argv[0]:
        os.execve(argv[0], argv, environment)
    refusal: OSError = FileNotFoundError(errno.ENOENT, "not in PATH")
    for directory in environment.get(b"PATH", os.fsencode(os.defpath)).split(b":"):
        try:
            os.execve(os.path.join(directory, argv[0]), argv, environment)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except PermissionError as error:
            refusal = error
    raise refusal


def read_exactly(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = os.read(fd, size - len(data))
        if not piece:
            sys.exit(0)  # the parent is gone, and nothing was started
        data += piece
    return data


def main() -> None:
    if sys.argv[1:2] == [PROBE]:
        nothing = {"read_only": [b"/usr"], "strict": True, "writable": [], "private": {}, "kept": []}
        isolate(nothing)
        return
    for name in IGNORED:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    size = int.from_bytes(read_exactly(CONTROL, 4), "big")
    request = marshal.loads(read_exactly(CONTROL, size))  # noqa: S302 - from the parent itself
    shim = Shim(os.dup(CONTROL), request)
    if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        shim.report(f"error {errno.ENOSYS} prepare")
    elif shim.start(request):
        shim.watch()


if __name__ == "__main__":
    main()
