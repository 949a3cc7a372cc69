"""The entity tag of a note: its version (RFC 9110, section 8.8.3)."""

import re

from kirsch.web import Tags

_VERSION = re.compile(r'"([1-9][0-9]{0,8})"')


def entity_tag(version: int) -> str:
    """The strong entity tag of a note at `version`."""
    return f'"{version}"'


def versions(tags: Tags) -> frozenset[int]:
    """The versions that tags name by the strong comparison, which If-Match asks for: no weak tags."""
    return frozenset(int(match[1]) for tag in tags.tags if (match := _VERSION.fullmatch(tag)))
