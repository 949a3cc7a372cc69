r"""Names of units: `notes@1.container` is instance `1` of the template `notes@.container`.

Also what systemd and fleet do with names: escapes (systemd-escape(1): `/` is `-`, `-` is `\x2d`), specifiers
such as %i (systemd.unit(5)), and globs (Go's path.Match, which fleet uses: * ? [a-z] [^a-z]).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache

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

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.")
_ESCAPED = re.compile(rb"\\x([0-9a-fA-F]{2})|\\|-")
# Specifiers of systemd.unit(5) that only a machine, or its service manager, can tell.
MACHINES = frozenset("aAbBCdDEfgGhHlLmMoqsStTuUvVwWyY")
# Like systemd, a % before anything else than a letter or a digit stands for itself.
_SPECIFIER = re.compile(r"%([A-Za-z0-9%])")
_PART = re.compile(r"\*+|\?|\[\^?(?:[^\]\\-](?:-[^\]\\-])?)+\]|[^*?\[]", re.DOTALL)
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
        """True if the instance is empty, as in notes@.container."""
        return self.instance == ""

    @property
    def is_instance(self) -> bool:
        """True if there is an instance, as in notes@1.container."""
        return bool(self.instance)

    @property
    def template(self) -> "UnitName | None":
        """Template of an instance; None for a template itself and for a unit without an @."""
        return self.with_instance("") if self.instance else None

    @property
    def service(self) -> str:
        """Service of the unit, shared by all units of its prefix: notes for notes@1.container."""
        return self.prefix

    def with_instance(self, instance: str) -> "UnitName":
        """Return the unit of the same template with another instance. Raises UnitError."""
        if self.instance is None:
            raise UnitError(f'"{self.text}" is not a template: it has no "@"')
        return UnitName.parse(f"{self.prefix}@{instance}.{self.type}")


def _suggestion(kind: str) -> str:
    close = get_close_matches(kind, sorted(UNIT_TYPES), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def escape(text: str) -> str:
    """Escape any text without NUL for use in a unit name. A leading dot is escaped too."""
    data = text.encode("utf-8", "surrogateescape")
    return "".join(_escaped(byte, first=index == 0) for index, byte in enumerate(data))


def unescape(text: str) -> str:
    """Undo `escape`. Raises UnitError on a backslash that does not begin an escape."""
    data = _ESCAPED.sub(_unescaped, text.encode("utf-8", "surrogateescape"))
    return data.decode("utf-8", "surrogateescape")


def _escaped(byte: int, first: bool) -> str:
    if byte == ord("/"):
        return "-"
    if byte not in _PLAIN or (first and byte == ord(".")):
        return f"\\x{byte:02x}"
    return chr(byte)


def _unescaped(match: re.Match[bytes]) -> bytes:
    if match.group() == b"-":
        return b"/"
    if not match.group(1) or match.group(1) == b"00":
        raise UnitError(
            f"invalid escape in {match.string.decode('utf-8', 'replace')!r}: write a byte as \\xNN"
        )
    return bytes.fromhex(match.group(1).decode())


def expand(text: str, name: UnitName, extra: Mapping[str, str] | None = None) -> str:
    """Replace the specifiers in `text` for the unit `name`; `extra` adds letters or replaces these.

    %n is the full name, %N that without its type, %p the prefix, %i the instance, %j the prefix after its
    last dash; %P %I %J are the same unescaped; %% is a percent sign. Raises UnitError on an unknown one.
    """

    def value(match: re.Match[str]) -> str:
        letter = match.group(1)
        if extra and letter in extra:
            return extra[letter]
        return _specifier(letter, name, extra or {})

    return _SPECIFIER.sub(value, text)


def uses_instance(text: str) -> bool:
    """True if `text` depends on the instance, and so has no meaning yet in a template."""
    return any(letter in "iInN" for letter in _SPECIFIER.findall(text))


def _specifier(letter: str, name: UnitName, extra: Mapping[str, str]) -> str:
    match letter:
        case "%":
            return "%"
        case "n":
            return name.text
        case "N":
            return name.text.removesuffix(f".{name.type}")
        case "p":
            return name.prefix
        case "P":
            return unescape(name.prefix)
        case "i":
            return name.instance or ""
        case "I":
            return unescape(name.instance or "")
        case "j":
            return name.prefix.rpartition("-")[2]
        case "J":
            return unescape(name.prefix.rpartition("-")[2])
    known = " ".join(f"%{each}" for each in ("n", "N", "p", "P", "i", "I", "j", "J", *sorted(extra)))
    what = (
        f"systemd's specifier %{letter} is not known here"
        if letter in MACHINES
        else f"unknown specifier %{letter}"
    )
    raise UnitError(f"{what}; there are {known}, and %% for a percent sign")


def matches(pattern: str, name: str) -> bool:
    r"""True if the whole `name` matches. A backslash is itself: unit names hold escapes such as \x2d.

    Raises UnitError on a pattern with an unfinished or reversed [range].
    """
    return _compiled(pattern).fullmatch(name) is not None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern. Each star is an atomic group, so that many stars take no longer."""
    pieces = [""]
    position = 0
    while part := _PART.match(pattern, position):
        position = part.end()
        if part.group()[0] == "*":
            pieces.append("")
        else:
            pieces[-1] += _translated(part.group())
    first, *middle, last = pieces if len(pieces) > 1 else (pieces[0], "")
    star = ".*" if len(pieces) > 1 else ""
    try:
        if position < len(pattern):
            raise re.error("unfinished range")
        return re.compile(first + "".join(f"(?>.*?{each})" for each in middle) + star + last, re.DOTALL)
    except re.error:
        raise UnitError(f"invalid pattern {pattern!r}: a range is written [abc], [a-z] or [^a-z]") from None


def _translated(part: str) -> str:
    if part == "?":
        return "."
    if part[0] == "[" and len(part) > 1:
        caret = "^" if part[1] == "^" else ""
        listed = part[1 + len(caret) : -1]
        escaped = re.sub(r"[\[&~|^]", r"\\\g<0>", listed)
        return f"[{caret}{escaped}]"
    return re.escape(part)
