"""submit, load, start, stop, unload, destroy, status, cat, why."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kirsch.cli.errors import Failure
from kirsch.cli.journal import shown
from kirsch.cli.names import full_names, known_names
from kirsch.cli.reach import client_of
from kirsch.cli.tables import machine
from kirsch.cluster.application import resolve
from kirsch.cluster.client import UNITS, Client, ClientError, unit_path
from kirsch.unit import UnitError, UnitFile, UnitName

Line = Mapping[str, Any]


def submit(options: argparse.Namespace) -> int:
    """Submit unit files; nothing is submitted if one of them is wrong."""
    client = client_of(options)
    files = [_read(Path(file)) for file in options.files]
    for path, text in files:
        _submit(client, path, text, replace=options.replace)
    return 0


def load(options: argparse.Namespace) -> int:
    """Put units on machines."""
    return _set(options, "loaded", lambda line: bool(line["machine"]) and line["load"] != "-", "loaded on")


def start(options: argparse.Namespace) -> int:
    """Start units."""
    return _set(options, "launched", _is_up, "launched on")


def restart(options: argparse.Namespace) -> int:
    """Stop units and start them again, those that do not run too."""
    return _set(options, "launched", _is_up, "launched on", again=True)


def stop(options: argparse.Namespace) -> int:
    """Stop units."""
    names = _change(options, "loaded")
    if not options.no_block:
        _wait(options, names, lambda line: line["active"] in ("inactive", "failed", "-"))
    print(f"Successfully stopped units [{' '.join(names)}].")
    return 0


def unload(options: argparse.Namespace) -> int:
    """Take units off their machines."""
    names = _change(options, "inactive")
    if not options.no_block:
        _wait(options, names, lambda line: not line["machine"])
    for name in names:
        print(f"Unit {name} inactive")
    return 0


def destroy(options: argparse.Namespace) -> int:
    """Stop units and forget them."""
    client = client_of(options)
    for name in full_names(client, options.units):
        client.delete(unit_path(name))
        print(f"Destroyed {name}")
    return 0


def status(options: argparse.Namespace) -> int:
    """Each unit's state and its last lines."""
    client = client_of(options)
    names = full_names(client, options.units)
    if options.json:
        lines = [line for name in names for line in client.get(unit_path(name))["on"]]
        print(json.dumps(lines, indent=2, ensure_ascii=False))
        return 0
    for number, name in enumerate(names):
        if number:
            print()
        for line in client.get(unit_path(name))["on"]:
            print("\n".join(_status(line)))
        for record in client.get("/kirsch/v1/journal", unit=name, lines=10)["lines"]:
            print(shown(record, with_unit=False))
    return 0


def cat(options: argparse.Namespace) -> int:
    """Units' files."""
    client = client_of(options)
    for name in full_names(client, options.units):
        sys.stdout.write(client.get(unit_path(name))["text"])
    return 0


def why(options: argparse.Namespace) -> int:
    """Why units are not as people want them; all that are not, if none is named."""
    client = client_of(options)
    names = full_names(client, options.units)
    for line in client.get(UNITS)["units"]:
        template = UnitName.parse(line["name"]).is_template
        if line["name"] in names or (not names and line["reasons"] and not template):
            reasons = line["reasons"] or ["it is as people want it"]
            print(f"{line['name']}: {'; '.join(reasons)}")
    return 0


def _is_up(line: Line) -> bool:
    """Up is active, and stays so where no Health= tells: a program that ends at once is not up."""
    runs = line["active"] in ("active", "reloading") and (line["ready"] or line["checked"])
    return bool(line["settled"] and (runs or line["finished"]))


def _read(path: Path) -> tuple[Path, str]:
    """A unit file that is well-formed. Raises UnitError, Failure."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None
    try:
        UnitName.parse(path.name)
    except UnitError as error:
        raise Failure(f"{path}: {error}") from None
    UnitFile.parse(data, str(path))
    try:
        return path, data.decode()
    except UnicodeDecodeError:
        raise Failure(f"{path}: is not UTF-8") from None


def _submit(client: Client, path: Path, text: str, *, replace: bool) -> None:
    try:
        known = client.get(unit_path(path.name))["text"]
    except ClientError as error:
        if error.status != 404:
            raise
        known = None
    if known not in (None, text) and not replace:
        raise Failure(f"{path}: differs from the unit that was submitted; --replace replaces that")
    answer = client.put(unit_path(path.name), {"text": text, "file": str(path)})
    _warn(answer["warnings"])
    done = "inactive" if answer["created"] else "is there already" if known == text else "replaced"
    print(f"Unit {path.name} {done}")


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _set(
    options: argparse.Namespace,
    desired: str,
    done: Callable[[Line], bool],
    words: str,
    *,
    again: bool = False,
) -> int:
    names = _change(options, desired, again=again)
    if options.no_block:
        for name in names:
            print(f"Triggered unit {name} {'start' if desired == 'launched' else 'load'}")
        return 0
    for line in _wait(options, names, done):
        print(f"Unit {line['name']} {words} {machine(line['machine'], line['machine_address'], full=False)}")
    return 0


def _change(options: argparse.Namespace, desired: str, *, again: bool = False) -> list[str]:
    """Ask for a state; the full names. A name that is a file's is submitted first, as fleetctl does."""
    client = client_of(options)
    names, told = [], set()
    for given in options.units:
        path = Path(given)
        known = known_names(client)
        if desired in ("loaded", "launched") and path.is_file() and path.name not in known:
            _submit(client, *_read(path), replace=False)
            known = {path.name}
            told.add(path.name)
        names.append(resolve(path.name, known))
    for name in names:
        answer = client.put(unit_path(name), {"desiredState": desired, "again": again})
        _warn([] if name in told else answer["warnings"])
    return names


def _wait(options: argparse.Namespace, names: Sequence[str], done: Callable[[Line], bool]) -> list[Line]:
    """Wait until all units are as wanted. Raises Failure when one cannot be, or time is up."""
    waiting, finished = set(names), []
    lines: dict[str, Line] = {}
    for event in client_of(options).stream("/kirsch/v1/events", timeout=options.timeout):
        for line in event["units"]:
            name = line["name"]
            lines[name] = line
            if name not in waiting:
                continue
            if line.get("gone") or done(line):
                waiting.discard(name)
                if not line.get("gone"):
                    finished.append(line)
            elif line["active"] == "failed" and line["settled"] and line["desired"] == "launched":
                raise Failure(f"{name} failed: {'; '.join(line['reasons'])}")
            elif line["refused"]:
                raise Failure(f"{name} cannot be scheduled: {'; '.join(line['reasons'])}")
        if not waiting:
            return finished
    name = min(waiting)
    reasons = "; ".join(lines.get(name, {}).get("reasons", ())) or "nobody says why"
    raise Failure(f"{name} is not there after {options.timeout:g} s: {reasons}")


def _status(line: Line) -> list[str]:
    """A unit's state, as systemctl shows it."""
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
        "Links": ", ".join(line["links"]),
        "Main PID": str(line["pid"] or ""),
        "Restarts": str(line["restarts"] or ""),
        "Why": "; ".join(line["reasons"]),
    }
    return [title, *(f"{name:>10}: {value}" for name, value in fields.items() if value)]
