"""run and exec: a command beside the units, with what they have."""

import argparse
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kirsch.bus.command import ChildError, Command
from kirsch.cli.errors import Failure
from kirsch.cli.foreground import foreground
from kirsch.cli.names import known_names
from kirsch.cli.reach import client_of
from kirsch.cluster.application import ApplicationError, resolve
from kirsch.cluster.client import UNITS, Client, unit_path
from kirsch.cluster.reach import Unix

# What a program needs to know of our terminal, where it has one.
TERMINAL = ("TERM", "COLORTERM")


def run(options: argparse.Namespace) -> int:
    """A one-off command: a unit's name makes it as one of that unit's, else its first word is a program."""
    client = client_of(options)
    unit, argv = _unit(client, options.command)
    if unit and not argv:
        raise Failure(f"say what to run: `kirsch run {options.command[0]} COMMAND`")
    if unit and not isinstance(client.reach, Unix):
        return _elsewhere(options, unit, "run", [f"--link={link}" for link in options.link], argv)
    query: dict[str, Any] = {"link": options.link} | ({"unit": unit} if unit else {})
    context = client.get("/kirsch/v1/environment", **query)
    if unit and _is_boxed(unit, client.get("/kirsch/v1/daemon")):
        raise Failure(f"{unit} is a container: `kirsch exec {unit} COMMAND` runs a command in it")
    environment = context["environment"] if unit else {**os.environ, **context["environment"]}
    return _execute(context, argv, environment, options.env)


def execute(options: argparse.Namespace) -> int:
    """A command in what a running unit's processes have, on the unit's machine."""
    client = client_of(options)
    name = resolve(options.unit, known_names(client, [options.unit]))
    daemon = client.get("/kirsch/v1/daemon")
    on = {line["machine"] for line in client.get(UNITS, unit=name)["units"]} - {""}
    if on and (not isinstance(client.reach, Unix) or daemon["machine"] not in on):
        return _elsewhere(options, name, "exec", [], options.command)
    context = client.get(unit_path(name, "/environment"))
    if _is_boxed(name, daemon):
        return _in_container(name, options.command, options.env)
    return _execute(context, options.command, context["environment"], options.env)


def _is_boxed(name: str, daemon: Mapping[str, Any]) -> bool:
    """Whether a unit's processes have a file system of their own."""
    return name.endswith(".container") and daemon["runtime"] == "systemd"


def _elsewhere(
    options: argparse.Namespace, name: str, verb: str, flags: Sequence[str], argv: Sequence[str]
) -> int:
    """The same on the unit's machine, by ssh."""
    from kirsch.cli.ssh import ssh
    from kirsch.cluster.provision.settings import HOME

    given = [f"--env={'='.join(_assignment(each))}" for each in options.env]
    command = [f"{HOME}/bin/kirsch", verb, *flags, *given, name, *argv]
    return ssh(argparse.Namespace(**vars(options) | {"target": name, "command": command}))


def _in_container(name: str, argv: Sequence[str], given: Sequence[str]) -> int:
    """In a unit's container (podman-exec(1)), whose id Quadlet has written down."""
    stem = name.removesuffix(".container")
    try:
        container = Path(f"/run/{stem}.cid").read_text().strip()
    except OSError:
        raise Failure(f"{name} has no container: `kirsch status {stem}` says how it is") from None
    terminal = ["--interactive", "--tty"] if sys.stdin.isatty() else ["--interactive"]
    variables = [f"--env={'='.join(_assignment(each))}" for each in given]
    command = Command(
        ("podman", "exec", *terminal, *variables, container, *argv), environment=dict(os.environ)
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
    context: Mapping[str, Any], argv: Sequence[str], environment: Mapping[str, str], given: Sequence[str]
) -> int:
    """Run it in the foreground, with the variables a person gave; its exit status."""
    terminal = {name: os.environ[name] for name in TERMINAL if name in os.environ and sys.stdin.isatty()}
    environment = {**terminal, **environment, **dict(map(_assignment, given))}
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


def _program(name: str, environment: Mapping[str, str]) -> str:
    """Where a program lies: a client of PostgreSQL with the server that it is for, others on PATH."""
    postgres = _postgres_client(name) if "PGHOST" in environment else None
    found = str(postgres) if postgres else shutil.which(name, path=environment.get("PATH"))
    if found:
        return found
    if name == "psql" or name.startswith("pg_"):
        raise Failure(
            f"{name} is not there: apt install postgresql-client, or pip install 'kirsch[postgres]'"
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
