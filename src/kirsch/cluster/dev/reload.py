"""Decisions after files have changed. Pure, but for reading them."""

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kirsch.cluster.application import FILE, Application, is_unit
from kirsch.unit import UnitFile

# Returns the syntax errors of Python texts by path.
Check = Callable[[Mapping[str, str]], Mapping[str, str]]
# Names of files in one message, when many changed together.
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Change:
    """Files that changed, relative to the folder, their syntax errors by path, and what to reload."""

    names: tuple[str, ...] = ()
    wrong: Mapping[str, str] = field(default_factory=dict)
    code: bool = False
    units: bool = False

    @property
    def shown(self) -> str:
        """The first names, in one line."""
        first, more = self.names[:SHOWN], len(self.names) - SHOWN
        return f"{', '.join(first)} and {more} more" if more > 0 else ", ".join(first)


@dataclass(slots=True)
class Reload:
    """Memory of the files with syntax errors: nothing is reloaded until all are right."""

    folder: Path
    check: Check
    wrong: set[Path] = field(default_factory=set)

    def changed(self, paths: Iterable[Path]) -> Change:
        """Return what a change of files means; nothing is reloaded while a file has a syntax error."""
        paths = set(paths)
        code = {path for path in paths if path.suffix == ".py" and _seen(path)}
        units = {path for path in paths if path.name == FILE or is_unit(path.name)}
        if not code and not units:
            return Change()
        texts = {}
        for path in code | self.wrong:
            try:
                texts[self._name(path)] = path.read_text(encoding="utf-8", errors="replace")
            except FileNotFoundError:
                pass
            except OSError as error:
                texts[self._name(path)] = f"raise OSError({error.strerror!r})"
        wrong = self.check(texts) if texts else {}
        self.wrong = {self.folder / name for name in wrong}
        names = tuple(sorted(map(self._name, code | units)))
        return Change(names, wrong, bool(code) and not wrong, bool(units) and not wrong)

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.folder))


def units_of_code(application: Application, started: Iterable[str]) -> list[str]:
    """The units among `started` whose process runs code of the application's folder, in their order."""
    found = []
    for name in started:
        stem, dot, kind = name.rpartition(".")
        prefix, at, _ = stem.partition("@")
        text = application.units.get(name) or application.units.get(f"{prefix}{at}{dot}{kind}", "")
        if any(_is_code(application.directory, word) for word in _words(text)):
            found.append(name)
    return found


def _words(text: str) -> list[str]:
    words = []
    for section in ("Service", "X-Kirsch-Process"):
        for entry in UnitFile.parse(text).values(section, "ExecStart"):
            try:
                words += shlex.split(entry.value)
            except ValueError:
                pass  # the runtime says what is wrong with it
    return words


def _is_code(folder: Path, word: str) -> bool:
    """Return True if a word of a command names a file or a module of the folder."""
    if word.endswith(".py"):
        return (folder / word).is_file()
    if not word.replace(".", "_").isidentifier():
        return False
    module = folder.joinpath(*word.split("."))
    return (module / "__init__.py").is_file() or module.parent.joinpath(f"{module.name}.py").is_file()


def _seen(path: Path) -> bool:
    """Return False for files that editors write beside the one that is edited."""
    return not path.name.startswith((".", "#"))
