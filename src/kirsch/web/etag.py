"""Entity tags and the conditions on them (RFC 9110, sections 8.8.3 and 13.1)."""

import re
from dataclasses import dataclass

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_LIST = re.compile(rf"[ \t,]*{_TAG}(?:[ \t]*,[ \t,]*{_TAG})*[ \t,]*")


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

    def matches_weakly(self, tag: str) -> bool:
        """Return True if `tag` is among them by the weak comparison, which If-None-Match asks for."""
        return self.any or _strong(tag) in {_strong(each) for each in self.tags}


def is_held(field: str, tag: str) -> bool:
    """Return True if the sender of this If-None-Match has what `tag` names; a field that is none says no."""
    if field == tag:  # as nearly all send it
        return True
    try:
        return Tags.parse(field).matches_weakly(tag)
    except TagError:
        return False


def _strong(tag: str) -> str:
    return tag.removeprefix("W/")
