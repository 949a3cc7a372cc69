"""An image, built with podman from a folder with a Containerfile."""

import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kirsch.cluster.image import podman
from kirsch.cluster.image.base import Bases, own_folder
from kirsch.cluster.image.containerfile import BASE, NAMES, WHEELS, Containerfile, excluded, text_of
from kirsch.cluster.image.lock import BUILD, shared
from kirsch.cluster.image.progress import Begun, Progress, reason
from kirsch.cluster.image.reference import LATEST, LOCAL, ImageError, Reference, content_tag
from kirsch.cluster.image.wheels import REQUIREMENTS, Supply, supply
from kirsch.cluster.provision.command import CommandError, Runner
from kirsch.cluster.provision.image import Images
from kirsch.cluster.provision.steps import Show

# Arguments that every Containerfile has (podman-build(1)).
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
# What has to be there (kirsch.cluster.provision.podman).
PROGRAMS = ("podman", "runc")


@dataclass(frozen=True, slots=True)
class Plan:
    """Inputs of a build: the folder, its Containerfile, the names the image gets, build arguments."""

    context: Path
    file: Path
    names: tuple[Reference, ...]
    arguments: Mapping[str, str] = field(default_factory=dict)
    cache: bool = True


@dataclass(frozen=True, slots=True)
class Built:
    """An image that was built: its id, its names, the one by its content first, its size in bytes, and the
    digest of its wheels (empty without any)."""

    id: str
    names: tuple[Reference, ...]
    size: int
    wheels: str = ""


class BuildError(ImageError):
    """A step of a build that failed; `lines` are the last that it wrote."""

    def __init__(self, message: str, lines: Sequence[str]) -> None:
        super().__init__(message)
        self.lines = tuple(lines)


def planned(
    directory: Path,
    names: Sequence[str],
    arguments: Mapping[str, str],
    *,
    file: Path | None = None,
    cache: bool = True,
) -> Plan:
    """Check a build's inputs before anything is done. Raises ImageError."""
    if not directory.is_dir():
        raise ImageError(f"{directory}: no such directory")
    found = file or next((directory / name for name in NAMES if (directory / name).is_file()), None)
    if found is None:
        raise ImageError(f"{directory} has no Containerfile: write one, or name another file with --file")
    if not found.is_file():
        raise ImageError(f"{found}: no such file")
    given = tuple(map(Reference.parse, names)) or (_name(directory),)
    installed()
    return Plan(directory, found, given, arguments, cache)


def installed() -> None:
    """Raises ImageError where podman is not, or the runtime that it is told to use."""
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing:
        words = " and ".join(missing)
        raise ImageError(f"images need {words}: apt-get install {' '.join(missing)}")


def _name(directory: Path) -> Reference:
    name = directory.resolve().name.lower()
    try:
        return Reference.parse(name)
    except ImageError:
        raise ImageError(f"{name!r} cannot be an image's name: give one with -t NAME") from None


def build(plan: Plan, show: Show, runner: Runner | None = None) -> Built:
    """Build it. Raises ProvisionError; a build that fails leaves no image and no container behind."""
    try:
        with shared(BUILD):
            return _build(plan, show, runner or Runner())
    except BrokenPipeError:
        raise  # who reads what is shown
    except OSError as error:
        # /tmp, or the folder where wheels are kept.
        raise ImageError(f"{error.filename or 'podman'}: {error.strerror or error}") from None


def _build(plan: Plan, show: Show, runner: Runner) -> Built:
    text = text_of(plan.file)
    arguments = dict(plan.arguments)
    file = Containerfile.parse(text, arguments)
    if unknown := [name for name in arguments if name not in file.arguments and name.upper() not in PROXIES]:
        raise ImageError(f"{plan.file} has no ARG {unknown[0]}: what is given for it would change nothing")
    if BASE in file.arguments and BASE not in arguments:
        arguments[BASE] = _base(file, show, runner)
        file = Containerfile.parse(text, arguments)
    for base in file.bases:
        _there(base, show, runner)
    wheels = _wheels(plan, show, runner) if _wanted(plan.context, text, file, runner) else None
    if wheels and WHEELS in file.arguments:
        arguments[WHEELS] = wheels.digest
    with tempfile.TemporaryDirectory() as folder:
        id_file, ignore = Path(folder) / "id", Path(folder) / "ignore"
        ignore.write_text(excluded(plan.context, plan.file))
        command = podman.build(
            plan.context,
            plan.file,
            [],
            arguments,
            id_file=id_file,
            ignore=ignore,
            wheels=wheels.folder if wheels else None,
            cache=plan.cache,
        )
        progress = _Steps(show)
        try:
            runner.stream(command, progress.read)
        except CommandError as error:
            raise _failure(progress, error) from None
        progress.end()
        id = id_file.read_text().strip().removeprefix("sha256:")
    return replace(_named(id, plan.names, runner), wheels=wheels.digest if wheels else "")


def inspected(image: str, runner: Runner) -> dict[str, Any]:
    """Return podman's description of an image. Raises ImageError where there is none."""
    try:
        said: list[dict[str, Any]] = json.loads(runner.run(podman.inspect(image)))
    except CommandError as error:
        if error.status == 125:
            raise ImageError(f"there is no image {image} here; `kirsch image list` shows them") from None
        raise
    return said[0]


def _base(file: Containerfile, show: Show, runner: Runner) -> str:
    bases = Bases(runner)
    if made := bases.made(file):
        return made
    name = f"base ({file.arguments[BASE]}, or Debian from this computer's mirror)"
    show.begun(name)
    clock = time.monotonic()
    base = bases.obtain(file)
    show.done(f"base {base}", time.monotonic() - clock)
    return base


def _there(base: str, show: Show, runner: Runner) -> None:
    """Make sure that an image is here that a Containerfile needs; one that comes with kirsch is built.

    podman would look for a local name in a registry on this computer, and report that it refuses.
    """
    images = Images(runner)
    local = base.startswith(f"{LOCAL}/")
    if images.exists(base) or own_image(base, show, runner) or (not local and images.pullable(base)):
        return
    made = "build it first" if local else f"no registry has it for us; `kirsch image pull {base}` says why"
    raise ImageError(f"the Containerfile needs {base}, which is not here: {made}")


def own_image(text: str, show: Show, runner: Runner) -> bool:
    """Build an image that comes with kirsch, as kirsch/web; whether it is one. Raises ProvisionError."""
    try:
        name = Reference.parse(text)
    except ImageError:
        return False  # by digest, or podman says what is wrong
    folder = own_folder(name.path) if name.local and name.tag == LATEST else None
    if not folder:
        return False
    clock = time.monotonic()
    build(planned(folder, [str(name)], {}), show, runner)
    show.done(f"{name}, which comes with kirsch", time.monotonic() - clock)
    return True


def _wanted(context: Path, text: str, file: Containerfile, runner: Runner) -> bool:
    """Return True if a build takes wheels: it has requirements, and pip is told to look for wheels there."""
    if not (context / REQUIREMENTS).exists():
        return False
    place = f"{podman.WHEELS}/"
    return place in text or any(
        place in variable
        for base in file.bases
        for variable in inspected(base, runner)["Config"].get("Env") or ()
    )


def _wheels(plan: Plan, show: Show, runner: Runner) -> Supply:
    step = f"wheels of {REQUIREMENTS}"
    show.begun(step)
    clock = time.monotonic()
    wheels = supply(plan.context, runner, fresh=not plan.cache)
    show.done(step, time.monotonic() - clock)
    return wheels


def _named(id: str, names: Sequence[Reference], runner: Runner) -> Built:
    image = inspected(id, runner)
    content = content_tag(image)
    given = list(dict.fromkeys([*(name.tagged(content) for name in names), *names]))
    runner.run(podman.tag(id, *map(str, given)))
    return Built(id, tuple(given), image["Size"])


def _failure(progress: "_Steps", error: CommandError) -> ImageError:
    said = error.words if error.words.startswith("not done after") else ""
    lines, why = reason(progress.lines)
    step = progress.step or "podman build"
    if any("no space left on device" in line for line in progress.lines):
        return ImageError(
            f"{step}: no space is left where podman keeps images: `kirsch image prune` frees some"
        )
    return BuildError(f"{step}: {said or why}", lines)


class _Steps:
    """Shows podman's steps as ours, with their seconds."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._progress = Progress()
        self._clock = 0.0
        self._cached = False

    @property
    def step(self) -> str:
        return self._progress.step

    @property
    def lines(self) -> list[str]:
        return self._progress.lines

    def read(self, line: str) -> None:
        before = self.step
        for event in self._progress.read(line):
            if isinstance(event, Begun):
                self._done(before)
                self._clock, self._cached = time.monotonic(), False
                self._show.begun(event.name)
            else:
                self._cached = True

    def end(self) -> None:
        self._done(self.step)

    def _done(self, step: str) -> None:
        if step:
            self._show.done(f"{step} (cached)" if self._cached else step, time.monotonic() - self._clock)
