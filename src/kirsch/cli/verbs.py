"""What there is to type: the verbs, their options, and what --help says of them."""

import argparse
from collections.abc import Collection, Mapping, Sequence
from importlib import metadata
from typing import Any, NoReturn

from kirsch.cli import (
    cluster_options,
    device_options,
    hbase_options,
    hbase_server_options,
    image_options,
    machine_options,
    secret_options,
    ws_options,
)
from kirsch.cli.manual import Formatter, Parser
from kirsch.cli.values import count, lines, seconds

# As they are: no line is longer than a narrow terminal's.
DESCRIPTION = "kirsch runs unit files: here, and on a cluster of machines."
EPILOG = """\
Begin with an application:  kirsch up examples/notes
Then, in its folder:        kirsch list-units
More about a verb:          kirsch help VERB

Exit status: 0 done, 1 could not, 2 wrong usage.
KIRSCH_ENDPOINT, KIRSCH_CLUSTER and KIRSCH_TUNNEL stand for
the options of those names."""

# Which kirschd a verb is for: before the verb, or after it.
WHERE = {
    "--endpoint": ("URL", "the kirschd to speak to: unix://PATH, or https://HOST:PORT"),
    "--cluster": ("NAME", "the cluster to speak to, by any machine of it that answers"),
    "--tunnel": ("HOST", "the machine to speak to, by ssh"),
}
SHELLS = ("bash", "zsh", "fish")


class Version(argparse.Action):
    """Print the version and exit; the metadata is read only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"kirsch {metadata.version('kirsch')}")
        parser.exit()


def build() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = Top(
        prog="kirsch",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=Formatter,
    )
    parser.add_argument("--version", action=Version, nargs=0, help="print kirsch's version")
    for option, (metavar, what) in WHERE.items():
        parser.add_argument(option, metavar=metavar, help=what)
    parser.set_defaults(run=None)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", parser_class=Parser)
    _applications(verbs)
    _changes(verbs)
    _commands(verbs)
    _looks(verbs)
    _lists(verbs)
    _websockets(verbs)
    _clusters(verbs)
    _images(verbs)
    _devices(verbs)
    _hbase(verbs)
    secret_options.secrets(lambda *words: _verb(verbs, *words))
    _programs(verbs)
    return parser


class Top(argparse.ArgumentParser):
    """The parser before the verb: its help is a list of verbs."""

    error = Parser.error


def verbs_of(parser: argparse.ArgumentParser) -> dict[str, tuple[Parser, str]]:
    """Each verb's parser, and in one line what it does."""
    verbs: Any = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    told = {choice.dest: choice.help for choice in verbs._choices_actions}
    return {name: (verb, told[name]) for name, verb in verbs.choices.items()}


def joined(arguments: Sequence[str], verbs: Collection[str]) -> list[str]:
    """Arguments, with a verb of two words as one."""
    given = list(arguments)
    at = 0
    while at < len(given) and given[at].partition("=")[0] in WHERE:
        at += 1 if "=" in given[at] else 2
    name = " ".join(given[at : at + 2])
    return [*given[:at], name, *given[at + 2 :]] if " " in name and name in verbs else given


def half(given: Sequence[str], verbs: Collection[str]) -> str:
    """The first word of a verb of two, where the second is missing or none; empty if it is not so."""
    word = _first(given)
    return word if word not in verbs and any(verb.startswith(f"{word} ") for verb in verbs) else ""


def unknown(given: Sequence[str], verbs: Collection[str]) -> str:
    """What is to be said of a verb that there is not, with those like it; empty if there is such a verb."""
    word = _first(given)
    if not word or word.startswith("-") or word in verbs:
        return ""
    from difflib import get_close_matches

    names = verbs if " " in word else dict.fromkeys(verb.partition(" ")[0] for verb in verbs)
    alike = get_close_matches(word, names, n=2)
    return f"there is no verb {word}" + (f"; did you mean {' or '.join(alike)}?" if alike else "")


def odd(given: Sequence[str], parser: argparse.ArgumentParser) -> str:
    """The option before the verb that there is not; empty if all are."""
    word = _first(given)
    options = [each for action in parser._actions for each in action.option_strings]
    known = not word.startswith("-") or any(each.startswith(word.partition("=")[0]) for each in options)
    return "" if known else word


def refuse(words: Sequence[str], verb: argparse.ArgumentParser) -> NoReturn:
    """Exit with what a verb does not take, and the option that it is like."""
    from difflib import get_close_matches

    option = words[0].partition("=")[0]
    options = [each for action in verb._actions for each in action.option_strings]
    alike = get_close_matches(option, options, n=1) if option.startswith("--") else []
    hint = f"; did you mean {alike[0]}?" if alike else ""
    verb.error(f"unrecognized arguments: {' '.join(words)}{hint}")


def _first(given: Sequence[str]) -> str:
    """The first word that says no kirschd; empty if there is none."""
    at = 0
    while at < len(given) and given[at].partition("=")[0] in WHERE:
        at += 1 if "=" in given[at] else 2
    return given[at] if at < len(given) else ""


def listed(word: str, verbs: Mapping[str, tuple[Parser, str]]) -> str:
    """The verbs of two words that begin with one, a line each."""
    below = {name: what for name, (_, what) in verbs.items() if name.startswith(f"{word} ")}
    width = max(map(len, below))
    return "".join(f"  {name:<{width}}  {what}\n" for name, what in below.items())


def _verb(verbs: Any, name: str, run: str, what: str, example: str) -> Parser:
    short = what[0].lower() + what[1:].partition(".")[0]
    parser: Parser = verbs.add_parser(
        name,
        help=short,
        title=f"kirsch-{name.replace(' ', '-')} - {short}",
        description=what,
        example=example,
        formatter_class=Formatter,
    )
    # Also after the verb, as people type it; absent there it must not undo the one before.
    for option, (metavar, _) in WHERE.items():
        parser.add_argument(option, metavar=metavar, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.set_defaults(run=f"kirsch.cli.{run}")
    return parser


def _applications(verbs: Any) -> None:
    up = _verb(
        verbs,
        "up",
        "up:up",
        "Run an application here, or on a cluster. Its units are started in the order of their links, and "
        "their lines shown until Ctrl-C stops them. If it is up already it is brought up to date.\n\n"
        "On a cluster its images are built and sent to the cluster's own registry before; what has not "
        "changed is let be, the instances of a service start anew one after another, and units that the "
        "folder has no more are destroyed. It goes on running when this verb ends.",
        "kirsch up examples/notes",
    )
    _directory(up)
    up.add_argument("--on", metavar="CLUSTER", help="run it on a cluster of this computer")
    up.add_argument(
        "-d",
        "--detach",
        action="store_true",
        help="return once all is ready, and leave it running; on a cluster, once all is submitted",
    )
    up.add_argument(
        "--dry-run",
        action="store_true",
        help="with --on: build images, say what would be done, and do nothing",
    )
    up.add_argument(
        "--timeout", type=seconds, default=180.0, metavar="SECONDS", help="give up after this time (180)"
    )
    dev = _verb(
        verbs,
        "dev",
        "dev:dev",
        "Run an application while you write it. Its units run as with `kirsch up`; those that run code of "
        "the folder are restarted when it changes. While a file has a syntax error, which is shown, all goes "
        "on as it was.\n\n"
        "A folder without unit files is served as a module of CherryPy's that mounts itself, by cherryd; "
        "with --container in a container of the folder's image that has the code mounted; when the image's "
        "Containerfile or requirements.txt changes it is built anew.",
        "kirsch dev examples/notes",
    )
    _directory(dev)
    dev.add_argument("--module", metavar="MODULE", help="what cherryd serves (webapp)")
    dev.add_argument("--port", type=count, metavar="PORT", help="where cherryd serves it (8080)")
    dev.add_argument("--container", action="store_true", help="serve the module in a container")
    dev.add_argument(
        "--image", metavar="IMAGE", help="of this image (built of DIR's Containerfile; else kirsch/web)"
    )
    dev.add_argument(
        "--timeout", type=seconds, default=180.0, metavar="SECONDS", help="give up after this time (180)"
    )
    down = _verb(
        verbs, "down", "up:down", "Stop an application. Its data stays.", "kirsch down examples/notes"
    )
    _directory(down)
    down.add_argument("--on", metavar="CLUSTER", help="on this cluster; its units stay submitted")


def _changes(verbs: Any) -> None:
    verify = _verb(
        verbs,
        "verify",
        "verify:verify",
        "Check unit files without submitting them. No kirschd is needed. What a plain process cannot have is "
        "told as a warning. Exit status 1 when a file would be refused.\n\n"
        "With --on they are checked together, against a cluster as it is now: a unit that no machine there "
        "can have is bad; secrets, linked units and images that are missing are told as warnings.",
        "kirsch verify units/*",
    )
    verify.add_argument("files", nargs="+", metavar="FILE")
    verify.add_argument("--on", metavar="CLUSTER", help="check them against the machines of a cluster")
    verify.add_argument("--json", action="store_true", help="print JSON")
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
        "destroy": "Stop units and forget them. Folders of their own stay.",
    }.items():
        verb = _verb(verbs, name, f"units:{name}", what, f"kirsch {name} notes@1")
        names = "a name, its type may be left out" + ("; or a file" if name in ("load", "start") else "")
        verb.add_argument("units", nargs="+", metavar="UNIT", help=names)
        if name == "destroy":
            continue  # what is forgotten cannot be waited for
        verb.add_argument("--no-block", action="store_true", help="do not wait until it is done")
        verb.add_argument(
            "--timeout", type=seconds, default=60.0, metavar="SECONDS", help="wait so long at most (60)"
        )


def _commands(verbs: Any) -> None:
    run = _verb(
        verbs,
        "run",
        "oneoff:run",
        "Run a one-off command. After a unit's name it is run as one of that unit's processes: as its user, "
        "in its folder, with its variables; else the first word is a program, run as you and here. It has "
        "your terminal, its exit status is kirsch's, and what it starts ends with it.\n\n"
        "On a cluster it runs on a machine: after the name of a unit that is a container, in another like "
        "it; else the first word is an image. The container is removed afterwards.\n\n"
        "A link gives docker's variables, ALIAS_PORT_5432_TCP_ADDR and its like, the target's secrets as "
        "ALIAS_ENV_NAME, and, if the target is a PostgreSQL, PGHOST, PGUSER and what else its clients read.",
        "kirsch run --link webdb:postgres psql",
    )
    run.add_argument(
        "--link",
        action="append",
        default=[],
        metavar="TARGET[:ALIAS]",
        help="with the variables of a link to a unit or service; may be repeated",
    )
    _variables(run)
    run.add_argument(
        "command",
        nargs=argparse.PARSER,
        metavar="UNIT-OR-COMMAND",
        help="a unit and a command, or a command; on a cluster an image and a command",
    )
    execute = _verb(
        verbs,
        "exec",
        "oneoff:execute",
        "Run a command beside a running unit. It has what the unit's processes have, user, folder and "
        "variables, and your terminal; its exit status is kirsch's, and what it starts ends with it.",
        "kirsch exec notes@1 env",
    )
    _variables(execute)
    execute.add_argument("unit", metavar="UNIT", help="a name, its type may be left out")
    execute.add_argument(
        "command", nargs=argparse.PARSER, metavar="COMMAND", help="a program and its arguments"
    )


def _variables(parser: Parser) -> None:
    parser.add_argument(
        "-e",
        "--env",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="with this variable, of our own value if none is given; may be repeated. Others can read what "
        "stands in a command line: give a secret by its NAME alone",
    )
    # From one kirsch to another: the variables are in its environment.
    parser.add_argument("--carried", action="store_true", help=argparse.SUPPRESS)


def _looks(verbs: Any) -> None:
    for name, what in {
        "status": "Say how units are, with their last lines.",
        "cat": "Print units' files, byte for byte.",
        "why": "Say why units are not where, or as, people want them. All such if none is named.",
    }.items():
        verb = _verb(verbs, name, f"units:{name}", what, f"kirsch {name} notes@1")
        verb.add_argument("units", nargs="*" if name == "why" else "+", metavar="UNIT")
        if name in ("status", "why"):
            verb.add_argument("--json", action="store_true", help="print JSON")
    journal = _verb(
        verbs,
        "journal",
        "journal:journal",
        "Print what units wrote. Of all units if none is named.",
        "kirsch journal -f notes@1",
    )
    journal.add_argument("units", nargs="*", metavar="UNIT")
    journal.add_argument("-f", "--follow", action="store_true", help="go on with new lines")
    journal.add_argument(
        "-n", "--lines", type=lines, default=10, metavar="N", help="how many, of all units together (10)"
    )
    journal.add_argument("--json", action="store_true", help="print JSON, a line each")


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


def _websockets(verbs: Any) -> None:
    talk = _verb(verbs, "ws", "ws:ws", ws_options.CLIENT, "kirsch ws wss://example.com/chat")
    ws_options.client(talk)
    echo = _verb(verbs, "ws serve", "ws_serve:serve", ws_options.SERVER, "kirsch ws serve 8765")
    ws_options.server(echo)


def _clusters(verbs: Any) -> None:
    machine_options.machines(lambda *words: _verb(verbs, *words))
    cluster_options.clusters(lambda *words: _verb(verbs, *words))


def _images(verbs: Any) -> None:
    image_options.images(lambda *words: _verb(verbs, *words))


def _devices(verbs: Any) -> None:
    device_options.devices(lambda *words: _verb(verbs, *words))


def _hbase(verbs: Any) -> None:
    hbase_options.shell(lambda *words: _verb(verbs, *words))
    hbase_server_options.server(lambda *words: _verb(verbs, *words))
    hbase_server_options.jars(lambda *words: _verb(verbs, *words))


def _programs(verbs: Any) -> None:
    _verb(
        verbs,
        "balancer",
        "help:balancer",
        "Run HAProxy for the cluster's services. The main process of a unit: it keeps the servers current.",
        "kirsch balancer --config haproxy.cfg --backend notes=notes:8080",
    )
    completion = _verb(
        verbs,
        "completion",
        "completion:completion",
        "Print a script for a shell's completion. It knows verbs, options and the names of units.",
        "source <(kirsch completion bash)",
    )
    completion.add_argument("shell", choices=SHELLS)
    helped = _verb(verbs, "help", "help:help_", "Say what there is, or what a verb does.", "kirsch help run")
    helped.add_argument("verb", nargs="*", metavar="VERB")
    _verb(verbs, "version", "help:version", "Say which kirsch this is.", "kirsch version")


def _directory(parser: Parser) -> None:
    parser.add_argument(
        "directory", nargs="?", default=".", metavar="DIR", help="where its kirsch.toml or unit files are (.)"
    )
