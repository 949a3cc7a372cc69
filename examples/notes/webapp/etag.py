"""Entity tags and the conditions on them (RFC 9110, sections 8.8.3 and 13.1)."""

import re
from dataclasses import dataclass

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_LIST = re.compile(rf"[ \t,]*{_TAG}(?:[ \t]*,[ \t,]*{_TAG})*[ \t,]*")
_VERSION = re.compile(r'"([1-9][0-9]{0,8})"')


class TagError(ValueError):
    """The field is neither `*` nor a list of quoted entity tags."""


@dataclass(frozen=True, slots=True)
class Tags:
    """The value of an If-Match or If-None-Match field: any version there is (`*`), or those listed."""

    tags: frozenset[str]
    any: bool = False

    @classmethod
    def parse(cls, field: str) -> "Tags":
        """Read a field's value. Raises TagError."""
        if field.strip(" \t") == "*":
            return cls(frozenset(), any=True)
        if not _LIST.fullmatch(field):
            raise TagError(f'{field!r} is not an entity tag: it is quoted, as in "3", or *')
        return cls(frozenset(re.findall(_TAG, field)))

    @property
    def versions(self) -> frozenset[int]:
        """The versions these tags name by the strong comparison, which If-Match asks for: no weak tags."""
        return frozenset(int(match[1]) for tag in self.tags if (match := _VERSION.fullmatch(tag)))

    def matches_weakly(self, version: int) -> bool:
        """Whether `version` is among them by the weak comparison, which If-None-Match asks for."""
        return self.any or entity_tag(version) in {tag.removeprefix("W/") for tag in self.tags}


def entity_tag(version: int) -> str:
    """The strong entity tag of a note at `version`."""
    return f'"{version}"'
