"""The command lines of Exec…= directives (systemd.service(5), "Command lines"). Pure."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kirsch.unit import split_words

_VARIABLE = re.compile(r"\$\$|\$\{([^{}]*)\}")
# A program of the virtual environment in the application's folder: systemd would want the whole path.
_ENVIRONMENT = re.compile(r"(\./)?\.?venv/bin/[^/]+")
_PREFIXES = "-@:+!|"


@dataclass(frozen=True, slots=True)
class CommandLine:
    """One command: `arguments` follow the program and may hold variables.

    `argv0` is what "@" gives the program to see as its own name. `tolerant` ("-"): a failure is none.
    """

    directive: str
    program: str
    arguments: tuple[str, ...] = ()
    argv0: str | None = None
    tolerant: bool = False
    literal: bool = False

    def argv(self, environment: Mapping[str, str]) -> tuple[str, ...]:
        """The argument list, its first the program's own name, with variables from `environment`."""
        arguments = self.arguments if self.literal else expand_variables(self.arguments, environment)
        return (self.argv0 or self.program, *arguments)

    def __str__(self) -> str:
        return f"{self.directive}={self.program}"


def parse_command_lines(
    directive: str, text: str, specify: Callable[[str], str], *, relative: bool = False
) -> list[CommandLine]:
    """The commands of one line, several when a lone `;` parts them.

    `specify` expands specifiers, word by word. With `relative` the program may be a path below the working
    directory. Raises ValueError (UnitError among them) for what systemd refuses and what no plain process
    can have: the prefixes + ! !!.
    """
    commands = []
    for words in _split_commands(text):
        commands.append(_parse_command(directive, [specify(word) for word in words], relative))
    return commands


def expand_variables(words: tuple[str, ...], environment: Mapping[str, str]) -> list[str]:
    """`$NAME` as a word of its own becomes the words of its value, `${NAME}` its exact value, `$$` a dollar
    sign; a variable that is not set is empty."""
    expanded = []
    for word in words:
        if word.startswith("$") and len(word) > 1 and word[1] not in "{$":
            expanded += split_words(environment.get(word[1:], ""))
        else:
            expanded.append(_VARIABLE.sub(lambda match: _value(match, environment), word))
    return expanded


def _value(match: re.Match[str], environment: Mapping[str, str]) -> str:
    return "$" if match[0] == "$$" else environment.get(match[1], "")


def _split_commands(text: str) -> list[list[str]]:
    commands: list[list[str]] = [[]]
    for raw in _raw_words(text):
        if raw == ";":
            commands.append([])
        elif raw == "\\;":
            commands[-1].append(";")
        else:
            commands[-1] += split_words(raw)
    return [words for words in commands if words]


def _raw_words(text: str) -> list[str]:
    """Words with their quotes and escapes, so that a `;` of its own can be told from a quoted one."""
    words, start, quote, position = [], -1, "", 0
    while position < len(text):
        character = text[position]
        if not quote and character.isspace():
            if start >= 0:
                words.append(text[start:position])
            start = -1
        else:
            start = position if start < 0 else start
            if character == "\\":
                position += 1
            elif quote:
                quote = "" if character == quote else quote
            elif character in "\"'":
                quote = character
        position += 1
    return [*words, text[start:]] if start >= 0 else words


def _parse_command(directive: str, words: list[str], relative: bool) -> CommandLine:
    bare = words[0].lstrip(_PREFIXES)
    prefixes = words[0][: len(words[0]) - len(bare)]
    for refused in "+!|":
        if refused in prefixes:
            raise ValueError(f"the prefix {refused} (other privileges) cannot be given to a plain process")
    if len(set(prefixes)) < len(prefixes):
        raise ValueError(f"a prefix is given twice: {prefixes}")
    if not bare:
        raise ValueError("no program is named")
    if bare.startswith("$"):
        raise ValueError(f"the program may not be a variable: {bare}")
    if "/" in bare and not bare.startswith("/") and not (relative or _ENVIRONMENT.fullmatch(bare)):
        raise ValueError(f"{bare} is neither an absolute path nor a plain file name")
    arguments = words[1:]
    argv0 = None
    if "@" in prefixes:
        if not arguments:
            raise ValueError("the prefix @ needs a name for the program after its path")
        argv0, *arguments = arguments
    return CommandLine(
        directive, bare, tuple(arguments), argv0, tolerant="-" in prefixes, literal=":" in prefixes
    )
