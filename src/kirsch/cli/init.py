"""init: the first files of an application."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from kirsch.cli.completion import folders
from kirsch.cli.convert import of_compose
from kirsch.cli.errors import Failure
from kirsch.cli.values import JSON
from kirsch.cli.verb import Options, argument, flag, option, verb
from kirsch.cluster.application import FILE, is_unit
from kirsch.cluster.application.initial import COMPOSE, Initial, found_in, template
from kirsch.cluster.application.templates import TEMPLATES


@verb(
    "init",
    argument("directory", "DIR", "the folder (.)", optional=True, default=".", complete=folders),
    option(
        "--template",
        metavar="KIND",
        type=click.Choice([*TEMPLATES]),
        help="write a small application, with its code: " + ", ".join(TEMPLATES),
    ),
    option(
        "--with", "extras", metavar="NAMES", default="", help="with --template: postgres, haproxy, or both"
    ),
    flag("--force", help="write over files that are there"),
    JSON,
    text="It looks for CherryPy, Flask, Django and FastAPI applications, a Procfile, a package.json, web "
    "pages, a Containerfile or a compose.yaml, and writes kirsch.toml and units that run what it finds.",
    example="kirsch init --template flask --with postgres,haproxy",
)
def init(options: Options) -> int:
    """Write the files, and say what to type next."""
    folder = Path(options.directory)
    extras = [each.strip() for each in options.extras.split(",") if each.strip()]
    if extras and not options.template:
        raise Failure(f"--with {options.extras} goes with --template: there is code to write that uses it")
    if not options.template and not folder.is_dir():
        raise Failure(f"{folder}: no such directory; with --template it is made")
    if folder.is_dir():
        _check(folder, options)
    compose = next((folder / each for each in COMPOSE if (folder / each).is_file()), None)
    remarks: Sequence[str] = ()
    if options.template:
        made = template(options.template, extras, folder)
    elif compose:
        converted = of_compose(compose)
        made = Initial("a compose file", converted.files, ("kirsch up",))
        remarks = converted.remarks
    else:
        made = found_in(folder)
    if not options.force and (found := [name for name in made.files if (folder / name).exists()]):
        raise Failure(f"{folder / found[0]} is there already: --force writes over it")
    for name, text in made.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    where = "" if folder.resolve() == Path.cwd() else f" {options.directory}"
    commands = [*([f"cd {options.directory}"] if where else []), *made.next]
    commands += [] if any(each.startswith("kirsch up") for each in made.next) else ["kirsch up"]
    for remark in remarks:
        print(f"note: {remark}", file=sys.stderr)
    if options.json:
        print(json.dumps({"kind": made.kind, "files": [*made.files], "next": commands}, indent=2))
        return 0
    print(f"{folder.resolve().name}: {made.kind}")
    for name in made.files:
        print(f"  {name}")
    print("Next:")
    for command in commands:
        print(f"  {command}")
    return 0


def _check(folder: Path, options: Options) -> None:
    """Refuse a folder that is an application already. Raises Failure."""
    units = folder / "units" if (folder / "units").is_dir() else folder
    there = (folder / FILE).exists() or any(is_unit(path.name) for path in units.iterdir())
    if there and not options.force:
        raise Failure(
            f"{folder} is an application already: `kirsch up {options.directory}`; --force begins anew"
        )
