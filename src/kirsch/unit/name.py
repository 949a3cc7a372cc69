"""Names of units: `notes@1.container` is instance `1` of the template `notes@.container`."""

import re
from dataclasses import dataclass, field
from difflib import get_close_matches

from kirsch.unit.error import UnitError

MAX_NAME = 256

SYSTEMD_TYPES = frozenset(
    (
        *("automount", "busname", "device", "mount", "path", "scope", "service"),
        *("slice", "snapshot", "socket", "swap", "target", "timer"),
    )
)
QUADLET_TYPES = frozenset(("build", "container", "image", "kube", "network", "pod", "volume"))
UNIT_TYPES = SYSTEMD_TYPES | QUADLET_TYPES
TEMPLATE_TYPES = frozenset(
    (
        *("path", "service", "socket", "target", "timer"),
        *("build", "container", "image", "network", "pod", "volume"),
    )
)

_BAD_CHARACTER = re.compile(r"[^A-Za-z0-9:_.\\@-]")


@dataclass(frozen=True, slots=True, order=True)
class UnitName:
    """The name of a unit, checked; make one with `parse`. Sorted and compared by its text.

    `prefix` is what stands before the first @, or before the type; `instance` is None without an @ and
    "" for a template; `type` is what follows the last dot.
    """

    text: str
    prefix: str = field(compare=False)
    instance: str | None = field(compare=False)
    type: str = field(compare=False)

    def __hash__(self) -> int:
        # Names are keys everywhere; the one made for us takes three times as long.
        return hash(self.text)

    @classmethod
    def parse(cls, text: str) -> "UnitName":
        """Read a name by fleet's rules, and its messages. Raises UnitError."""
        stem, dot, kind = text.rpartition(".")
        if not text:
            raise UnitError("unit name cannot be empty")
        if len(text) > MAX_NAME:
            raise UnitError(f"unit name exceeds maximum length ({MAX_NAME})")
        if not dot:
            raise UnitError(
                f'unit name must contain ".": {text!r} has no type, such as .service or .container'
            )
        if not kind:
            raise UnitError('unit name cannot end in "."')
        if kind not in UNIT_TYPES:
            raise UnitError(f'invalid unit type: "{kind}"{_suggestion(kind)}')
        prefix, at, instance = stem.partition("@")
        if at and kind not in TEMPLATE_TYPES:
            raise UnitError(f'invalid unit type for template: "{kind}"')
        if bad := _BAD_CHARACTER.search(stem):
            raise UnitError(f"invalid character {bad.group()!r} in unit name")
        if at and not prefix:
            raise UnitError('unit name cannot start in "@"')
        if not stem:
            raise UnitError(f'unit name cannot start in ".": nothing stands before the type of "{text}"')
        return cls(text, prefix, instance if at else None, kind)

    def __str__(self) -> str:
        return self.text

    @property
    def is_template(self) -> bool:
        """True for notes@.container."""
        return self.instance == ""

    @property
    def is_instance(self) -> bool:
        """True for notes@1.container."""
        return bool(self.instance)

    @property
    def template(self) -> "UnitName | None":
        """The template of an instance; None for a template itself and for a unit without an @."""
        return self.with_instance("") if self.instance else None

    @property
    def service(self) -> str:
        """What this unit serves under, with the others of its prefix: notes for notes@1.container."""
        return self.prefix

    def with_instance(self, instance: str) -> "UnitName":
        """This template's unit (or this instance's sibling) of another instance. Raises UnitError."""
        if self.instance is None:
            raise UnitError(f'"{self.text}" is not a template: it has no "@"')
        return UnitName.parse(f"{self.prefix}@{instance}.{self.type}")


def _suggestion(kind: str) -> str:
    close = get_close_matches(kind, sorted(UNIT_TYPES), n=1)
    return f"; did you mean {close[0]}?" if close else ""
