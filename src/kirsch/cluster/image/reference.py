"""Names of images: REGISTRY/PATH:TAG, and the tag that names an image by its content. Pure.

The grammar is the OCI distribution specification's.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kirsch.cluster.provision.record import ProvisionError

LOCAL = "localhost"
LATEST = "latest"
LONGEST = 255
# A registry is told from a path's first part as podman and docker do: by a dot, a port, or this name.
_REGISTRY = re.compile(
    r"(localhost|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?|[^/.:]+:[0-9]{1,5}"
)
_PART = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class ImageError(ProvisionError):
    """Why an image cannot be made, named, found or carried: one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Reference:
    """An image's name, in full: the registry (localhost for one that lies here only), its path, its tag."""

    registry: str
    path: str
    tag: str = LATEST

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """A name as people type it: without a registry it is localhost, without a tag it is latest.

        Raises ImageError."""
        name, tag = text, LATEST
        head, colon, last = text.rpartition(":")
        if colon and "/" not in last:
            name, tag = head, last
        first, slash, rest = name.partition("/")
        registry, path = (first, rest) if slash and _REGISTRY.fullmatch(first) else (LOCAL, name)
        if len(text) > LONGEST or not path or not all(map(_PART.fullmatch, path.split("/"))):
            raise ImageError(
                f"{text!r} cannot be an image's name: write [REGISTRY/]NAME[:TAG], NAME of a-z, 0-9 and "
                ". _ - between them"
            )
        if not _TAG.fullmatch(tag):
            raise ImageError(
                f"{tag!r} cannot be an image's tag: use at most 128 letters, digits, _ . and -, "
                "none of . and - at its beginning"
            )
        return cls(registry, path, tag)

    @property
    def name(self) -> str:
        """Name without the tag."""
        return f"{self.registry}/{self.path}"

    @property
    def local(self) -> bool:
        """True if the name has no registry."""
        return self.registry == LOCAL

    def tagged(self, tag: str) -> "Reference":
        """The same name with another tag."""
        return Reference(self.registry, self.path, tag)

    def at(self, registry: str) -> "Reference":
        """The same path and tag at another registry."""
        return Reference(registry, self.path, self.tag)

    def __str__(self) -> str:
        return f"{self.name}:{self.tag}"


# A build's own traces: the container it was made in.
_TRACES = ("Hostname", "Image", "OnBuild")
# podman tells what ONBUILD says only in an image's history.
_ON_BUILD = "#(nop) ONBUILD "
_LENGTH = 12
_PATTERN = re.compile(rf"k-[0-9a-f]{{{_LENGTH}}}")


def content_tag(inspected: Mapping[str, Any]) -> str:
    """From what `podman image inspect` says: the digest of the layers, of how a container is started, and of
    what an image that begins with it is made by (ONBUILD).

    Two builds of one thing have it in common, though the ids that podman gives them differ."""
    settings = {name: value for name, value in inspected["Config"].items() if name not in _TRACES}
    made_of = [
        inspected["RootFS"]["Layers"], settings, inspected.get("HealthCheck") or inspected.get("Healthcheck"),
        inspected["Os"], inspected["Architecture"],
    ]  # fmt: skip
    steps = [str(step.get("created_by", "")) for step in inspected.get("History") or ()]
    if told := [step for step in steps if _ON_BUILD in step]:
        made_of.append(told)
    return "k-" + hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:_LENGTH]


def is_content_tag(tag: str) -> bool:
    """Return True for a tag made by content_tag."""
    return bool(_PATTERN.fullmatch(tag))
