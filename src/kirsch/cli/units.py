"""submit, load, start, restart, scale, stop, unload, destroy, status, cat, why: verbs of units."""

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from os.path import isfile  # Path.is_file raises OSError for a name that is too long
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from kirsch.cli import kubernetes
from kirsch.cli.completion import files, instances, units
from kirsch.cli.errors import Failure
from kirsch.cli.journal import shown
from kirsch.cli.names import (
    PATTERN,
    expanded,
    full_names,
    known_units,
    machine_names,
    reasons_of,
    recorded_names,
)
from kirsch.cli.output import machine
from kirsch.cli.releases import MESSAGE, NOW, note_of, who
from kirsch.cli.releases import wait as wait_for_release
from kirsch.cli.values import ATTEMPTS, JSON, NO_BLOCK, YES, confirm, patience, timeout
from kirsch.cli.verb import REPORT, Options, argument, flag, verb
from kirsch.cli.waiting import Line, is_up, wait
from kirsch.cluster.api.client import UNITS, Client, unit_path
from kirsch.cluster.api.transport import Unix
from kirsch.cluster.application import ApplicationError, resolve
from kirsch.unit import UnitError, UnitFile, UnitName, to_bytes


def instances_and_files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Suggest units, and unit files."""
    return instances(ctx, param, incomplete) + files(ctx, param, incomplete)


NAME = "a name, its type may be left out, or a pattern: 'notes@*'"
NAMED = argument("units", "UNIT", NAME, many=True, complete=instances)
ANY_UNITS = argument("units", "UNIT", NAME, many=True, complete=units)
STARTING = argument("units", "UNIT", f"{NAME}; or a file", many=True, complete=instances_and_files)
REPLACE = flag("--replace", help="replace units that are there with another text")
# What goes into one request: so many units, and texts of so many characters.
MANY = 500
MAX_TEXTS = 1 << 20


@verb(
    "submit",
    argument("files", "FILE", many=True, complete=files),
    REPLACE,
    REPORT,
    text="kirsch knows them then; nothing runs yet.",
    example="kirsch submit units/webdb.container units/notes@.container",
)
def submit(options: Options) -> int:
    """Submit unit files; nothing is submitted if one of them is wrong."""
    client, opened = options.client(), list[Line]()
    _submit(client, [Path(file) for file in options.files], replace=options.replace, opened=opened)
    _report(options, client, [Path(file).name for file in options.files], releases=opened)
    return 0


@verb("load", STARTING, REPLACE, NO_BLOCK, timeout(60), ATTEMPTS, REPORT, example="kirsch load notes@1")
def load(options: Options) -> int:
    """Put units on machines, and wait until they are there."""
    return _set(options, "loaded", lambda line: bool(line["machine"]) and line["load"] != "-", "loaded on")


@verb(
    "start",
    STARTING,
    REPLACE,
    NO_BLOCK,
    timeout(60),
    ATTEMPTS,
    REPORT,
    text="It waits until they run, or says why they do not.",
    example="kirsch start notes@1",
)
def start(options: Options) -> int:
    """Start units and wait until they run."""
    return _set(options, "launched", is_up, "launched on")


@verb(
    "restart",
    STARTING,
    NO_BLOCK,
    timeout(60),
    ATTEMPTS,
    REPORT,
    text="A unit that does not run is started.",
    example="kirsch restart notes@1",
)
def restart(options: Options) -> int:
    """Stop units and start them again, those that do not run too."""
    return _set(options, "launched", is_up, "launched on", again=True)


def scaled(text: str) -> tuple[str, int]:
    """Parse SERVICE=N: a template without its @, and a number."""
    service, equals, number = text.partition("=")
    if not equals or not service or not number.isdecimal() or len(number) > 4:
        raise ValueError(f"{text!r} is not SERVICE=N, such as notes=3")
    return service.removesuffix("@"), int(number)


@verb(
    "scale",
    argument("services", "SERVICE=N", "a template without its @, and a number", many=True, type=scaled),
    MESSAGE,
    NOW,
    NO_BLOCK,
    timeout(180, "give up waiting after this time"),
    REPORT,
    text="Instances have numbers, from 1 on. Those that are too many are stopped and forgotten, the highest "
    "numbers first. It is a release. `kirsch up` keeps the number, and says where kirsch.toml has another.",
    example="kirsch scale notes=3",
)
def scale(options: Options) -> int:
    """Start instances that are missing, and destroy those that are too many, by a release."""
    if kubernetes.named(options):
        return kubernetes.scale(options)
    client = options.client()
    lines = {line["name"]: line for line in client.get(UNITS)["units"]}
    counts = {_template(service, lines): count for service, count in options.services}
    answer = client.patch(UNITS, {"scale": counts, **note_of(options)})
    opened: list[Line] = answer["releases"]
    for number, row in enumerate(opened):
        if options.no_block:
            print(f"release {row['number']} of {row['application']}: {row['state']}")
            continue
        opened[number] = wait_for_release(client, row, options.timeout)
        now = {line["name"]: line for line in client.get(UNITS)["units"]}
        for name in row["start"]:
            if name in now and lines.get(name, {}).get("desired") != "launched":
                line = now[name]
                print(
                    f"Unit {name} launched on {machine(line['machine'], line['machine_address'], full=False)}"
                )
        for name in row["gone"]:
            print(f"Destroyed {name}")
    if not opened:
        print("Nothing has changed.")
    gone = [name for row in opened for name in row["gone"]]
    started = [name for row in opened for name in row["start"]]
    _report(options, client, started, releases=opened, destroyed=gone)
    return 0


def _template(service: str, known: Collection[str]) -> str:
    """Return the template of a service. Raises ApplicationError, Failure."""
    try:
        return resolve(f"{service}@", known)
    except ApplicationError:
        if plain := [name for name in known if name.rpartition(".")[0] == service]:
            raise Failure(
                f"{plain[0]} is no template: only instances of one, {service}@, have a number"
            ) from None
        raise


@verb(
    "stop",
    NAMED,
    NO_BLOCK,
    timeout(60),
    ATTEMPTS,
    REPORT,
    text="They stay on their machine.",
    example="kirsch stop notes@1",
)
def stop(options: Options) -> int:
    """Stop units and wait until they have stopped."""
    client = options.client()
    names = _change(client, options.units, "loaded")
    if not options.no_block:
        wait(client, names, lambda line: line["active"] in ("inactive", "failed", "-"), patience(options))
    print(f"Successfully stopped units [{' '.join(names)}].")
    _report(options, client, names)
    return 0


@verb("unload", NAMED, NO_BLOCK, timeout(60), ATTEMPTS, REPORT, example="kirsch unload notes@1")
def unload(options: Options) -> int:
    """Take units off their machines."""
    client = options.client()
    names = _change(client, options.units, "inactive")
    if not options.no_block:
        wait(client, names, lambda line: not line["machine"], patience(options))
    for name in names:
        print(f"Unit {name} inactive")
    _report(options, client, names)
    return 0


@verb(
    "destroy",
    ANY_UNITS,
    YES,
    # fleetctl's: here nothing is waited for but that the units are forgotten.
    flag("--no-block", hidden=True),
    ATTEMPTS,
    REPORT,
    text="Folders of their own stay. On a terminal it asks first.",
    example="kirsch destroy notes@1",
)
def destroy(options: Options) -> int:
    """Stop units and forget them."""
    client = options.client()
    names = list(dict.fromkeys(full_names(client, options.units)))
    if not options.yes:
        one = len(names) == 1
        what = names[0] if one else f"{len(names)} units: {', '.join(names)}"
        confirm(f"This stops and forgets {what}.", names[0] if one else "yes")
    for start in range(0, len(names), MANY):
        client.patch(UNITS, {"destroy": names[start : start + MANY]})
    for name in names:
        print(f"Destroyed {name}")
    options.report(destroyed=names)
    return 0


@verb("status", ANY_UNITS, JSON, example="kirsch status notes@1")
def status(options: Options) -> int:
    """Each unit's state and its last lines."""
    if kubernetes.named(options):
        return kubernetes.status(options)
    client = options.reader()
    names = full_names(client, options.units)
    if options.json:
        lines = [line for name in names for line in client.get(unit_path(name))["on"]]
        print(json.dumps(lines, indent=2, ensure_ascii=False))
        return 0
    machines = cache(lambda: machine_names(client, recorded_names(options)))
    for number, name in enumerate(names):
        if number:
            print()
        for line in client.get(unit_path(name))["on"]:
            why = reasons_of(line, machines()) if line["reasons"] else ""
            print("\n".join(describe(line, why, _program(client, line["pid"]))))
        for record in client.get("/kirsch/v1/journal", unit=name, lines=10)["lines"]:
            print(shown(record, with_unit=False))
    return 0


@verb("cat", ANY_UNITS, JSON, example="kirsch cat notes@1")
def cat(options: Options) -> int:
    """Print the files of units."""
    client = options.reader()
    texts = {name: client.get(unit_path(name))["text"] for name in full_names(client, options.units)}
    if options.json:
        print(json.dumps(texts, indent=2, ensure_ascii=False))
        return 0
    sys.stdout.flush()
    for text in texts.values():
        sys.stdout.buffer.write(to_bytes(text))
    return 0


@verb(
    "why",
    argument("units", "UNIT", many=True, optional=True, complete=units),
    JSON,
    text="All such units if none is named.",
    example="kirsch why notes@1",
)
def why(options: Options) -> int:
    """Why units are not as people want them; all that are not, if none is named."""
    client = options.reader()
    names = full_names(client, options.units)
    found = []
    for line in client.get(UNITS)["units"]:
        template = UnitName.parse(line["name"]).is_template
        if line["name"] in names or (not names and line["reasons"] and not template):
            found.append(line)
    if options.json:
        rows = [{"unit": each["name"]} | {key: each[key] for key in ("machine", "reasons")} for each in found]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    machines = machine_names(client, recorded_names(options)) if found else {}
    for each in found:
        at = machines.get(each["machine"]) or machine(each["machine"], each["machine_address"], full=False)
        where = f" on {at}" if each["is_global"] and each["machine"] else ""
        program = _program(client, each["pid"])
        runs = f"; it runs {program}" if Path(program).name.startswith("python") else ""
        print(f"{each['name']}{where}: {reasons_of(each, machines) or 'it is as people want it'}{runs}")
    return 0


def _submit(
    client: Client, paths: Sequence[Path], *, replace: bool, opened: list[Line] | None = None
) -> set[str]:
    """Submit files; the warnings that were told. `opened` gets the releases that replace units which run.
    Raises UnitError, Failure."""
    opened = [] if opened is None else opened
    files = [_read(path) for path in paths]
    known = known_units(client, [path.name for path, _ in files])
    changes, done = [], []
    for path, file in files:
        line = known.get(path.name)
        same = line is not None and line["hash"] in _hashes(file)
        if line is not None and not same and not replace:
            raise Failure(f"{path}: differs from the unit that was submitted; --replace replaces that")
        changes.append({"name": path.name, "text": file.text, "file": str(path)})
        done.append("inactive" if line is None else "is there already" if same else "replaced")
    warnings: set[str] = set()
    for start, stop in _parts(changes):
        before = len(opened)
        warnings |= _send(client, changes[start:stop], warnings, opened)
        for change, what in zip(changes[start:stop], done[start:stop], strict=True):
            print(f"Unit {change['name']} {what}")
        for row in opened[before:]:
            name = f"{row['application']} {row['number']}"
            print(f"Units that run are replaced by release {name}: `kirsch release show {name}`")
    return warnings


def _read(path: Path) -> tuple[Path, UnitFile]:
    """A unit file that is well-formed. Raises UnitError, Failure."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None
    try:
        UnitName.parse(path.name)
    except UnitError as error:
        raise Failure(f"{path}: {error}") from None
    file = UnitFile.parse(data, str(path))
    file.check_encoding()
    return path, file


def _parts(changes: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, int]]:
    """Return the parts of a list of changes that fit one request, as indices."""
    start, size = 0, 0
    for at, change in enumerate(changes):
        length = len(change.get("text", ""))
        if at > start and (at - start == MANY or size + length > MAX_TEXTS):
            yield start, at
            start, size = at, 0
        size += length
    if changes:
        yield start, len(changes)


def _send(
    client: Client,
    changes: Sequence[Mapping[str, Any]],
    told: set[str],
    opened: list[Line] | None = None,
) -> set[str]:
    """Send changes, and tell warnings that were not; all that there are. `opened` gets the releases that
    replace units which run."""
    answer = client.patch(UNITS, {"change": changes, "who": who()})
    warnings: list[str] = answer["warnings"]
    if opened is not None:
        opened += answer["releases"]
    for warning in warnings:
        if warning not in told:
            print(f"warning: {warning}", file=sys.stderr)
    return set(warnings)


def _set(
    options: Options,
    desired: str,
    done: Callable[[Line], bool],
    words: str,
    *,
    again: bool = False,
) -> int:
    client = options.client()
    opened: list[Line] = []
    replace = getattr(options, "replace", False)
    names = _change(client, options.units, desired, again=again, replace=replace, opened=opened)
    if options.no_block:
        for name in names:
            print(f"Triggered unit {name} {'start' if desired == 'launched' else 'load'}")
        _report(options, client, names, releases=opened)
        return 0
    opened = [wait_for_release(client, row, patience(options)) for row in opened]
    for line in wait(client, names, done, patience(options)):
        print(f"Unit {line['name']} {words} {machine(line['machine'], line['machine_address'], full=False)}")
    _report(options, client, names, releases=opened)
    return 0


def _report(options: Options, client: Client, names: Sequence[str], **more: Any) -> None:
    """Report the lines of units as they are now, and what else was changed."""
    if options.json:
        lines = [line for line in client.get(UNITS)["units"] if line["name"] in names]
        options.report(units=lines, **more)


def _change(
    client: Client,
    given: Sequence[str],
    desired: str,
    *,
    again: bool = False,
    replace: bool = False,
    opened: list[Line] | None = None,
) -> list[str]:
    """Ask for a state; the full names. A name that is a file's is submitted first, as fleetctl does. `opened`
    gets the releases that replace units which run."""
    paths = [Path(each) for each in given]
    lines = known_units(client, [path.name for path in paths])
    known = set(lines)
    files: dict[str, str] = {}
    told: set[str] = set()
    if desired in ("loaded", "launched"):
        if not replace:
            _tell_other_texts(paths, lines)
        new = [path for path in paths if isfile(path) and (replace or path.name not in known)]
        told = _submit(client, new, replace=replace, opened=opened) if new else told
        files = {path.name: str(path) for path in new}
    known |= files.keys()
    names = list(dict.fromkeys(name for each in given for name in _resolved(each, known)))
    changes = [
        {"name": name, "desiredState": desired, "again": again, "file": files.get(name, "")} for name in names
    ]
    for start, stop in _parts(changes):
        _send(client, changes[start:stop], told, opened)
    return names


def _resolved(given: str, known: Collection[str]) -> list[str]:
    """Return the units that are meant, by name, pattern or file. Raises ApplicationError, Failure."""
    try:
        return expanded(given if PATTERN.search(given) else Path(given).name, known)
    except ApplicationError:
        if "/" in given and not isfile(given):
            raise Failure(f"{given}: there is no such file, and no unit of that name") from None
        raise


def _tell_other_texts(paths: Sequence[Path], lines: Mapping[str, Line]) -> None:
    """Warn of files whose unit was submitted with another text: the submitted one is what is started."""
    for path in paths:
        if path.name in lines and isfile(path) and lines[path.name]["hash"] not in _hashes_at(path):
            print(
                f"warning: {path}: differs from the unit that was submitted, which is used; "
                f"`kirsch submit --replace {path}` replaces it",
                file=sys.stderr,
            )


def _hashes_at(path: Path) -> set[str]:
    """A unit file's hashes; of one that is not well-formed that of its bytes, of none none."""
    try:
        data = path.read_bytes()
    except OSError:
        return set()
    try:
        return _hashes(UnitFile.parse(data, str(path)))
    except UnitError:
        return {hashlib.sha256(data).hexdigest()}


def _hashes(file: UnitFile) -> set[str]:
    """The hashes of a text, and of the same options as fleetctl sends them: without comments."""
    try:
        return {file.hash, UnitFile.from_options(file.options).hash}
    except UnitError:
        return {file.hash}


def _program(client: Client, pid: int) -> str:
    """Return the path of a process's program as it was started; empty if it runs elsewhere.

    The path tells which of several Pythons runs, which /proc/PID/exe does not: all are links to one.
    """
    process = Path(f"/proc/{pid}")
    if not pid or not isinstance(client.transport, Unix):
        return ""
    try:
        name = os.fsdecode((process / "cmdline").read_bytes().split(b"\0")[0])
        variables = (process / "environ").read_bytes().split(b"\0")
        folder = os.readlink(process / "cwd")
    except OSError:
        return ""
    path = next((os.fsdecode(each[5:]) for each in variables if each.startswith(b"PATH=")), None)
    found = os.path.normpath(os.path.join(folder, name)) if "/" in name else shutil.which(name, path=path)
    return found or ""


def describe(line: Line, why: str, program: str) -> list[str]:
    """Return the lines of a unit's state, as systemctl shows it."""
    mark = {"active": "●", "failed": "×"}.get(line["active"], "○")
    title = f"{mark} {line['name']}" + (f" - {line['description']}" if line["description"] else "")
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line["since"])) if line["since"] else ""
    fields = {
        "Loaded": line["load"],
        "Active": f"{line['active']} ({line['sub']})" + (f" since {since}" if since else ""),
        "Desired": line["desired"],
        "Machine": machine(line["machine"], line["machine_address"], full=False),
        "Address": " ".join([line["address"], *(str(port) for port in line["ports"])]).strip(),
        "Ready": "yes" if line["ready"] else "no",
        "Role": line.get("role", ""),
        "Links": ", ".join(line["links"]),
        "Main PID": f"{line['pid'] or ''}" + (f" ({program})" if program else ""),
        "Restarts": str(line["restarts"] or ""),
        "Why": why,
    }
    return [title, *(f"{name:>10}: {value}" for name, value in fields.items() if value)]
