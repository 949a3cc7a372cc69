"""Keeps a machine's dnsmasq and its records as they are to be."""

import asyncio
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from kirsch.cluster.model import keys
from kirsch.cluster.network.base import Network
from kirsch.cluster.network.names.dnsmasq import PROGRAM, UNIT, command, complaint, settings
from kirsch.cluster.network.names.records import DOMAIN, records, text
from kirsch.cluster.registry.mirror import Mirror
from kirsch.cluster.registry.snapshot import Snapshots

log = logging.getLogger(__name__)

PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"
UNANSWERED = f"names below {DOMAIN} are not answered: "
MISSING = f"{UNANSWERED}dnsmasq is not installed (apt-get install dnsmasq-base)"
# Seconds until a dnsmasq that has ended, or could not be started, is looked at: systemd has tried by then.
AGAIN = 5.0
# How many of its last lines may say why.
LINES = 10
KINDS = (keys.ENDPOINTS, keys.UNITS)


def available() -> str:
    """The path of this machine's dnsmasq; "" if it has none."""
    return shutil.which(PROGRAM, path=PATH) or ""


class Names:
    """The names that one machine answers for, at its address in the flat network. For one event loop.

    `folder` is where the records stand; `problem` says in a line why names are not answered, "" if they are.
    """

    def __init__(self, mirror: Mirror, snapshots: Snapshots, network: Network, folder: Path) -> None:
        self.mirror = mirror
        self.snapshots = snapshots
        self.network = network
        self.folder = folder
        self.problem = "" if available() else MISSING
        self._listeners: list[Callable[[], None]] = []
        self._numbered = asyncio.Event()
        self._changed = asyncio.Event()
        self._written: str | None = None
        network.listen(self._numbered.set)

    @property
    def address(self) -> str:
        """Address at which names are answered, or soon will be; empty if there is none."""
        return "" if self.problem else self.network.gateway

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` when `problem` has changed."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Answer until cancelled. What was answered last goes on being answered after that: the next kirschd
        takes it up."""
        self.mirror.listen(self._take_notice)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._serve())
                group.create_task(self._follow())
        finally:
            self.mirror.ignore(self._take_notice)

    async def _follow(self) -> None:
        """Keep the records true. Until the store was heard, those of an earlier kirschd stand."""
        while True:
            if self.mirror.revision > 0:
                cluster = self.snapshots.now()
                wanted = text(records(cluster.endpoints, cluster.units))
                if wanted != self._written:
                    try:
                        await asyncio.to_thread(self._write, "records/hosts", wanted)
                        self._written = wanted
                    except OSError as error:
                        log.warning("names: %s/records cannot be written: %s", self.folder, error.strerror)
            await self._changed.wait()
            self._changed.clear()

    async def _serve(self) -> None:
        """Have dnsmasq run as it is to; systemd keeps it running. Whether it does is looked at when it has
        ended: who stops it is heeded for a moment."""
        while not self.network.gateway:
            await self._numbered.wait()
            self._numbered.clear()
        address, said = self.network.gateway, ""
        while True:
            problem = await self._start(address)
            if problem and problem != said:
                log.warning("%s", problem)
            elif said and not problem:
                log.info("names below %s are answered again", DOMAIN)
            said = problem
            self._tell(problem)
            if not problem:
                await _ended()
            await asyncio.sleep(AGAIN)

    def _tell(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            for listener in self._listeners:
                listener()

    async def _start(self, address: str) -> str:
        """Start dnsmasq; returns the reason why it does not run, "" if it does."""
        program = available()
        if not program:
            return MISSING
        wanted, configuration = settings(address, self.folder / "records"), self.folder / "dnsmasq.conf"
        try:
            known = await asyncio.to_thread(_read, configuration)
            state = (await _call("systemctl", "is-active", UNIT))[1]
            if known == wanted and state == "active":
                return ""
            if known == wanted and state == "activating":
                # systemd tries again by itself: this waits for what comes of that.
                status, words = await _call("systemctl", "start", UNIT)
            else:
                await _call("systemctl", "stop", UNIT)
                # A folder that is not there when it starts it would never look at.
                await asyncio.to_thread(self._folder, self.folder / "records")
                await asyncio.to_thread(self._write, configuration.name, wanted)
                status, words = await _call(*command(program, configuration))
            return f"{UNANSWERED}{await _complaint() or words}" if status else ""
        except OSError as error:
            return f"{UNANSWERED}{error.filename}: {error.strerror}"

    def _folder(self, path: Path) -> None:
        """Have a folder, which everybody may look into. Raises OSError."""
        path.mkdir(parents=True, exist_ok=True)
        for folder in {self.folder, path}:
            folder.chmod(0o755)

    def _write(self, name: str, content: str) -> None:
        """Replace a file that everybody may read, whole or not at all. What begins with a dot dnsmasq leaves
        alone. Raises OSError."""
        path = self.folder / name
        self._folder(path.parent)
        draft = path.with_name(f".{path.name}.new")
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with open(fd, "w") as file:
            os.fchmod(fd, 0o644)
            file.write(content)
        draft.rename(path)

    def _take_notice(self, changed: frozenset[str]) -> None:
        if any(keys.kind(key) in KINDS for key in changed):
            self._changed.set()


async def _ended() -> None:
    """Return once the dnsmasq that runs now has ended."""
    try:
        _, pid = await _call("systemctl", "show", "--property=MainPID", "--value", UNIT)
        process = os.pidfd_open(int(pid or 0))
    except (OSError, ValueError):
        return  # it has ended already, or cannot be asked for
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(process, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(process)
        os.close(process)


async def _complaint() -> str:
    """Return dnsmasq's last words as one line; "" if they are not known."""
    from kirsch.cluster.network.inotify import limit_reached

    newest = ("--quiet", "--no-pager", "--output=cat", f"--lines={LINES}", f"--since=-{2 * AGAIN:.0f}s")
    _, lines = await _lines("journalctl", *newest, f"--unit={UNIT}", f"SYSLOG_IDENTIFIER={PROGRAM}")
    return complaint(lines, limit_reached)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


async def _call(*argv: str) -> tuple[int, str]:
    """A command's exit status, and what it printed in one line. Raises OSError."""
    status, lines = await _lines(*argv)
    return status, " ".join(" ".join(lines).split())


async def _lines(*argv: str) -> tuple[int, list[str]]:
    """A command's exit status, and the lines that it printed. Raises OSError."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode(errors="replace").splitlines()
