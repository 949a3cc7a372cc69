"""The images of an application: what each is made of, made in order, and known by content."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kirsch.cluster.application import Application
from kirsch.cluster.application.pin import named, pinned
from kirsch.cluster.application.plan import Image, images_of
from kirsch.cluster.image.base import own_folder
from kirsch.cluster.image.build import build, inspected, planned
from kirsch.cluster.image.containerfile import Containerfile, text_of
from kirsch.cluster.image.fingerprint import keep, taken, unchanged
from kirsch.cluster.image.reference import LOCAL, ImageError, Reference, content_tag
from kirsch.cluster.image.store import Image as Listed
from kirsch.cluster.image.store import images as listing
from kirsch.cluster.provision.command import Runner
from kirsch.cluster.provision.steps import Show

# Seconds from which a step of a build is worth a line.
LONG = 2.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """An image that is to be built: its name, the folder it is built from, its Containerfile."""

    name: Reference
    folder: Path
    file: Path | None = None


def recipes(application: Application, names: Iterable[Reference] | None = None) -> list[Recipe]:
    """Return the images to build for an application, each after what it begins with; not an image that nobody
    says how to build. With `names` those, and what they begin with. Raises ImageError."""
    found: dict[Reference, Recipe] = {}
    every = [*images_of(application), *map(Reference.parse, application.images)]
    for name in every if names is None else names:
        _add(name, application, found, ())
    return list(found.values())


def _add(
    name: Reference, application: Application, found: dict[Reference, Recipe], path: tuple[Reference, ...]
) -> None:
    if name in found:
        return
    if name in path:
        raise ImageError(f"images go in a circle: {' -> '.join(map(str, (*path, name)))}")
    recipe = _recipe(name, application)
    if recipe is None:
        return
    plan = planned(recipe.folder, [str(name)], {}, file=recipe.file)
    for base in Containerfile.parse(text_of(plan.file)).bases:
        if base.startswith(f"{LOCAL}/"):
            _add(Reference.parse(base), application, found, (*path, name))
    found[name] = recipe


def _recipe(name: Reference, application: Application) -> Recipe | None:
    source = application.images.get(name.path)
    if source:
        return Recipe(name, source.folder, source.file)
    folder = own_folder(name.path)
    return Recipe(name, folder) if folder else None


def made(application: Application, runner: Runner, show: Show) -> dict[Reference, Image]:
    """Build what has changed, and say of each image that units name what it is. Raises ProvisionError."""
    there = _built(recipes(application), runner, show)
    return {name: _image(name, application, there, runner) for name in images_of(application)}


def with_images(application: Application, runner: Runner, show: Show) -> Application:
    """Build what has changed of the images that containers run here; the same application, whose containers
    name them by content: a changed image is a changed unit. Raises ProvisionError."""
    boxed = application.boxed
    wanted = recipes(application, images_of(replace(application, units=boxed)))
    if not wanted:
        return application
    there = _built(wanted, runner, show)
    known = {each.name: there[str(each.name)].content for each in wanted}
    at = {name: name.tagged(content) for name, content in known.items() if content}
    named_by_content = {unit: pinned(text, at, application.images) for unit, text in boxed.items()}
    return replace(application, units={**application.units, **named_by_content})


def _built(wanted: Iterable[Recipe], runner: Runner, show: Show) -> Mapping[str, Listed]:
    """Build what has changed; the images of this computer then."""
    there = _there(runner)
    for recipe in wanted:
        plan = planned(recipe.folder, [str(recipe.name)], {}, file=recipe.file)
        ids = {name: image.id for name, image in there.items()}
        fingerprint = taken(plan, ids)
        if unchanged(plan, fingerprint, ids, runner):
            continue
        step = f"image {recipe.name.path}"
        show.begun(step)
        began = time.monotonic()
        built = build(plan, _Long(show, recipe.name.path), runner)
        show.done(step, time.monotonic() - began)
        there = _there(runner)
        keep(plan, fingerprint, built, {name: image.id for name, image in there.items()})
    return there


def _there(runner: Runner) -> dict[str, Listed]:
    """Return the images of this computer, by their full names: podman is asked once for all."""
    found = listing(runner)
    return {f"{image.name}:{tag}": image for image in found for tag in (image.content, image.tag) if tag}


def _image(name: Reference, application: Application, there: Mapping[str, Listed], runner: Runner) -> Image:
    known = there.get(str(name))
    if known is None:
        raise ImageError(_missing(name, _users(name, application)))
    return Image(name, known.content or content_tag(inspected(known.id, runner)))


def _users(name: Reference, application: Application) -> Sequence[str]:
    return [
        application.files[unit]
        for unit, text in application.units.items()
        if name in named(text, application.images)
    ]


def _missing(name: Reference, files: Sequence[str]) -> str:
    where = f"{files[0]}: " if files else ""
    table = f'[images."{name.path}"] build = "FOLDER"'
    return (
        f"{where}there is no image {name} here: say in kirsch.toml what it is built from ({table}), "
        f"or build it first: `kirsch image build FOLDER -t {name.path}`"
    )


@dataclass(slots=True)
class _Long:
    """Shows of a build's steps those that take long, with the image's name."""

    show: Show
    name: str

    def begun(self, name: str) -> None:
        """Do nothing: only steps that took long are shown."""

    def done(self, name: str, seconds: float) -> None:
        if seconds >= LONG:
            self.show.done(f"  {self.name}: {name}", seconds)

    def undoing(self, name: str) -> None:
        self.show.undoing(name)
