"""Files whose change wants more than a new start: what pip is to install, what an image is built from."""

import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from kirsch.cluster.image.containerfile import ENDINGS, NAMES, text_of
from kirsch.cluster.image.reference import ImageError
from kirsch.cluster.image.wheels import REQUIREMENTS, named

# Of a Containerfile, files among them: COPY a b, COPY ["a", "b"], RUN --mount=type=bind,source=a.
_WORD = re.compile(r"[^\s\"',=\[\]]+")
# Of a folder, whether they are there or not.
_ALWAYS = frozenset((*NAMES, *ENDINGS, *(name + ending for name in NAMES for ending in ENDINGS)))


def containerfile(folder: Path) -> Path | None:
    """Return the folder's Containerfile or Dockerfile, or None."""
    return next((folder / name for name in NAMES if (folder / name).is_file()), None)


def requirements(folder: Path, paths: Iterable[Path]) -> list[str]:
    """Of files that changed those that pip reads, by their names in the folder: each requirements.txt, and
    what the folder's own names."""
    try:
        known = set(map(os.path.normpath, named(folder / REQUIREMENTS)))
    except ImageError:
        known = set()
    return _names(folder, [p for p in paths if p.name == REQUIREMENTS or os.path.normpath(p) in known])


def of_image(folder: Path, paths: Collection[Path]) -> list[str]:
    """Of files that changed those that the folder's image is built from: its Containerfile and what it names,
    what says which files stay out, requirements; but not Python code, which a container has mounted."""
    file = containerfile(folder)
    try:
        words = set(map(os.path.normpath, _WORD.findall(text_of(file)))) if file else set()
    except ImageError:
        words = set()  # the build says what is wrong with it
    words |= _ALWAYS | set(requirements(folder, paths))
    return [name for name in _names(folder, paths) if name in words and not name.endswith(".py")]


def _names(folder: Path, paths: Iterable[Path]) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in paths)
