"""verify: unit files checked without a kirschd."""

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from kirsch.cluster.runtime.host import Host
from kirsch.cluster.runtime.process import check
from kirsch.cluster.verify import verify as checked
from kirsch.unit import UnitError


def verify(options: argparse.Namespace) -> int:
    """Check each file, and say what is wrong with each that is bad."""
    host = Host.create(Path(".kirsch"), Path(), ())
    found = []
    for file in options.files:
        problem, warnings = "", list[str]()
        try:
            warnings = checked(Path(file).name, Path(file).read_bytes().decode(), file, partial(check, host))
        except OSError as error:
            problem = f"{file}: {error.strerror}"
        except UnicodeDecodeError:
            problem = f"{file}: is not UTF-8"
        except UnitError as error:
            problem = str(error) if str(error).startswith(file) else f"{file}: {error}"
        found.append({"file": file, "ok": not problem, "error": problem, "warnings": warnings})
        if not options.json:
            _tell(file, problem, warnings)
    if options.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    return 0 if all(each["ok"] for each in found) else 1


def _tell(file: str, problem: str, warnings: Sequence[str]) -> None:
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if problem:
        print(f"kirsch: {problem}", file=sys.stderr)
    else:
        print(f"{file}: ok")
