"""A compose file as data: variables and `extends` resolved, each key with its line. Pure."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

# How long a chain of `extends` may be.
DEEPEST = 16
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<plain>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?:(?P<op>:?[-?+])(?P<word>[^}]*))?\})"
)
# A step of a JSON path: .key, [number], ['key'].
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\['([^']*)'\]")
# Something that a schema finds wrong: its JSON path, and words.
Fault = tuple[str, str]
Validate = Callable[[Mapping[str, Any]], Sequence[Fault]]


class ComposeError(Exception):
    """A compose file that cannot be read; the message names the file and the line."""


class Table(dict[str, Any]):
    """A mapping of the file that knows in which line each key stands."""

    lines: Mapping[str, int]


class _Loader(yaml.SafeLoader):
    """A safe loader that keeps lines and reads scalars as YAML 1.2 does: 22:22 is a text, and so is yes."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  as PyYAML declares it


for _tag, _pattern, _first in (
    ("merge", r"<<", "<"),
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?", "-+0123456789."),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), list(_first))


def _table(loader: _Loader, node: yaml.MappingNode) -> Table:
    loader.flatten_mapping(node)
    made = Table({str(key): value for key, value in loader.construct_pairs(node, deep=True)})
    made.lines = {str(loader.construct_object(key)): key.start_mark.line + 1 for key, _ in node.value}
    return made


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _table)


def parse(text: str, file: str, environment: Mapping[str, str], validate: Validate | None) -> Table:
    """Return a compose file with its variables replaced. Raises ComposeError, also where `validate` finds
    something wrong."""
    document: Table = _interpolated(_load(text, file), environment, file)
    if faults := validate(document) if validate else ():
        # The innermost one says most: a service with a wrong key inside it is wrong as a whole too.
        path, words = max(faults, key=lambda fault: len(_STEP.findall(fault[0])))
        more = f" ({len(faults) - 1} more)" if len(faults) > 1 else ""
        where = f"{file}:{_line(document, path, words)}"
        raise ComposeError(f"{where}: {path.removeprefix('$.')}: {words}{more}")
    return document


def services_of(document: Table, file: str) -> dict[str, Table]:
    """Return the services by name, each with what it extends. Raises ComposeError."""
    services = document.get("services")
    if not isinstance(services, Table) or not services:
        raise ComposeError(f"{file}: there are no services in it")
    for name, service in services.items():
        if not isinstance(service, Table) or not _NAME.fullmatch(name):
            raise ComposeError(
                f"{file}:{services.lines[name]}: {name} is no service: a name, and a mapping below it"
            )
    return {name: _extended(name, services, file, ()) for name in services}


def _load(text: str, file: str) -> Table:
    try:
        document = yaml.load(text, _Loader)  # noqa: S506  a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ComposeError(f"{file}:{line}: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        raise ComposeError(f"{file}: {str(error).splitlines()[0]}") from None
    if not isinstance(document, Table):
        raise ComposeError(f"{file}: this is no compose file: it has no mapping with services")
    return document


def _line(document: Table, path: str, words: str) -> int:
    """Return the line of a JSON path, or of a key in it that the words name."""
    value: Any = document
    line = 1
    for key, number, quoted in _STEP.findall(path):
        if isinstance(value, Table):
            line = value.lines.get(key or quoted, line)
            value = value.get(key or quoted)
        elif isinstance(value, list) and number and int(number) < len(value):
            value = value[int(number)]
    named = re.findall(r"'([^']+)'", words)
    found = [value.lines[name] for name in named if name in value.lines] if isinstance(value, Table) else []
    return found[-1] if found else line


def env_files(text: str, file: str = "compose.yaml") -> list[str]:
    """Return the files that services name as env_file. Raises ComposeError."""
    services = _load(text, file).get("services")
    found: list[str] = []
    for service in services.values() if isinstance(services, Table) else ():
        if isinstance(service, Table):
            found += paths(service.get("env_file"))
    return list(dict.fromkeys(found))


def paths(value: Any) -> list[str]:
    """Return the paths that env_file names: one, a list, or a list of mappings."""
    each = value if isinstance(value, list) else [value] if value else []
    return [str(path["path"]) if isinstance(path, Mapping) else str(path) for path in each]


def variables(text: str) -> dict[str, str]:
    """Return the variables of an env file: NAME=VALUE a line, quotes taken off."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not name.startswith("#"):
            value = value.strip()
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
            found[name.strip()] = value[1:-1] if quoted else value.partition(" #")[0].strip()
    return found


def _interpolated(value: Any, environment: Mapping[str, str], file: str) -> Any:
    """The value with its variables replaced, in every text below it."""
    match value:
        case str():
            return _replaced(value, environment, file)
        case Table():
            made = Table({key: _interpolated(each, environment, file) for key, each in value.items()})
            made.lines = value.lines
            return made
        case list():
            return [_interpolated(each, environment, file) for each in value]
    return value


def _replaced(text: str, environment: Mapping[str, str], file: str) -> str:
    def value(found: re.Match[str]) -> str:
        if found["escaped"]:
            return "$"
        name, op, word = found["plain"] or found["name"], found["op"] or "", found["word"] or ""
        given = environment.get(name)
        there = bool(given) if op.startswith(":") else given is not None
        match op[-1:]:
            case "-":
                return given or "" if there else word
            case "+":
                return word if there else ""
            case "?" if not there:
                raise ComposeError(f"{file}: the variable {name} is not set{': ' if word else ''}{word}")
        return given or ""

    return _VARIABLE.sub(value, text)


def _extended(name: str, services: Table, file: str, above: tuple[str, ...]) -> Table:
    """The service with what it extends below it (`extends` of the same file)."""
    service: Table = services[name]
    extends = service.get("extends")
    if not extends:
        return service
    where = f"{file}:{service.lines['extends']}"
    base = extends if isinstance(extends, str) else extends.get("service", "")
    if isinstance(extends, Mapping) and extends.get("file"):
        raise ComposeError(f"{where}: {name} extends a service of another file: put both into one file")
    if base not in services or base in above or len(above) > DEEPEST:
        raise ComposeError(f"{where}: {name} extends {base}, which is not there or extends {name} itself")
    under = _extended(base, services, file, (*above, name))
    made = Table(under | service)
    for key in under.keys() & service.keys():
        if isinstance(under[key], Mapping) and isinstance(service[key], Mapping):
            made[key] = {**under[key], **service[key]}
    made.lines = {**under.lines, **service.lines}
    return made
