"""The head of a request, where it is one like nearly all: read at once, not line by line.

What has anything unusual about it (an escape in its path, an absolute form, a field that comes twice, another
version) is not read here, and cheroot's own reader decides.
"""

import re
from dataclasses import dataclass

_LINE = re.compile(
    rb"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) "
    rb"((/(?!/)[A-Za-z0-9._~/-]*)(?:\?([A-Za-z0-9._~/%&=+:,;@!$'()*?-]*))?) HTTP/1\.1"
)
# A field's value has no control characters but tabs (RFC 9110, 5.5).
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_NAME = re.compile(rb"[A-Za-z0-9-]+")
_NAMES = 1000
_titles: dict[bytes, bytes] = {}


@dataclass(frozen=True, slots=True)
class Head:
    """A request line's method, target, path and query, and the fields by their titled names."""

    method: bytes
    target: bytes
    path: bytes
    query: bytes
    fields: dict[bytes, bytes]


def parse_head(data: bytes) -> Head | None:
    """The head of a HTTP/1.1 request up to and with its empty line, or None where it is not a plain one."""
    line, *lines = data[:-4].split(b"\r\n")
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    fields: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        title = _titles.get(name) or _title(name)
        if not colon or not title or title in fields or _CONTROL.search(value):
            return None
        fields[title] = value.strip()
    method, target, path, query = match.groups()
    return Head(method, target, path, query or b"", fields)


def _title(name: bytes) -> bytes:
    """The name as cheroot and CherryPy write it; empty if it is not one."""
    if not _NAME.fullmatch(name):
        return b""
    title = name.title()
    if len(_titles) < _NAMES:
        _titles[name] = title
    return title
