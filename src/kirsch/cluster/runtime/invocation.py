"""From a Service to what is really run: environment, folders, and the Command for kirsch.bus."""

import glob
import math
import os
import pwd
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from kirsch.bus.process.child import ChildError, Command
from kirsch.bus.process.command import Mounts, can_isolate, resolve_credentials, scope_command
from kirsch.cluster.runtime.environment import parse_environment_file, unset
from kirsch.cluster.runtime.host import Host
from kirsch.cluster.runtime.progress import Progress
from kirsch.cluster.runtime.service import Directory, Service
from kirsch.cluster.runtime.status import signal_name

# Read-only by ProtectSystem= (systemd.exec(5)); strict means all.
PROTECTED = {
    "no": (),
    "yes": ("/usr", "/boot", "/efi"),
    "full": ("/usr", "/boot", "/efi", "/etc"),
    "strict": ("/usr", "/boot", "/efi", "/etc"),
}
# In whose place PrivateTmp= has folders of the unit's own, by their names.
TEMPORARY = {"/tmp": "tmp", "/var/tmp": "var-tmp"}  # noqa: S108 they are hidden, and nothing is written there
# Gives a program another name for itself ("@"): execve(2) can, a Command cannot.
_EXECUTE = "import os, sys; os.execv(sys.argv[1], sys.argv[2:])"


def compose_environment(
    service: Service, host: Host, prepared: Mapping[str, str], manager: Mapping[str, str]
) -> dict[str, str]:
    """All that a process of the unit sees, in the order of systemd.exec(5): a small base, what the `manager`
    says, what the file passes and sets, its EnvironmentFile=s as they are now, what the cluster `prepared`.

    Raises ChildError when a file cannot be read or there is no such user.
    """
    environment = {"PATH": host.path, **_login(service, host), **_folders(service, host), **manager}
    for name in ("LANG", "TZ", *service.pass_environment):
        if name in host.environment:
            environment[name] = host.environment[name]
    environment |= service.environment
    for file in service.environment_files:
        environment |= _read_environment(host.directory / file.path, file.optional)
    return unset(environment | dict(prepared), service.unset_environment)


def run_variables(service: Service, progress: Progress, main: bool) -> dict[str, str]:
    """Return the variables that tell a run's commands of its state (systemd.exec(5), "Environment
    Variables")."""
    variables = {}
    if main and service.watchdog < math.inf:
        variables["WATCHDOG_USEC"] = str(int(service.watchdog * 1e6))
    if progress.main:
        variables["MAINPID"] = str(progress.main)
    if progress.active == "deactivating":
        variables["SERVICE_RESULT"] = progress.result
        if (exit := progress.main_exit) is not None:
            killed = exit.signal is not None
            variables["EXIT_CODE"] = "killed" if killed else "exited"
            name = signal_name(exit.signal or 0).removeprefix("SIG")
            variables["EXIT_STATUS"] = name if killed else str(exit.code)
    return variables


def compose_command(
    service: Service, host: Host, argv: tuple[str, ...], environment: Mapping[str, str], program: str = ""
) -> Command:
    """Compose the Command that kirsch.bus runs. `program` is for an `argv[0]` that is only a name. Raises
    ChildError."""
    program = program or argv[0]
    found = program
    if "/" not in program:
        path = environment.get("PATH", "")
        found = shutil.which(program, path=path) or ""
        if not found:
            raise ChildError(f"not found on PATH {path}")
    if program != argv[0]:
        argv = (sys.executable, "-I", "-S", "-c", _EXECUTE, found, *argv)
    return Command(
        argv=argv,
        environment=environment,
        directory=_working_directory(service, host),
        user=service.user,
        group=service.group,
        umask=service.umask,
        nice=service.nice,
        limits=service.limits,
        oom_score=service.oom_score,
        no_new_privileges=service.no_new_privileges,
        no_capabilities=service.no_capabilities and os.geteuid() == 0,  # nobody else could
        mounts=_mounts(service, host) if service.isolation and can_isolate() else None,
        scope=service.resources if scope_command() else (),
    )


def compose_context(service: Service, host: Host, prepared: Mapping[str, str]) -> Command:
    """A command that does nothing where, as whom and with what the unit's commands run. Raises ChildError."""
    return compose_command(service, host, (sys.executable,), compose_environment(service, host, prepared, {}))


def make_directories(service: Service, host: Host) -> None:
    """StateDirectory= and its like, owned by the unit's user. Raises ChildError when one cannot be had."""
    if service.private_tmp:
        for name in TEMPORARY.values():
            path = _temporary(service, host) / name
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o1777)
        _temporary(service, host).chmod(0o700)
    for directory in service.directories:
        path = host.folders[directory.kind] / directory.path
        try:
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
            path.chmod(directory.mode)
            _own(path, service)
        except OSError as error:
            raise ChildError(f"{_directive(directory)}: {path}: {error.strerror}", error.errno or 0) from None
        if service.user and (barred := _barred(path, service.user)):
            raise ChildError(f"{_directive(directory)}: user {service.user} may not enter {barred}")


def remove_runtime_directories(service: Service, host: Host, restarting: bool) -> None:
    """RuntimeDirectory= goes with the run, unless RuntimeDirectoryPreserve= says otherwise."""
    if service.private_tmp and not restarting:
        shutil.rmtree(_temporary(service, host), ignore_errors=True)
    preserve = service.runtime_directory_preserve
    if preserve == "yes" or (preserve == "restart" and restarting):
        return
    for directory in service.directories:
        if directory.kind == "runtime":
            shutil.rmtree(host.folders["runtime"] / directory.path, ignore_errors=True)


def _mounts(service: Service, host: Host) -> Mounts:
    """Return the files of this machine that the unit's commands see."""
    own = [host.folders[each.kind] / each.path for each in service.directories]
    writable = [str(path) for path in own] + [
        path for path in service.read_write_paths if os.path.exists(path)
    ]
    temporary = _temporary(service, host)
    private = {path: str(temporary / name) for path, name in TEMPORARY.items() if os.path.isdir(path)}
    # An application may well lie below /tmp, and kirsch itself.
    kept = {str(host.directory), str(host.folders["state"].parent), sys.prefix, *writable}
    read_only = (*PROTECTED[service.protect_system], *service.read_only_paths)
    return Mounts(
        strict=service.protect_system == "strict",
        read_only=tuple(path for path in read_only if os.path.exists(path)),
        writable=tuple(writable),
        private=private if service.private_tmp else {},
        kept=tuple(sorted(kept)),
    )


def _temporary(service: Service, host: Host) -> Path:
    """The folder of a unit's own /tmp and /var/tmp."""
    return host.folders["runtime"] / ".private" / service.name.text


def _directive(directory: Directory) -> str:
    return f"{directory.kind.capitalize()}Directory={directory.path}"


def _login(service: Service, host: Host) -> dict[str, str]:
    """HOME and its like: of User=, or of the daemon where that is an ordinary user's."""
    if service.user is None:
        names = () if os.geteuid() == 0 else ("HOME", "USER", "LOGNAME", "SHELL")
        return {name: host.environment[name] for name in names if name in host.environment}
    entry = find_user(service.user)
    return {"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name, "SHELL": entry.pw_shell}


def find_user(user: str) -> pwd.struct_passwd:
    """Find a user by name or number. Raises ChildError when there is none."""
    try:
        return pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except KeyError:
        raise ChildError(f"User={user}: there is no such user") from None


def _folders(service: Service, host: Host) -> dict[str, str]:
    """RUNTIME_DIRECTORY, STATE_DIRECTORY, CACHE_DIRECTORY, LOGS_DIRECTORY."""
    variables: dict[str, str] = {}
    for directory in service.directories:
        name = f"{directory.kind.upper()}_DIRECTORY"
        path = str(host.folders[directory.kind] / directory.path)
        variables[name] = f"{variables[name]}:{path}" if name in variables else path
    return variables


def _read_environment(pattern: Path, optional: bool) -> dict[str, str]:
    paths = sorted(glob.glob(str(pattern)))
    if not paths and not optional:
        raise ChildError(f"EnvironmentFile={pattern}: there is no such file")
    variables: dict[str, str] = {}
    for path in paths:
        try:
            variables |= parse_environment_file(Path(path).read_text("utf-8"))
        except OSError as error:
            raise ChildError(f"EnvironmentFile={path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ChildError(f"EnvironmentFile={path}: it is not UTF-8") from None
    return variables


def _working_directory(service: Service, host: Host) -> str:
    if service.working_directory is None:
        return str(host.directory)
    if service.working_directory == "~":
        return find_user(service.user).pw_dir if service.user else host.specifiers["h"]
    path = host.directory / service.working_directory
    if service.working_directory_optional and not path.is_dir():
        return str(host.directory)
    return str(path)


def _own(path: Path, service: Service) -> None:
    """Give a folder to the unit's user, with all that is in it, unless it is theirs already."""
    if os.geteuid() != 0 or (service.user is None and service.group is None):
        return
    credentials = resolve_credentials(service.user, service.group)
    uid = os.geteuid() if credentials.uid is None else credentials.uid
    gid = os.getegid() if credentials.gid is None else credentials.gid
    found = path.stat()
    if (found.st_uid, found.st_gid) == (uid, gid):
        return
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            os.chown(os.path.join(folder, name), uid, gid, follow_symlinks=False)
    os.chown(path, uid, gid)


def _barred(path: Path, user: str) -> Path | None:
    """The first folder on the way to `path` that `user` may not enter."""
    entry = find_user(user)
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    for folder in reversed(path.parents):
        found = folder.stat()
        other = 0o010 if found.st_gid in groups else 0o001
        bit = 0o100 if found.st_uid == entry.pw_uid else other
        if entry.pw_uid != 0 and not found.st_mode & bit:
            return folder
    return None
