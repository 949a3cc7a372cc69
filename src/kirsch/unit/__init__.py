"""Unit files: text to values and back. Pure, no I/O."""

from kirsch.unit.error import UnitError
from kirsch.unit.file import Option, UnitFile, to_bytes, to_text
from kirsch.unit.health import Health, Role
from kirsch.unit.link import Link
from kirsch.unit.name import (
    QUADLET_TYPES,
    SYSTEMD_TYPES,
    TEMPLATE_TYPES,
    UNIT_TYPES,
    UnitName,
    escape,
    expand,
    matches,
    unescape,
)
from kirsch.unit.options import Options, Secret, is_boxed
from kirsch.unit.port import Port, Published
from kirsch.unit.release import Policy
from kirsch.unit.syntax import Entry, split_words
from kirsch.unit.value import parse_boolean, parse_cpu, parse_size, parse_timespan

__all__ = [
    "QUADLET_TYPES",
    "SYSTEMD_TYPES",
    "TEMPLATE_TYPES",
    "UNIT_TYPES",
    "Entry",
    "Health",
    "Link",
    "Option",
    "Options",
    "Policy",
    "Port",
    "Published",
    "Role",
    "Secret",
    "UnitError",
    "UnitFile",
    "UnitName",
    "escape",
    "expand",
    "is_boxed",
    "matches",
    "parse_boolean",
    "parse_cpu",
    "parse_size",
    "parse_timespan",
    "split_words",
    "to_bytes",
    "to_text",
    "unescape",
]
