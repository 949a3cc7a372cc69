"""Images as units name them, and in their place those that the cluster's registry has. Pure."""

import re
from collections.abc import Callable, Collection, Mapping

from kirsch.cluster.image.reference import LOCAL, ImageError, Reference
from kirsch.unit import UnitFile

# Where Image= names an image, and not another Quadlet (podman-systemd.unit(5)).
SECTIONS = ("Container", "Image")
_QUADLET = re.compile(r".+\.(image|build)")
# As systemd sees lines (kirsch.unit.syntax).
_END = re.compile(r"(\r\n|\n\r|\n|\r)")
_LINE = re.compile(r"(\s*Image\s*=\s*)(\S+)(\s*)")


def named(text: str, known: Collection[str] = ()) -> list[Reference]:
    """The images of this computer that a unit names: localhost/NAME, or NAME alone where that is `known`."""
    file = UnitFile.parse(text)
    values = [entry.value for section in SECTIONS for entry in file.values(section, "Image")]
    found = [reference for value in values if (reference := _local(value, known))]
    return list(dict.fromkeys(found))


def pinned(text: str, images: Mapping[Reference, Reference], known: Collection[str] = ()) -> str:
    """A unit's text with other images in their places; every other byte stays. A changed image so is a
    changed text."""

    def other(value: str) -> str:
        reference = _local(value, known)
        return str(images.get(reference, value)) if reference else value

    return _replaced(text, other)


def _replaced(text: str, other: Callable[[str], str]) -> str:
    entries = [entry for section in SECTIONS for entry in UnitFile.parse(text).values(section, "Image")]
    at = {entry.line for entry in entries}
    # Lines and their ends in turn.
    parts = _END.split(text)
    for number in at:
        if found := _LINE.fullmatch(parts[2 * (number - 1)]):
            parts[2 * (number - 1)] = f"{found[1]}{other(found[2])}{found[3]}"
    return "".join(parts)


def _local(value: str, known: Collection[str]) -> Reference | None:
    if _QUADLET.fullmatch(value) or not (value.startswith(f"{LOCAL}/") or value.partition(":")[0] in known):
        return None
    try:
        return Reference.parse(value)
    except ImageError:
        return None  # a specifier is in it, or podman says what is wrong
