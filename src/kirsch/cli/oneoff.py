"""run and exec: a command beside the units, with what they have."""

import base64
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from kirsch.bus.process.command import ChildError, Command
from kirsch.cli.completion import files, instances
from kirsch.cli.errors import Failure, NoProgram
from kirsch.cli.foreground import foreground
from kirsch.cli.machines import MACHINES
from kirsch.cli.names import known_names
from kirsch.cli.verb import Options, argument, flag, option, verb
from kirsch.cluster.api.client import UNITS, Client, unit_path
from kirsch.cluster.api.transport import Unix
from kirsch.cluster.application import ApplicationError, resolve
from kirsch.install import pip_install

# What a program needs to know of our terminal, where it has one.
TERMINAL = ("TERM", "COLORTERM")
# How variables that a person gives come to a machine: not in ssh's command line, which all may read, there as
# here, but in a variable by a name that OpenSSH takes as it is installed (sshd_config(5), AcceptEnv).
CARRIER = "LC_KIRSCH_GIVEN"
VARIABLES = (
    option(
        "-e",
        "--env",
        metavar="NAME[=VALUE]",
        repeat=True,
        help="with this variable, of our own value if none is given; may be repeated. Others can read what "
        "stands in a command line: give a secret by its NAME alone",
    ),
    # From one kirsch to another: the variables are in its environment.
    flag("--carried", hidden=True),
)
CARRIED = 96 << 10  # bytes; execve(2) takes no longer variable than 128 KiB


def unit_then_files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Suggest units; what comes after one is a command, which the shell knows better."""
    return (files if ctx.params.get("command") else instances)(ctx, param, incomplete)


@verb(
    "run",
    option(
        "--link",
        metavar="TARGET[:ALIAS]",
        repeat=True,
        help="with the variables of a link to a unit or service; may be repeated",
        complete=instances,
    ),
    *VARIABLES,
    argument(
        "command",
        "UNIT-OR-COMMAND",
        "a unit and a command, or a command; on a cluster an image and a command",
        many=True,
        complete=unit_then_files,
    ),
    rest=True,
    text="After a unit's name it is run as one of that unit's processes: as its user, in its folder, "
    "with its variables; else the first word is a program, run as you and here. It has your terminal, "
    "its exit status is kirsch's, and what it starts ends with it.\n\n"
    "On a cluster it runs on a machine: after the name of a unit that is a container, in another like "
    "it; else the first word is an image. The container is removed afterwards.\n\n"
    "A link gives docker's variables, ALIAS_PORT_5432_TCP_ADDR and its like, the target's secrets as "
    "ALIAS_ENV_NAME, and, if the target is a PostgreSQL, PGHOST, PGUSER and what else its clients read.",
    example="kirsch run --link webdb:postgres psql",
)
def run(options: Options) -> int:
    """A one-off command: a unit's name makes it as one of that unit's, else its first word is a program, or,
    on a cluster, an image."""
    client = options.client()
    unit, argv = _unit(client, options.command)
    if unit and not argv:
        raise Failure(f"say what to run: `kirsch run {options.command[0]} COMMAND`")
    if not isinstance(client.transport, Unix):
        words = [unit, *argv] if unit else argv
        flags = [f"--link={link}" for link in options.link]
        return _elsewhere(options, _place(client, unit), "run", flags, words, _given(options))
    query: dict[str, Any] = {"link": options.link} | ({"unit": unit} if unit else {})
    context = client.get("/kirsch/v1/environment", **query)
    on_systemd = client.get("/kirsch/v1/daemon")["runtime"] == "systemd"
    if on_systemd and (context["container"] or not unit):
        from kirsch.cli.boxed import run_boxed

        return run_boxed(context, argv, _given(options))
    environment = context["environment"] if unit else {**os.environ, **context["environment"]}
    if unit:
        context["user"] = context["user"] or _owner(client)
    return _execute(context, argv, environment, _given(options))


@verb(
    "exec",
    *VARIABLES,
    argument("unit", "UNIT", "a name, its type may be left out", complete=instances),
    argument("command", "COMMAND", "a program and its arguments", many=True, complete=files),
    rest=True,
    text="It has what the unit's processes have, user, folder and variables, and your terminal; its exit "
    "status is kirsch's, and what it starts ends with it.",
    example="kirsch exec notes@1 env",
)
def execute(options: Options) -> int:
    """A command in what a running unit's processes have, on the unit's machine."""
    client = options.client()
    name = resolve(options.unit, known_names(client, [options.unit]))
    return within(options, client, name, options.command, _given(options))


def within(
    options: Options, client: Client, name: str, command: Sequence[str], given: Mapping[str, str]
) -> int:
    """Run a command in what a running unit's processes have, and variables that are given; its exit status.

    Raises Failure, ClientError.
    """
    daemon = client.get("/kirsch/v1/daemon")
    on = {line["machine"] for line in client.get(UNITS, unit=name)["units"]} - {""}
    if on and (not isinstance(client.transport, Unix) or daemon["machine"] not in on):
        return _elsewhere(options, name, "exec", [], [name, *command], given)
    context = client.get(unit_path(name, "/environment"))
    if _is_boxed(name, daemon):
        return _in_container(name, command, given)
    environment = context["environment"]
    if not _exists(command[0], context["directory"], environment | dict(given)):
        raise NoProgram(f"{command[0]}: there is no such program")
    context["user"] = context["user"] or _owner(client)
    return _execute(context, command, environment, given)


def _is_boxed(name: str, daemon: Mapping[str, Any]) -> bool:
    """Return True if a unit's processes have a file system of their own."""
    return name.endswith(".container") and daemon["runtime"] == "systemd"


def _given(options: Options) -> dict[str, str]:
    """The variables that a person gives. Raises Failure."""
    carried = os.environ.pop(CARRIER, "")
    if not options.carried:
        return dict(map(_assignment, options.env))
    try:
        values: dict[str, str] = json.loads(base64.b64decode(carried, validate=True))
    except ValueError:
        raise Failure(
            "the values of --env did not come here: this machine's sshd is to have "
            f"`AcceptEnv {CARRIER}` in /etc/ssh/sshd_config"
        ) from None
    return values


def _place(client: Client, unit: str | None) -> str:
    """Return the machine on which a one-off command runs: the unit's, or else the one that answers.

    If that one may have no new containers it is another that may. Raises Failure.
    """
    if unit:
        there = {line["machine"] for line in client.get(UNITS, unit=unit)["units"]} - {""}
        if there:
            return str(min(there))
        if not unit.endswith(".container"):
            raise Failure(f"{unit} is on no machine: `kirsch load {unit}` puts it on one")
    nearest = client.get("/kirsch/v1/daemon")["machine"]
    able = [m for m in client.get(MACHINES)["machines"] if "container" in m["runs"] and not m["cordoned"]]
    if not able:
        raise Failure("no machine can run containers: they need podman 4.4 or newer, and not be cordoned")
    return str(min(able, key=lambda machine: (machine["id"] != nearest, machine["id"]))["id"])


def _elsewhere(
    options: Options,
    target: str,
    verb: str,
    flags: Sequence[str],
    words: Sequence[str],
    given: Mapping[str, str],
) -> int:
    """The same on a machine, or on a unit's, by ssh."""
    from kirsch.cli.ssh import log_in
    from kirsch.cluster.provision.settings import HOME

    if given:
        os.environ[CARRIER] = carried = base64.b64encode(json.dumps(dict(given)).encode()).decode()
        if len(carried) > CARRIED:
            raise Failure(f"--env: a machine takes {CARRIED >> 10} KiB of variables at most")
    command = [f"{HOME}/bin/kirsch", verb, *(["--carried"] if given else []), *flags, *words]
    return log_in(options.where(), target, command, [CARRIER] if given else [])


def _in_container(name: str, argv: Sequence[str], given: Mapping[str, str]) -> int:
    """In a unit's container (podman-exec(1)), whose id Quadlet has written down."""
    from kirsch.cli.boxed import handed_on, with_variables

    stem = name.removesuffix(".container")
    try:
        container = Path(f"/run/{stem}.cid").read_text().strip()
    except OSError:
        raise Failure(f"{name} has no container: `kirsch status {stem}` says how it is") from None
    terminal = ["--interactive", "--tty"] if sys.stdin.isatty() else ["--interactive"]
    command = Command(
        ("podman", "exec", *terminal, *handed_on(given), container, *argv), environment=with_variables(given)
    )
    try:
        return foreground(command)
    except ChildError as error:
        raise Failure(f"podman: {error}") from None


def _unit(client: Client, words: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """The unit that the first word names, if it does, and what is to be run."""
    if "/" not in words[0]:
        try:
            return resolve(words[0], known_names(client, words[:1])), words[1:]
        except ApplicationError as error:
            if "say which" in str(error):
                raise
    return None, words


def _execute(
    context: Mapping[str, Any],
    argv: Sequence[str],
    environment: Mapping[str, str],
    given: Mapping[str, str],
) -> int:
    """Run it in the foreground, with the variables a person gave; its exit status."""
    terminal = {name: os.environ[name] for name in TERMINAL if name in os.environ and sys.stdin.isatty()}
    environment = {**terminal, **environment, **given}
    command = Command(
        argv=tuple(argv),
        environment=environment,
        directory=context["directory"],
        user=context["user"],
        group=context["group"],
        umask=context["umask"],
        nice=context["nice"],
        limits={name: (soft, hard) for name, (soft, hard) in context["limits"].items()},
    )
    program = argv[0] if "/" in argv[0] else _program(argv[0], environment)
    try:
        return foreground(replace(command, argv=(program, *argv[1:])))
    except ChildError as error:
        raise Failure(f"{argv[0]}: {error}") from None


def _owner(client: Client) -> str | None:
    """Return whom an application's kirschd runs as where that is not root and root asks; else None."""
    if os.geteuid() != 0 or not isinstance(client.transport, Unix):
        return None
    uid = client.transport.path.stat().st_uid
    return str(uid) if uid else None


def _exists(program: str, directory: str, environment: Mapping[str, str]) -> bool:
    """Return True if a program can be found, though perhaps not executed."""
    if "/" in program:
        return os.path.exists(os.path.join(directory, program))
    if "PGHOST" in environment and _postgres_client(program):
        return True
    return shutil.which(program, path=environment.get("PATH")) is not None


def _program(name: str, environment: Mapping[str, str]) -> str:
    """Return a program's path: PostgreSQL's clients beside their server, others on PATH. Raises Failure."""
    postgres = _postgres_client(name) if "PGHOST" in environment else None
    found = str(postgres) if postgres else shutil.which(name, path=environment.get("PATH"))
    if found:
        return found
    if name == "psql" or name.startswith("pg_"):
        raise Failure(
            f"{name} is not there: apt install postgresql-client, or {pip_install('kirsch[postgres]')}"
        )
    raise Failure(f"{name}: neither a unit nor a program on PATH")


def _postgres_client(name: str) -> Path | None:
    try:
        from kirsch.sql.postgres import client
    except ImportError:
        return None  # kirsch[sql] is not installed; the one on PATH will do
    return client(name)


def _assignment(text: str) -> tuple[str, str]:
    """NAME=VALUE in two; NAME alone has the value that it has here."""
    name, equals, value = text.partition("=")
    if not name or "\0" in text:
        raise Failure(f"--env {text}: write NAME=VALUE, or NAME")
    return name, value if equals else os.environ.get(name, "")
