"""The verb `kirsch device`: an application for a phone, as one file.

An entry point of the group kirsch.verbs.
"""

import json
import shlex
from pathlib import Path

import click

from kirsch.cli.errors import Failure, Misuse
from kirsch.cli.values import JSON
from kirsch.cli.verb import Noun, Options, argument, option
from kirsch.device.bundle import BundleError
from kirsch.device.bundle import bundle as make

device = Noun("device")
FILE, FOLDER = click.Path(path_type=Path), click.Path(file_okay=False, path_type=Path)


@device.verb(
    "bundle",
    "make one file of an application, for a phone",
    argument("directory", "DIR", "the application (.)", optional=True, type=FOLDER, default="."),
    option(
        "-o", "--output", metavar="FILE", type=FILE, help="what to write (the package's name, .pyz, here)"
    ),
    option(
        "--arguments",
        metavar="WORDS",
        default="",
        help="the application's arguments where it is started without any, as by a tap: --arguments=--share",
    ),
    JSON,
    text="It is pure Python, with CherryPy, kirsch's bus, device and websocket, and the package of DIR "
    "that has a __main__; Termux and SL4A run it as it is.\n\n"
    "What goes into it is what the application imports here. No registry is asked.",
    example="kirsch device bundle examples/location",
)
def bundle(options: Options) -> int:
    """An archive that a phone's Python runs."""
    try:
        arguments = shlex.split(options.arguments)
    except ValueError as error:
        raise Misuse(f"--arguments {options.arguments!r}: {error}") from None
    try:
        made = make(options.directory, options.output, arguments)
    except BundleError as error:
        raise Failure(str(error)) from None
    if options.json:
        said = {"path": str(made.path), "bytes": made.size, "contents": dict(made.contents)}
        print(json.dumps(said, indent=2))
        return 0
    print(f"{made.path}: {made.size / 1000:,.0f} kB, pure Python, {made.name} and")
    for name, version in made.contents.items():
        print(f"  {name} {version}")
    print(f"Termux:  adb push {made.path} /sdcard/Download/")
    print(f"SL4A:    adb push {made.path} /sdcard/sl4a/scripts/{made.name}.py")
    return 0
