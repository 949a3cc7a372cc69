"""Capabilities of podman by its version. Pure."""

import re
from collections.abc import Mapping


def parse_version(text: str) -> tuple[int, ...]:
    """Return (5, 4, 2) for "5.4.2", and (0,) for what is no version."""
    match = re.match(r"(\d+(?:\.\d+)*)", text.strip())
    return tuple(int(part) for part in match[1].split(".")) if match else (0,)


def quadlet_types(version: tuple[int, ...]) -> tuple[str, ...]:
    """Return the unit types that a version of podman runs (its release notes)."""
    since: Mapping[str, tuple[int, ...]] = {
        "container": (4, 4),
        "volume": (4, 4),
        "network": (4, 4),
        "kube": (4, 4),
        "image": (4, 8),
        "pod": (5, 0),
        "build": (5, 2),
    }
    return tuple(kind for kind, first in since.items() if version >= first)
