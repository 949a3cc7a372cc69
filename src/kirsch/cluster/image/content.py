"""The tag that names an image by its content. Pure."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

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
    """Whether a tag is one of these."""
    return bool(_PATTERN.fullmatch(tag))
