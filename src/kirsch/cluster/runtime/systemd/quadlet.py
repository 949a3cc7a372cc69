"""Podman's Quadlet: which service a file becomes, and what the generator says of it (podman-systemd.unit(5)).

The generator drops every file of a folder in which one cannot be read, so no file goes there before it has
been tried in a folder of its own.
"""

import errno
import re
import shutil
import subprocess
import tempfile
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kirsch.cluster.model.podman import parse_version
from kirsch.cluster.runtime.systemd.files import DROP_IN, QUADLETS, extend
from kirsch.unit import QUADLET_TYPES, UnitError, UnitFile, UnitName

# Where distributions put it.
GENERATORS = (
    "usr/libexec/podman/quadlet",
    "usr/lib/podman/quadlet",
    "usr/lib/systemd/system-generators/podman-system-generator",
)
SECTIONS = {kind: kind.capitalize() for kind in QUADLET_TYPES}
TIMEOUT = 10.0  # seconds, for one run of the generator
MAX_BATCH = 500  # files: their folders go into one environment variable

# fleet's types that systemd has no more (its NEWS: 228, 233), or makes from no file (systemd.scope(5)).
NEVER_LOADED = {
    "busname": "systemd has had no .busname units since version 233",
    "snapshot": "systemd has had no .snapshot units since version 228",
    "scope": "systemd makes a .scope of processes that run already, never from a file",
}
KNOWN = 4096  # files that are not asked about again
# Whoever submits waits for the answer, and an event loop with them: so many seconds in so many at most.
SPENT, WITHIN = 1.0, 10.0

_REFERENCE = re.compile(r"(?<![\w./-])([A-Za-z0-9:_.\\@-]+\.(?:network|volume|pod|image|build|container))\b")
# As podman 5 says it, and as 4.4 did: Error converting 'x.container', ignoring: …
_REFUSED = re.compile(
    r"^(?:quadlet-generator\[\d+\]: )?(?:[Ee]rror )?(?:converting|loading) "
    r"[\"']([^\"']+)[\"'](?:, ignoring)?[:,] (.*)$"
)
# What stands in for a Quadlet that a file names and that is not there: enough to be one.
_STUBS = {
    "build": "[Build]\nImageTag=localhost/stub\nSetWorkingDirectory=unit\n",
    "container": "[Container]\nImage=localhost/stub\n",
    "image": "[Image]\nImage=localhost/stub\n",
}


def service_name(name: UnitName, file: UnitFile | None = None) -> str:
    """The unit of systemd that a unit is: itself, or the service that a Quadlet becomes."""
    if name.type not in QUADLET_TYPES:
        return name.text
    stem = name.text.removesuffix(f".{name.type}")
    given = file.get(SECTIONS[name.type], "ServiceName") if file else None
    if given is not None:
        return f"{given.value.removesuffix('.service')}.service"
    return f"{stem}.service" if name.type in ("container", "kube") else f"{stem}-{name.type}.service"


def references(file: UnitFile) -> set[str]:
    """The Quadlets that a file names (Network=x.network, Image=y.build, …)."""
    found: set[str] = set()
    for section in SECTIONS.values():
        for entry in file.entries(section):
            if entry.name in ("Network", "Volume", "Mount", "Pod", "Image"):
                found.update(_REFERENCE.findall(entry.value))
    return found


def refusals(output: str) -> dict[str, str]:
    """Why the generator made no service of a file, by the file's name, from what it prints to stderr."""
    found: dict[str, str] = {}
    for line in output.splitlines():
        if match := _REFUSED.match(line):
            found.setdefault(match[1].rpartition("/")[2], _plain(match[2]))
    return found


def _plain(text: str) -> str:
    """Strip the name of the temporary folder from a message."""
    return re.sub(r" in /\S+$", "", text).removeprefix("file contains ")


@dataclass(frozen=True, slots=True)
class Generator:
    """The generator of the machine whose files are seen at `root`; `prefix` is what goes in front of a
    command that is to run there. `version` is podman's, (0,) if it cannot be told."""

    root: Path
    path: str
    prefix: tuple[str, ...] = ()
    version: tuple[int, ...] = (0,)

    @classmethod
    def find(cls, root: Path, prefix: Sequence[str] = ()) -> "Generator | None":
        """Find a machine's generator; None without Quadlet (before podman 4.4, or no podman). Blocks."""
        for path in GENERATORS:
            # A link of another machine leads astray here; that it is there is enough.
            if (root / path).exists() or (root / path).is_symlink():
                found = cls(root, f"/{path}", tuple(prefix))
                try:
                    return replace(found, version=parse_version(found.run("-version")[0]))
                except OSError:
                    return found
        return None

    @property
    def merges(self) -> bool:
        """True if the generator reads drop-ins (podman's release notes)."""
        return self.version >= (5, 0)

    def check(
        self, units: Sequence[tuple[UnitName, UnitFile, str]], *, stubs: bool = False
    ) -> dict[UnitName, str]:
        """Try files with their drop-ins, each in a folder of its own, beside those that are loaded: for those
        that the generator refuses, its own words. With `stubs` what a file names need not be there. Blocks.

        Raises OSError where they cannot be written, or the generator cannot be run."""
        found: dict[UnitName, str] = {}
        for start in range(0, len(units), MAX_BATCH):
            found |= self._check(units[start : start + MAX_BATCH], stubs)
        return found

    def command(self, name: UnitName, file: UnitFile, drop_in: str) -> str:
        """ExecStart= of the service that a Quadlet becomes. Blocks. Raises OSError, UnitError in the
        generator's words."""
        stage = self._stage_for([(name, file, drop_in)], stubs=False)
        try:
            inside = f"/run/kirsch/{stage.name}"
            output, errors = self.run("--dryrun", QUADLET_UNIT_DIRS=f"{inside}/0:/{QUADLETS}")
        finally:
            shutil.rmtree(stage, ignore_errors=True)
        made = output.partition(f"---{service_name(name, file)}---\n")[2].partition("\n---")[0]
        entry = UnitFile.parse(made).get("Service", "ExecStart")
        if entry is None:
            raise UnitError(
                f"{name}: Quadlet: {refusals(errors).get(name.text, 'it makes no service of it')}"
            )
        return entry.value

    def _check(self, units: Sequence[tuple[UnitName, UnitFile, str]], stubs: bool) -> dict[UnitName, str]:
        stage = self._stage_for(units, stubs)
        inside = f"/run/kirsch/{stage.name}"
        try:
            folders = [f"{inside}/{index}" for index in range(len(units))]
            after = [f"/{QUADLETS}", f"{inside}/stubs"] if stubs else [f"/{QUADLETS}"]
            _, errors = self.run("--dryrun", QUADLET_UNIT_DIRS=":".join([*folders, *after]))
        finally:
            shutil.rmtree(stage, ignore_errors=True)
        refused = refusals(errors)
        return {name: refused[name.text] for name, _, _ in units if name.text in refused}

    def _stage_for(self, units: Sequence[tuple[UnitName, UnitFile, str]], stubs: bool) -> Path:
        base = self.root / "run/kirsch"
        base.mkdir(mode=0o755, parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix="quadlets-", dir=base))
        try:
            self._stage(stage, units, stubs)
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise
        return stage

    def _stage(self, stage: Path, units: Sequence[tuple[UnitName, UnitFile, str]], stubs: bool) -> None:
        named: set[str] = set()
        for index, (name, file, drop_in) in enumerate(units):
            folder = stage / str(index)
            (folder / f"{name}.d").mkdir(parents=True)
            content = bytes(file) if self.merges else extend(bytes(file), drop_in.encode())
            (folder / name.text).write_bytes(content)
            (folder / f"{name}.d" / DROP_IN).write_text(drop_in)
            named |= references(file)
        if stubs:
            (stage / "stubs").mkdir()
            for reference in named:
                kind = reference.rpartition(".")[2]
                (stage / "stubs" / reference).write_text(_STUBS.get(kind, f"[{SECTIONS[kind]}]\n"))

    def run(self, *arguments: str, **environment: str) -> tuple[str, str]:
        """Run the generator with these variables: its output and its errors. Blocks. Raises OSError."""
        assignments = [f"{name}={value}" for name, value in environment.items()]
        command = [*self.prefix, "/usr/bin/env", *assignments, self.path, *arguments]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            raise OSError(errno.ETIMEDOUT, f"took more than {TIMEOUT:g} s", self.path) from None
        return done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


class Checker:
    """Asks a machine's Quadlet, if it has one. What is known is not asked again: instances of a template are
    one file."""

    def __init__(self, generator: Generator | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._generator = generator
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._spent: deque[tuple[float, float]] = deque()

    def check(self, name: UnitName, file: UnitFile) -> list[str]:
        """Warnings, as Runtime.check has them. Blocks. Raises UnitError for what Quadlet refuses."""
        if name.type in NEVER_LOADED:
            return [f"{name}: {NEVER_LOADED[name.type]}: it will not run"]
        if name.type not in QUADLET_TYPES or self._generator is None:
            return []
        key = (name.type, file.hash)
        if key not in self._known:
            if self._is_spent():
                return [f"{name}: there is much to check: what Quadlet says of it is told when it is loaded"]
            try:
                self._known[key] = self._ask(self._generator, name, file)
            except OSError as error:
                return [f"{name}: podman's Quadlet cannot be asked about it: {error.strerror or error}"]
            if len(self._known) > KNOWN:
                self._known.popitem(last=False)
        if refused := self._known[key]:
            raise UnitError(refused, file.file or name.text)
        return []

    def _ask(self, generator: Generator, name: UnitName, file: UnitFile) -> str:
        began = self._clock()
        try:
            return generator.check([(name, file, "")], stubs=True).get(name, "")
        finally:
            now = self._clock()
            self._spent.append((now, now - began))

    def _is_spent(self) -> bool:
        while self._spent and self._spent[0][0] < self._clock() - WITHIN:
            self._spent.popleft()
        return sum(seconds for _, seconds in self._spent) > SPENT
