"""The wheels that an image's `RUN pip install` takes, downloaded here, where pip knows its index."""

import hashlib
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from kirsch.cluster.image.containerfile import text_of
from kirsch.cluster.image.podman import LONG, WHEELS
from kirsch.cluster.image.reference import ImageError
from kirsch.cluster.provision.command import CommandError, Runner
from kirsch.cluster.provision.image import target
from kirsch.cluster.provision.record import cache_folder
from kirsch.cluster.provision.wheels import Wheels, download, made_once

REQUIREMENTS = "requirements.txt"
CONFIGURATION = f"[global]\nno-index = true\nfind-links = {WHEELS}\n"
# pip's options that name another file.
_NAMED = re.compile(r"^\s*(?:-[rc]\s*|--(?:requirement|constraint)[=\s]\s*)([^\s#]+)", re.MULTILINE)
_KIRSCH = re.compile(r"^\s*(kirsch(?:-\w+)?(?:\[[^\]]*\])?)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Supply:
    """A folder of wheels with pip's configuration, and the digest of what they were chosen by."""

    folder: Path
    digest: str


@dataclass(frozen=True, slots=True)
class Choice:
    """Digest of all that decides which wheels are chosen, and the wheels of kirsch's own."""

    digest: str
    own: tuple[Path, ...]


def chosen(context: Path, runner: Runner) -> Choice:
    """Return the choice of wheels for the requirements.txt of a build's folder. Raises ProvisionError."""
    texts = list(named(context / REQUIREMENTS).values())
    named_here = {name for text in texts for name in _KIRSCH.findall(text)}
    own = Wheels(runner).own(sorted(named_here)) if named_here else []
    chosen_by = repr((texts, [wheel.parent.name for wheel in own], target()))
    return Choice(hashlib.sha256(chosen_by.encode()).hexdigest()[:16], tuple(own))


def supply(context: Path, runner: Runner, *, fresh: bool = False) -> Supply:
    """Return the wheels for the requirements.txt of a build's folder. Raises ProvisionError, OSError.

    Earlier downloads are used again, unless `fresh`.
    """
    file = context / REQUIREMENTS
    choice = chosen(context, runner)
    folder = cache_folder() / "image-wheels" / choice.digest
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    with made_once(folder) as new:
        if new:
            found = [word for wheel in choice.own for word in ("--find-links", str(wheel.parent))]
            command = download([*found, "-r", str(file)], target(), new)
            try:
                runner.run(replace(command, timeout=LONG))
            except CommandError as error:
                raise ImageError(f"{file}: {error.words}") from None
            (new / "pip.conf").write_text(CONFIGURATION)
            # mkdtemp's folders are for their owner, files perhaps too, and steps may run as another user.
            new.chmod(0o755)
            for each in new.iterdir():
                each.chmod(0o644)
    return Supply(folder, choice.digest)


def named(file: Path, seen: frozenset[Path] = frozenset()) -> dict[Path, str]:
    """The texts of a file of requirements and of those that it names (pip's -r and -c), itself first; what is
    not there pip will miss. Raises ImageError."""
    texts = {file: text_of(file)}
    for found in _NAMED.finditer(texts[file]):
        other = file.parent / found[1]
        if other.is_file() and other not in seen:
            texts |= named(other, seen | {file, other})
    return texts
