"""An image, built with podman from a folder with a Containerfile."""

import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kirsch.cluster.image import podman
from kirsch.cluster.image.base import Bases
from kirsch.cluster.image.containerfile import BASE, NAMES, WHEELS, Containerfile
from kirsch.cluster.image.content import content_tag
from kirsch.cluster.image.progress import Begun, Progress, reason
from kirsch.cluster.image.reference import LOCAL, ImageError, Reference
from kirsch.cluster.image.wheels import supply
from kirsch.cluster.provision.command import CommandError, Runner
from kirsch.cluster.provision.image import Images
from kirsch.cluster.provision.steps import Show


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be built: the folder, its Containerfile, the names the image gets, build arguments."""

    context: Path
    file: Path
    names: tuple[Reference, ...]
    arguments: Mapping[str, str] = field(default_factory=dict)
    cache: bool = True


@dataclass(frozen=True, slots=True)
class Built:
    """An image that was built: its id, its names, the one by its content first, its size in bytes."""

    id: str
    names: tuple[Reference, ...]
    size: int


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
    """What can be known before anything is done. Raises ImageError."""
    if not directory.is_dir():
        raise ImageError(f"{directory}: no such directory")
    found = file or next((directory / name for name in NAMES if (directory / name).is_file()), None)
    if found is None:
        raise ImageError(f"{directory} has no Containerfile: write one, or name another file with --file")
    if not found.is_file():
        raise ImageError(f"{found}: no such file")
    if not shutil.which("podman"):
        raise ImageError("images are built with podman: apt-get install podman")
    given = names or (directory.resolve().name.lower(),)
    return Plan(directory, found, tuple(map(Reference.parse, given)), arguments, cache)


def build(plan: Plan, show: Show, runner: Runner | None = None) -> Built:
    """Build it. Raises ProvisionError; a build that fails leaves no image and no container behind."""
    runner = runner or Runner()
    try:
        text = plan.file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"{plan.file}: {error}") from None
    arguments = dict(plan.arguments)
    file = Containerfile.parse(text, arguments)
    if BASE in file.arguments and BASE not in arguments:
        arguments[BASE] = _base(file, show, runner)
        file = Containerfile.parse(text, arguments)
    _check_bases(file, runner)
    clock = time.monotonic()
    wheels = supply(plan.context, runner, fresh=not plan.cache)
    if wheels:
        show.done("wheels of requirements.txt", time.monotonic() - clock)
        if WHEELS in file.arguments:
            arguments[WHEELS] = wheels.digest
    with tempfile.TemporaryDirectory() as folder:
        id_file = Path(folder) / "id"
        command = podman.build(
            plan.context,
            plan.file,
            [],
            arguments,
            id_file=id_file,
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
    return _named(id, plan.names, runner)


def inspected(image: str, runner: Runner) -> dict[str, Any]:
    """What podman knows of an image. Raises ImageError where there is none."""
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


def _check_bases(file: Containerfile, runner: Runner) -> None:
    """podman would look for a name of ours in a registry on this computer, and say that it refuses."""
    images = Images(runner)
    for base in file.bases:
        local = base.startswith(f"{LOCAL}/")
        if images.exists(base) or (not local and images.pullable(base)):
            continue
        if base.startswith(f"{LOCAL}/kirsch/"):
            folder = Reference.parse(base).path
            made = f"`kirsch image build images/{folder.removeprefix('kirsch/')} -t {folder}`"
        else:
            made = "build it first" if local else "no registry that is reached has it"
        raise ImageError(f"the Containerfile begins with {base}, which is not here: {made}")


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
