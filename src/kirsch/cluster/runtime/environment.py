"""Environment variables as unit files set them (systemd.exec(5), "Environment"). Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BLANK = " \t\r"


@dataclass(frozen=True, slots=True)
class EnvironmentFile:
    """A file of variables, or a pattern of such files; an `optional` one may be missing."""

    path: str
    optional: bool = False


def parse_assignment(word: str) -> tuple[str, str]:
    """NAME=VALUE in two. Raises ValueError when it is not one."""
    name, equals, value = word.partition("=")
    if not equals:
        raise ValueError(f"not an assignment NAME=VALUE: {word}")
    if not _NAME.fullmatch(name):
        raise ValueError(f"not a name for a variable: {name!r}")
    if "\0" in value:
        raise ValueError(f"the value of {name} holds a NUL character")
    return name, value


def parse_environment_file(text: str) -> dict[str, str]:
    """The variables of an EnvironmentFile=. Lines that assign nothing, or to no proper name, are passed over,
    as systemd does."""
    variables = {}
    position = 0
    while position < len(text):
        line_end = _end(text, position)
        head = text[position:line_end].lstrip(_BLANK)
        name, equals, _ = head.partition("=")
        if not equals or head[0] in "#;":
            position = _skip(text, position, comment=head[:1] in ("#", ";"))
            continue
        start = position + text[position:line_end].index("=") + 1
        value, position = _value(text, start)
        if _NAME.fullmatch(name.strip(_BLANK)) and "\0" not in value:
            variables[name.strip(_BLANK)] = value
    return variables


def unset(environment: Mapping[str, str], words: Iterable[str]) -> dict[str, str]:
    """`environment` without the names, and without the exact assignments, that UnsetEnvironment= lists."""
    gone = set(words)
    return {
        name: value
        for name, value in environment.items()
        if name not in gone and f"{name}={value}" not in gone
    }


def _end(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end


def _skip(text: str, position: int, comment: bool) -> int:
    """Past a line; a comment goes on where its line ends in a backslash."""
    end = _end(text, position)
    while comment and end < len(text) and text[position:end].endswith("\\"):
        position = end + 1
        end = _end(text, position)
    return end + 1


def _value(text: str, position: int) -> tuple[str, int]:
    """The value that begins at `position`, and where the next line begins."""
    while position < len(text) and text[position] in _BLANK:
        position += 1
    pieces: list[str] = []
    keep = 0  # pieces up to here stay, blanks after them are trailing
    quote = text[position] if position < len(text) and text[position] in "\"'" else ""
    position += len(quote)
    while position < len(text):
        character = text[position]
        position += 1
        if character == quote:
            quote = ""
            keep = len(pieces)
        elif character == "\n" and not quote:
            break
        elif character == "\\" and quote != "'":
            if position < len(text):
                pieces.append(_escaped(text[position], quote))
                position += 1
            keep = len(pieces)
        else:
            pieces.append(character)
            if quote or character not in _BLANK:
                keep = len(pieces)
    return "".join(pieces[:keep]), position


def _escaped(character: str, quote: str) -> str:
    if character == "\n":
        return ""
    return character if not quote or character in '"\\`$' else f"\\{character}"
