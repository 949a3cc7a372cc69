"""An application: a directory with unit files and, if it has one, a kirsch.toml."""

import re
import tomllib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kirsch.cluster.application import procfile
from kirsch.cluster.model.release import commanded
from kirsch.unit import (
    UNIT_TYPES,
    Options,
    UnitError,
    UnitFile,
    UnitName,
    is_boxed,
    to_bytes,
    to_text,
)
from kirsch.unit.release import read_policy

FILE = "kirsch.toml"
# How many instances an error names.
SHOWN = 5
# Instances of a service that are written as one, notes@1..3, and how many those may be.
RANGE = re.compile(r"(?P<stem>[^@]+)@(?P<first>[0-9]{1,9})\.\.(?P<last>[0-9]{1,9})(?P<type>(?:\.[a-z]+)?)")
MOST = 1000
# How much of a name is to be right for it to be one that was meant.
ALIKE = 0.7
KEYS = {"name": str, "open": str, "start": list, "images": dict, "cluster": dict, "release": dict}


class ApplicationError(Exception):
    """An application that cannot be read: one line, with the file where there is one."""


@dataclass(frozen=True, slots=True)
class Source:
    """Source of an image: the folder that is its context, and its Containerfile if that has another
    name than usual."""

    folder: Path
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class Application:
    """An application as `kirsch up` runs it. `units` maps names to texts, `files` names to paths as a person
    would write them; `start` names what to start, in full; `open` is the address to show, empty if there is
    none; `images` says what those are built from that units name as localhost/NAME."""

    name: str
    directory: Path
    units: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)
    start: tuple[str, ...] = ()
    open: str = ""
    images: Mapping[str, Source] = field(default_factory=dict)
    # How changes are carried out: the table as it was written, checked.
    release: Mapping[str, Any] = field(default_factory=dict)
    # The same with several instances of what has one here, where a cluster has as many machines.
    replicated: "Application | None" = None

    @property
    def state(self) -> Path:
        """Folder of kirsch's own files."""
        return self.directory / ".kirsch"

    @property
    def boxed(self) -> dict[str, str]:
        """Units that a container engine runs here, and their texts. Raises UnitError."""
        return {
            name: text
            for name, text in self.units.items()
            if is_boxed(UnitFile.parse(text, name), UnitName.parse(name))
        }


def load(directory: Path, *, cluster: bool = False) -> Application:
    """Read an application's directory; for a cluster with what only that has ([cluster] of kirsch.toml).

    Raises ApplicationError, UnitError.
    """
    if directory.is_file() and is_unit(directory.name):
        return _of_one(directory)
    if not directory.is_dir():
        raise ApplicationError(f"{directory}: no such directory")
    if (parent := _application_of(directory)) is not None:
        raise ApplicationError(f"{directory} has the unit files of an application: name its folder, {parent}")
    settings = _settings(directory / FILE)
    more = _on_cluster(settings.get("cluster", {}), directory)
    folder = directory / "units" if (directory / "units").is_dir() else directory
    folders = [folder, *([directory / more["units"]] if cluster and "units" in more else [])]
    files = {path.name: path for folder in folders for path in _unit_files(folder)}
    texts = {name: _text(path) for name, path in files.items()}
    if not files and (directory / procfile.FILE).is_file():
        path = directory / procfile.FILE
        try:
            texts = procfile.units(path.read_text("utf-8"), directory)
        except UnicodeDecodeError:
            raise ApplicationError(f"{path}: is not UTF-8") from None
        except ValueError as error:
            raise ApplicationError(f"{path}:{error}") from None
        files = dict.fromkeys(texts, path)
    if not files:
        raise ApplicationError(
            f"{directory} has no unit files: `kirsch init {directory}` writes some, or put them into "
            f"{directory / 'units'}"
        )
    for name, text in texts.items():
        _check(name, text, str(files[name]))
    for folder in folders:
        texts |= _dropped_in(folder, texts)
    for name in texts.keys() - files.keys():
        files[name] = files[_template(name)]
    names = settings.get("start")
    if names is None:
        names = [name for name in texts if not UnitName.parse(name).is_template]
        if not names:
            example = UnitName.parse(next(iter(files))).with_instance("1")
            raise ApplicationError(f'{directory} has only templates: write start = ["{example}"] into {FILE}')
    names = [*names, *(more.get("start", []) if cluster else [])]
    where = f"{directory / FILE}: start"
    start = tuple(resolve(each, files, where) for name in names for each in _numbered(name, where))
    name = settings.get("name") or directory.resolve().name
    release = _release(settings.get("release", {}), directory)
    _check_command(name, release, {unit: texts.get(unit) or texts[_template(unit)] for unit in start})
    application = Application(
        name=name,
        directory=directory,
        units=texts,
        files={name: str(path) for name, path in files.items()},
        start=start,
        open=settings.get("open", ""),
        images=_images(settings.get("images", {}), directory),
        release=release,
    )
    if not cluster or "replicas" not in more:
        return application
    where = f"{directory / FILE}: cluster.replicas"
    replicas = {
        resolve(unit, files, where): [
            resolve(each, files, where) for name in names for each in _numbered(name, where)
        ]
        for unit, names in more["replicas"].items()
    }
    return _with_replicas(application, replicas)


def _with_replicas(application: Application, replicas: Mapping[str, Collection[str]]) -> Application:
    """Return the application with one instance of each unit, and with several as `replicated`."""
    instances = {name for names in replicas.values() for name in names}
    templates = {_template(name) for name in instances}

    def without(names: Collection[str], start: Iterable[str]) -> Application:
        kept = {name: text for name, text in application.units.items() if name not in names}
        files = {name: application.files[name] for name in kept}
        return replace(application, units=kept, files=files, start=tuple(start))

    alone = [name for name in application.units if name in instances or {name, _template(name)} & templates]
    several = [each for name in application.start for each in replicas.get(name, [name])]
    return replace(without(alone, application.start), replicated=without(replicas, several))


def fitting(application: Application, machines: int, known: Collection[str]) -> Application:
    """Return the application as a cluster of so many machines, with the units `known`, is to run it. Pure.

    What is there already stays as it is, with one instance or several, for its data is where it was put.
    """
    several = application.replicated
    if several is None:
        return application
    more = set(several.start).difference(application.start)
    if set(application.start).difference(several.start).intersection(known):
        return application
    most = max(Counter(UnitName.parse(name).service for name in more).values(), default=0)
    return several if machines >= most or more.intersection(known) else application


def _of_one(path: Path) -> Application:
    """Return the application of one unit file."""
    text = _text(path)
    _check(path.name, text, str(path))
    name = UnitName.parse(path.name)
    if name.is_template:
        raise ApplicationError(f"{path} is a template: start an instance, `kirsch start {name.prefix}@1`")
    units = {path.name: text} | _dropped_in(path.parent, {path.name: text}, only=path.name)
    files = {path.name: str(path)}
    return Application(path.name.rpartition(".")[0], path.parent, units, files, (path.name,))


def _application_of(units: Path) -> Path | None:
    """The application's folder, where a folder is not that but the one of its unit files."""
    parent = units.resolve().parent
    inside = units.resolve().name == "units" and not (units / FILE).exists()
    return parent if inside and (parent / FILE).is_file() else None


def _unit_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_file() and is_unit(path.name)]


def _on_cluster(given: Mapping[str, Any], directory: Path) -> Mapping[str, Any]:
    """[cluster] of kirsch.toml: units that only a cluster has (their folder), what starts there, and what has
    replicas there."""
    where = f"{directory / FILE}: cluster"
    if unknown := given.keys() - {"units", "start", "replicas"}:
        raise ApplicationError(f"{where}: unknown key {min(unknown)!r}; there are units, start, replicas")
    if not isinstance(units := given.get("units", "."), str) or not (directory / units).is_dir():
        raise ApplicationError(f"{where}.units is to be a folder")
    start = given.get("start", [])
    if not isinstance(start, list) or not all(isinstance(name, str) for name in start):
        raise ApplicationError(f"{where}.start is to be a list of unit names")
    replicas = given.get("replicas", {})
    if not isinstance(replicas, dict) or not all(map(_is_several, replicas.values())):
        raise ApplicationError(f'{where}.replicas is to have lines as webdb = ["webdb@1", "webdb@2"]')
    return given


def _is_several(names: Any) -> bool:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return False
    return len(names) > 1 or any(map(RANGE.fullmatch, names))


def _dropped_in(folder: Path, texts: Mapping[str, str], only: str = "") -> dict[str, str]:
    """The texts that drop-ins change (systemd.unit(5)): NAME.d/*.conf stand after what they are for, in the
    order of their names. Those of an instance make a text of its own. Raises ApplicationError, UnitError."""
    changed: dict[str, str] = {}
    found = [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name.endswith(".d")]
    found = [path for path in found if only in ("", path.name.removesuffix(".d"))]
    # A template's own ones first: they are its instances' too.
    for path in sorted(found, key=lambda path: path.name.removesuffix(".d") not in texts):
        name = path.name.removesuffix(".d")
        base = name if name in texts else _template(name)
        if not is_unit(name) or base not in texts:
            raise ApplicationError(f"{path}: there is no unit {name} that it could be for")
        text = changed.get(base, texts[base])
        for each in sorted(path.glob("*.conf")):
            added = _text(each)
            UnitFile.parse(added, str(each))
            title = f"\n\n# {path.name}/{each.name}\n"
            text = to_text(to_bytes(text).rstrip() + title.encode() + to_bytes(added))
        _check(name, text, str(path))
        changed[name] = text
    return changed


def _images(given: Mapping[str, Any], directory: Path) -> dict[str, Source]:
    """Return the sources in [images.NAME] of kirsch.toml."""
    found = {}
    for name, table in given.items():
        where = f"{directory / FILE}: images.{name}"
        if not isinstance(table, dict) or not isinstance(table.get("build"), str):
            raise ApplicationError(f'{where} is to have build = "FOLDER", where its Containerfile is')
        if unknown := table.keys() - {"build", "file"}:
            raise ApplicationError(f"{where}: unknown key {min(unknown)!r}; there are build, file")
        if not isinstance(file := table.get("file", ""), str):
            raise ApplicationError(f"{where}: file is to be a text")
        build = directory / table["build"]
        found[name] = Source(build, build / file if file else None)
    return found


def _release(given: Mapping[str, Any], directory: Path) -> Mapping[str, Any]:
    """Check [release] of kirsch.toml."""
    try:
        read_policy(given)
    except UnitError as error:
        raise ApplicationError(f"{directory / FILE}: {error}") from None
    return given


def _check_command(application: str, release: Mapping[str, Any], units: Mapping[str, str]) -> None:
    """Raises UnitError where it is not clear as which unit the command of [release] is to run."""
    names = {name: UnitName.parse(name) for name in units}
    commanded(
        application,
        read_policy(release),
        {names[name]: Options.parse(UnitFile.parse(text, name), names[name]) for name, text in units.items()},
    )


def _check(text_name: str, text: str, path: str) -> None:
    """Whatever can be said of a unit file alone is said before anything is started."""
    try:
        name = UnitName.parse(text_name)
    except UnitError as error:
        raise UnitError(error.message, path) from None
    file = UnitFile.parse(text, path)
    file.check_encoding()
    Options.parse(file, name.with_instance("1") if name.is_template else name)


def is_unit(name: str) -> bool:
    """True if a file is meant to be a unit: by its ending; its name may still be a bad one."""
    stem, dot, kind = name.rpartition(".")
    return bool(stem and dot) and kind in UNIT_TYPES and not name.startswith(".")


def _numbered(name: str, where: str) -> list[str]:
    """Return the instances that a name with a range of them means, of notes@1..3 three; of another name that
    alone. Raises ApplicationError."""
    found = RANGE.fullmatch(name)
    if not found:
        return [name]
    first, last = int(found["first"]), int(found["last"])
    if not first <= last < first + MOST:
        raise ApplicationError(f"{where}: {name} is to go up, over {MOST} instances at most")
    return [f"{found['stem']}@{number}{found['type']}" for number in range(first, last + 1)]


def resolve(name: str, known: Iterable[str], where: str = "") -> str:
    """A unit's full name from one whose type may be left out, where one unit or template answers.

    Raises ApplicationError when none or several do.
    """
    prefix = f"{where}: " if where else ""
    known = set(known)
    if name in known or _template(name) in known:
        return name
    found = sorted({other.rpartition(".")[2] for other in known if _answers(name, other)})
    if not found:
        raise ApplicationError(f"{prefix}there is no unit {name}{_instances(name, known)}")
    stem, _, kind = name.rpartition(".")
    if stem and f"{name}.{found[0]}" not in known and _is_type(kind):
        # The name of an instance may have dots; what follows the last one is rather a type than a part of it.
        raise ApplicationError(f"{prefix}there is no unit {name}; did you mean {stem}.{found[0]}?")
    if len(found) > 1:
        choices = ", ".join(f"{name}.{kind}" for kind in found)
        raise ApplicationError(f"{prefix}{name} could be {choices}: say which")
    return f"{name}.{found[0]}"


def _is_type(word: str) -> bool:
    """True for a type of units, or what is nearly one."""
    from difflib import get_close_matches

    return bool(get_close_matches(word, UNIT_TYPES, n=1, cutoff=ALIKE))


def _instances(service: str, known: Iterable[str]) -> str:
    """Return what else a service's name may mean, as the end of an error; empty if nothing."""
    found = sorted(name for name in known if name.startswith(f"{service}@"))
    instances = [name for name in found if not name.startswith(f"{service}@.")]
    if instances:
        return f"; there are {', '.join(instances[:SHOWN])}{', …' if len(instances) > SHOWN else ''}"
    if found:
        return f"; {found[0]} is a template: name an instance of it"
    from difflib import get_close_matches

    names = {other.rpartition(".")[0]: other for other in known if "@." not in other}
    alike = get_close_matches(service.rpartition(".")[0] or service, names, n=2, cutoff=ALIKE)
    return f"; did you mean {' or '.join(names[name] for name in alike)}?" if alike else ""


def _answers(name: str, unit: str) -> bool:
    stem = unit.rpartition(".")[0]
    return stem == name or ("@" in name and stem == name.partition("@")[0] + "@")


def _template(name: str) -> str:
    """The template of an instance's full name: notes@.container of notes@1.container."""
    stem, _, kind = name.rpartition(".")
    prefix, at, _ = stem.partition("@")
    return f"{prefix}@.{kind}" if at else ""


def _settings(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ApplicationError(f"{path}: is not UTF-8") from None
    except OSError as error:
        raise ApplicationError(f"{path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise ApplicationError(f"{path}: {error}") from None
    for key, value in settings.items():
        kind = KEYS.get(key)
        if kind is None:
            raise ApplicationError(f"{path}: unknown key {key!r}; there are {', '.join(KEYS)}")
        if not isinstance(value, kind):
            words = {str: "a text", list: "a list of unit names", dict: "a table"}
            raise ApplicationError(f"{path}: {key} is to be {words[kind]}")
    if "name" in settings and ("/" in settings["name"] or not settings["name"].strip()):
        raise ApplicationError(f"{path}: name is to be a word or some, without a slash")
    if not all(isinstance(name, str) for name in settings.get("start", [])):
        raise ApplicationError(f"{path}: start is to be a list of unit names")
    try:
        _ = urlsplit(settings.get("open", "")).port
    except ValueError as error:
        raise ApplicationError(
            f"{path}: open is to be an address as http://localhost:8091/: {error}"
        ) from None
    return settings


def _text(path: Path) -> str:
    try:
        return to_text(path.read_bytes())
    except OSError as error:
        raise ApplicationError(f"{path}: {error.strerror}") from None
