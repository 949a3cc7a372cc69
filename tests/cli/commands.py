"""Command lines of kirsch, each in a process that is forked from one that has imported what verbs import.

A new Python takes longer for its imports than most verbs take for their work.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "kirsch.cli.errors",
        "kirsch.cli.verb",
        "kirsch.cli.names",
        "kirsch.cli.output",
        "kirsch.cluster.application",
    ]
)


def run(
    arguments: Sequence[str], directory: Path, environment: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run a command line to its end, with its output as subprocess.run captures it.

    Raises subprocess.TimeoutExpired after `timeout` seconds.
    """
    with tempfile.NamedTemporaryFile("r") as output, tempfile.NamedTemporaryFile("r") as errors:
        files = (os.devnull, output.name, errors.name)
        process = FORKS.Process(
            target=_carry_out, args=(list(arguments), str(directory), dict(environment), files)
        )
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(["kirsch", *arguments], timeout, output.read(), errors.read())
        return subprocess.CompletedProcess(
            ["kirsch", *arguments], process.exitcode, output.read(), errors.read()
        )


def _carry_out(
    arguments: list[str], directory: str, environment: dict[str, str], files: Sequence[str]
) -> None:
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in enumerate(files):
        descriptor = os.open(path, os.O_WRONLY if number else os.O_RDONLY)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    sys.argv = ["kirsch", *arguments]
    from kirsch.cli.main import main

    sys.exit(main())
