"""Fingerprints of builds: what an image was built from, so that nothing is built where nothing has changed.

A fingerprint is taken before a build, and kept in the cache folder with the id of the image that came of it.
It covers all that the image depends on: the Containerfile, the files of its folder, the arguments, the ids of
the images that it begins with, its wheels. Without it, or where podman alone can tell, an image is built.
"""

import hashlib
import json
import os
import platform
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

from kirsch.cluster.image.base import base_name
from kirsch.cluster.image.build import Built, Plan
from kirsch.cluster.image.containerfile import BASE, STATE, Containerfile, excluded, text_of
from kirsch.cluster.image.wheels import chosen
from kirsch.cluster.provision.command import Runner
from kirsch.cluster.provision.record import cache_folder


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Digests of all that an image is built from, and the `id` of that image. `wheels` is empty where it
    takes none."""

    inputs: str
    bases: Mapping[str, str]
    wheels: str = ""
    id: str = ""


def taken(plan: Plan, there: Mapping[str, str]) -> Fingerprint | None:
    """Return the fingerprint of a build, without its wheels; None where podman has to find out what has
    changed. `there` has the ids of images by their full names. Raises ImageError."""
    text = text_of(plan.file)
    file = Containerfile.parse(text, dict(plan.arguments))
    if file.remote:
        return None
    if BASE in file.arguments and BASE not in plan.arguments:
        made = base_name(file.packages, platform.machine())
        base = made if made in there else file.arguments[BASE]
        file = Containerfile.parse(text, {**plan.arguments, BASE: base})
    digest = hashlib.sha256()
    about = (version("kirsch"), platform.machine(), text, sorted(plan.arguments.items()))
    digest.update(json.dumps(about).encode())
    try:
        for line in _files(plan.context, excluded(plan.context, plan.file)):
            digest.update(line)
    except OSError:
        return None  # podman says what is wrong
    return Fingerprint(digest.hexdigest(), {base: _id(base, there) for base in file.bases})


def unchanged(plan: Plan, found: Fingerprint | None, there: Mapping[str, str], runner: Runner) -> bool:
    """Return True if the image of that name is what a build would give. Raises ProvisionError."""
    kept = _kept(plan)
    if found is None or kept is None or not all(found.bases.values()):
        return False
    if (kept.inputs, kept.bases) != (found.inputs, found.bases):
        return False
    if kept.id not in {there.get(str(name)) for name in plan.names}:
        return False
    return not kept.wheels or kept.wheels == chosen(plan.context, runner).digest


def keep(plan: Plan, before: Fingerprint | None, built: Built, there: Mapping[str, str]) -> None:
    """Keep the fingerprint that was taken before a build, unless the images that it begins with have changed
    meanwhile. They may have come with the build itself."""
    path = _path(plan)
    if before is None:
        return
    bases = {base: _id(base, there) for base in before.bases}
    if any(id and id != bases[base] for base, id in before.bases.items()):
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps(asdict(Fingerprint(before.inputs, bases, built.wheels, built.id))))
    fresh.replace(path)


def _kept(plan: Plan) -> Fingerprint | None:
    try:
        return Fingerprint(**json.loads(_path(plan).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _path(plan: Plan) -> Path:
    return cache_folder() / "image-fingerprints" / quote(str(plan.names[0]), safe="")


def _id(base: str, there: Mapping[str, str]) -> str:
    """Return the id of an image as a Containerfile names it; empty for one that is not here."""
    name = base if ":" in base.rpartition("/")[2] else f"{base}:latest"
    return there.get(name) or next((id for known, id in there.items() if known.endswith(f"/{name}")), "")


def _files(context: Path, ignored: str) -> Iterator[bytes]:
    """Yield what a build sees of its folder: of each file the path, the mode and a digest of its content."""
    names, anywhere = _plain(ignored)
    for folder, folders, files in os.walk(context):
        below = os.path.relpath(folder, context)
        folders[:] = sorted(name for name in folders if name not in anywhere)
        folders[:] = [name for name in folders if os.path.normpath(f"{below}/{name}") not in names]
        for name in sorted((*files, *folders)):
            path = os.path.normpath(f"{below}/{name}")
            if name not in anywhere and path not in names:
                yield _line(context, path)


def _line(context: Path, path: str) -> bytes:
    whole = os.path.join(context, path)
    status = os.lstat(whole)
    content = ""
    if stat.S_ISLNK(status.st_mode):
        content = os.readlink(whole)
    elif stat.S_ISREG(status.st_mode):
        with open(whole, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    return json.dumps((path, status.st_mode, content)).encode()


def _plain(ignored: str) -> tuple[set[str], set[str]]:
    """Return the paths that stay out, and the names that do wherever they are, of the patterns that say so
    plainly. What others keep out counts: it costs a build that changes nothing."""
    lines = [line.strip("/") for line in ignored.splitlines() if line and not line.startswith("#")]
    anywhere = {line.removeprefix("**/") for line in lines if line.startswith("**/")}
    special = set("*?[\\")
    if any(line.startswith("!") for line in lines):
        return set(), {name for name in anywhere if name == STATE}
    plain = {os.path.normpath(line) for line in lines if not special & set(line)}
    return plain, {name for name in anywhere if not special & set(name) and "/" not in name}
