"""The `kirsch` command: what there is to type. Each verb's module is imported when it is called."""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NoReturn

from kirsch import __version__

DONE, FAILED, USAGE = 0, 1, 2

DESCRIPTION = "kirsch runs unit files: on this machine, and on a cluster of them."
EPILOG = """\
Start with an application's directory:  kirsch up examples/notes
Then, in that directory:                kirsch list-units

Exit status: 0 done, 1 could not, 2 wrong usage. KIRSCH_ENDPOINT stands for --endpoint."""


class Parser(argparse.ArgumentParser):
    """argparse, with an error of one line that says where help is."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"kirsch: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["balancer"]:
        # A program of its own, with options of its own: it is here for people to find.
        from kirsch.cluster.balancer import main as balancer

        return balancer(arguments[1:])
    parser = build()
    options = parser.parse_args(arguments)
    if options.run is None:
        parser.print_help()
        return USAGE
    module, _, function = options.run.rpartition(":")
    verb: Callable[[argparse.Namespace], int] = getattr(import_module(module), function)
    from kirsch.cli.errors import reported

    return reported(lambda: verb(options))


def build() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = Parser(
        prog="kirsch",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"kirsch {__version__}")
    parser.add_argument("--endpoint", metavar="unix://PATH", help="the kirschd to speak to")
    parser.set_defaults(run=None)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")
    _applications(verbs)
    _units(verbs)
    _lists(verbs)
    _programs(verbs)
    return parser


def _verb(verbs: Any, name: str, run: str, what: str, example: str) -> Parser:
    parser: Parser = verbs.add_parser(
        name,
        help=what[0].lower() + what[1:].partition(".")[0],
        description=what,
        epilog=f"Example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # Also after the verb, as people type it; absent there it must not undo the one before.
    parser.add_argument(
        "--endpoint", metavar="unix://PATH", default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    parser.set_defaults(run=f"kirsch.cli.{run}")
    return parser


def _applications(verbs: Any) -> None:
    up = _verb(
        verbs,
        "up",
        "up:up",
        "Run an application here. Its units are started in the order of their links; Ctrl-C stops them.",
        "kirsch up examples/notes",
    )
    up.add_argument(
        "directory", nargs="?", default=".", metavar="DIR", help="where its kirsch.toml or unit files are"
    )
    up.add_argument(
        "-d", "--detach", action="store_true", help="return once all is ready, and leave it running"
    )
    up.add_argument(
        "--timeout", type=float, default=180.0, metavar="SECONDS", help="give up after this time (180)"
    )
    down = _verb(
        verbs, "down", "up:down", "Stop an application. Its data stays.", "kirsch down examples/notes"
    )
    down.add_argument(
        "directory", nargs="?", default=".", metavar="DIR", help="where its kirsch.toml or unit files are"
    )


def _units(verbs: Any) -> None:
    submit = _verb(
        verbs, "submit", "units:submit", "Submit unit files. They are known then, nothing runs yet.",
        "kirsch submit units/webdb.container units/notes@.container",
    )  # fmt: skip
    submit.add_argument("files", nargs="+", metavar="FILE")
    submit.add_argument(
        "--replace", action="store_true", help="replace units that are there with another text"
    )
    for name, what in {
        "load": "Put units on a machine without starting them.",
        "start": "Start units. Waits until they run, or says why they do not.",
        "restart": "Stop units and start them again. One that does not run is started.",
        "stop": "Stop units; they stay on their machine.",
        "unload": "Stop units and take them off their machine.",
        "destroy": "Stop units and forget them.",
    }.items():
        verb = _verb(verbs, name, f"units:{name}", what, f"kirsch {name} notes@1")
        names = "a name, its type may be left out" + ("; or a file" if name in ("load", "start") else "")
        verb.add_argument("units", nargs="+", metavar="UNIT", help=names)
        verb.add_argument("--no-block", action="store_true", help="do not wait until it is done")
        verb.add_argument(
            "--timeout", type=float, default=60.0, metavar="SECONDS", help="wait so long at most (60)"
        )
    for name, what in {
        "status": "Say how units are, with their last lines.",
        "cat": "Print a unit's file, byte for byte.",
        "why": "Say why units are not where, or as, people want them.",
    }.items():
        verb = _verb(verbs, name, f"units:{name}", what, f"kirsch {name} notes@1")
        verb.add_argument("units", nargs="*" if name == "why" else "+", metavar="UNIT")
    journal = _verb(
        verbs, "journal", "journal:journal", "Print what units wrote.", "kirsch journal -f notes@1"
    )
    journal.add_argument("units", nargs="*", metavar="UNIT", help="all units if none is named")
    journal.add_argument("-f", "--follow", action="store_true", help="go on with new lines")
    journal.add_argument(
        "-n", "--lines", type=int, default=10, metavar="N", help="how many lines, of all units together (10)"
    )


def _lists(verbs: Any) -> None:
    for name, what in {
        "list-units": "List the units that are on a machine, and their states.",
        "list-unit-files": "List all units that were submitted.",
        "list-machines": "List the machines.",
    }.items():
        verb = _verb(verbs, name, f"lists:{name.replace('-', '_')}", what, f"kirsch {name} --full")
        verb.add_argument("-l", "--full", action="store_true", help="do not shorten machine ids and hashes")
        verb.add_argument("--no-legend", action="store_true", help="leave the heading out")
        verb.add_argument("--fields", metavar="A,B", help="the columns to print")
        verb.add_argument("--json", action="store_true", help="print JSON")


def _programs(verbs: Any) -> None:
    _verb(
        verbs,
        "balancer",
        "",
        "Run HAProxy and keep its servers those of the cluster's services. The main process of a unit.",
        "kirsch balancer --config haproxy.cfg --backend notes=notes:8080",
    )


if __name__ == "__main__":
    sys.exit(main())
