"""verify: unit files checked without a kirschd."""

import argparse
import sys
from functools import partial
from pathlib import Path

from kirsch.cluster.runtime.host import Host
from kirsch.cluster.runtime.process import check
from kirsch.cluster.verify import verify as checked
from kirsch.unit import UnitError


def verify(options: argparse.Namespace) -> int:
    """Check each file, and say what is wrong with each that is bad."""
    host = Host.create(Path(".kirsch"), Path(), ())
    bad = 0
    for file in options.files:
        try:
            warnings = checked(Path(file).name, Path(file).read_bytes().decode(), file, partial(check, host))
        except OSError as error:
            problem = f"{file}: {error.strerror}"
        except UnicodeDecodeError:
            problem = f"{file}: is not UTF-8"
        except UnitError as error:
            problem = str(error) if str(error).startswith(file) else f"{file}: {error}"
        else:
            for warning in warnings:
                print(f"warning: {warning}", file=sys.stderr)
            print(f"{file}: ok")
            continue
        print(f"kirsch: {problem}", file=sys.stderr)
        bad += 1
    return 1 if bad else 0
