"""device bundle: an application for a phone, as one file."""

import argparse
import json
import shlex

from kirsch.cli.errors import Failure, Misuse


def bundle(options: argparse.Namespace) -> int:
    """An archive that a phone's Python runs."""
    try:
        arguments = shlex.split(options.arguments)
    except ValueError as error:
        raise Misuse(f"--arguments {options.arguments!r}: {error}") from None
    from kirsch.device.bundle import BundleError
    from kirsch.device.bundle import bundle as make

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
