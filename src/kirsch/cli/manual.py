"""The parser of one verb, whose --help reads like a page of a manual."""

import argparse
import sys
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NoReturn

USAGE = 2
INDENT = "    "
# Columns of a page; on a terminal that has fewer as many as that, but for the least that can be read.
WIDTH, NARROW = 80, 40


def width() -> int:
    """How wide a page is on this terminal."""
    from kirsch.terminal import size

    return max(min(size(sys.stdout).columns, WIDTH), NARROW)


class Formatter(argparse.RawDescriptionHelpFormatter):
    """argparse's, which would believe COLUMNS."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=width() - 2)


class Parser(argparse.ArgumentParser):
    """argparse, with the parts of man-pages(7), and an error of one line that says where help is."""

    def __init__(self, *, example: str = "", title: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.example = example
        self.title = title

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """An option whose value may be left out (--ping [N]) takes what follows only if it is one."""
        return super().parse_known_args(self._apart(args), namespace)

    def _apart(self, arguments: Sequence[str]) -> list[str]:
        optional = {o: a for a in self._actions if a.nargs == argparse.OPTIONAL for o in a.option_strings}
        kept: list[str] = []
        last: list[str] = []
        for word, following in pairwise([*arguments, "-"]):
            alone = (
                word in optional and not following.startswith("-") and not self._is(optional[word], following)
            )
            (last if alone else kept).append(word)
        return kept + last

    def _is(self, action: argparse.Action, text: str) -> bool:
        if text.isdecimal():
            # It is meant for it, even if it is wrong.
            return True
        try:
            self._get_value(action, text)
        except argparse.ArgumentError:
            return False
        return True

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"kirsch: {message} (see {self.prog} --help)\n")

    def format_help(self) -> str:
        """NAME, SYNOPSIS, DESCRIPTION, what can be given, EXAMPLE."""
        formatter = self._get_formatter()
        for group in self._action_groups:
            formatter.start_section(group.title)
            formatter.add_arguments(group._group_actions)
            formatter.end_section()
        parts = [
            ("NAME", self.title),
            ("SYNOPSIS", self._synopsis()),
            ("DESCRIPTION", _filled(self.description or "")),
        ]
        parts += [
            (title.upper().removeprefix("POSITIONAL "), textwrap.dedent(text))
            for title, _, text in (part.partition(":\n") for part in _sections(formatter.format_help()))
        ]
        parts += [("EXAMPLE", self.example), ("", self.epilog or "")]
        return "\n".join(_part(title, text) for title, text in parts if text.strip())

    def _synopsis(self) -> str:
        usage = " ".join(self.format_usage().split()).removeprefix("usage: ")
        indent = " " * (len(self.prog) + 1)
        return textwrap.fill(usage, width() - len(INDENT), subsequent_indent=indent, break_on_hyphens=False)


def _sections(text: str) -> list[str]:
    """argparse's sections: each begins with a title at the left."""
    sections: list[str] = []
    for line in text.strip("\n").splitlines():
        if line and not line.startswith(" "):
            sections.append(line + "\n")
        elif sections:
            sections[-1] += line + "\n"
    return sections


def _part(title: str, text: str) -> str:
    body = textwrap.indent(text.strip("\n"), INDENT if title else "")
    return f"{title}\n{body}\n" if title else f"{body}\n"


def _filled(text: str) -> str:
    """Paragraphs at the width of a page; an option's name stays whole."""
    paragraphs = (" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    return "\n\n".join(textwrap.fill(p, width() - len(INDENT), break_on_hyphens=False) for p in paragraphs)
