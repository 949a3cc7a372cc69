"""What can follow on a command line: for the shells' completion scripts. Pure, but for asking kirschd."""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kirsch.cli.verbs import WHERE, build, half, verbs_of

RUNNABLE = ("load", "start", "restart", "stop", "unload", "run", "exec", "move", "ssh")
MACHINES = ("drain", "cordon", "uncordon", "metadata", "ssh", "cluster remove", "cluster images")
SECRETS = ("secret set", "secret rm")
IMAGES = ("image tag", "image rm", "image push")
CLUSTERS = tuple(f"cluster {verb}" for verb in ("status", "start", "stop", "ssh-config", "destroy"))
KNOWN = ("destroy", "status", "cat", "why", "journal")
FILES = ("verify", "submit", "load", "start")
FOLDERS = ("up", "down", "dev", "image build")
# After a unit these take a command, which the shell knows better.
COMMANDS = ("run", "exec", "ssh")
# Nobody waits longer for a name.
TIMEOUT = 2.0

# What there is of the kirschd that a command line is for.
Names = Callable[[Mapping[str, str]], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """Words that can follow, each with its help; and whether `files` or `folders` can, or `none`."""

    words: Sequence[tuple[str, str]] = field(default=())
    paths: str = "none"


def main(words: Sequence[str]) -> int:
    """`kirsch _complete WORD…`: the last is the one to be completed. First a line with none, files or
    folders, then a line for each word that can follow: WORD, tab, help."""
    answer = complete(words, units_of, machines_of)
    print(answer.paths)
    for word, help in answer.words:
        print(f"{word}\t{help}" if help else word)
    return 0


def complete(words: Sequence[str], units: Names, machines: Names = lambda where: ()) -> Answer:
    """What can stand in place of the last of `words`; `units` names the units of a kirschd, `machines` its
    machines."""
    *before, word = words or [""]
    parser = build()
    verbs = verbs_of(parser)
    line = _Line(parser)
    for each in before:
        line.take(each, {name: verb for name, (verb, _) in verbs.items()})
    answer = _follows(line, word, {name: what for name, (_, what) in verbs.items()}, units, machines)
    return Answer([(w, help) for w, help in answer.words if w.startswith(word)], answer.paths)


@dataclass(slots=True)
class _Line:
    """The words before the one to be completed: the verb's parser (at first that of all), the option that
    waits for its value, how many arguments there were, and the first."""

    parser: argparse.ArgumentParser
    verb: str = ""
    waiting: str = ""
    arguments: int = 0
    first: str = ""
    where: dict[str, str] = field(default_factory=dict)

    def take(self, word: str, verbs: dict[str, argparse.ArgumentParser]) -> None:
        if self.waiting:
            self._note(self.waiting, word)
            self.waiting = ""
        elif not self.verb and half([word], verbs):
            self.verb = word
        elif word.startswith("-"):
            option, equals, value = word.partition("=")
            if equals:
                self._note(option, value)
            elif _takes_value(self.parser, option):
                self.waiting = option
        elif self.verb and not self.arguments and f"{self.verb} {word}" in verbs:
            self.verb, self.parser = f"{self.verb} {word}", verbs[f"{self.verb} {word}"]
        elif self.verb:
            self.first = self.first or word
            self.arguments += 1
        elif word in verbs:
            self.verb, self.parser = word, _balancer() if word == "balancer" else verbs[word]

    def _note(self, option: str, value: str) -> None:
        if option in WHERE:
            self.where[option[2:]] = value


def _balancer() -> argparse.ArgumentParser:
    """The options of a program of its own."""
    from kirsch.cluster.balancer.command import command_line

    return command_line()


def _follows(line: _Line, word: str, verbs: dict[str, str], units: Names, machines: Names) -> Answer:
    if line.waiting:
        return _value(line, word, units)
    if not line.verb:
        return Answer([*_options(line.parser)] if word.startswith("-") else _names(verbs))
    if line.verb in COMMANDS and line.arguments:
        return Answer(paths="files")
    if word.startswith("-"):
        return Answer([*_options(line.parser)])
    if line.verb == "help":
        return Answer(_names(verbs, line.first) if line.arguments < 2 else ())
    if line.verb == "completion":
        return Answer([(shell, "") for shell in ("bash", "zsh", "fish")] if not line.arguments else ())
    if line.verb.startswith("ws") or line.verb not in verbs:
        return Answer(_names(verbs, line.verb) if not line.arguments else ())
    if line.verb in CLUSTERS:
        return Answer(_clusters() if not line.arguments else ())
    if line.verb in IMAGES and (line.verb == "image rm" or not line.arguments):
        return Answer([(name, "") for name in images_here()])
    if line.verb in SECRETS and (line.verb == "secret rm" or not line.arguments):
        return Answer([(name, "") for name in secrets_of(line.where)])
    names = (line.verb in RUNNABLE or line.verb in KNOWN) and not (line.verb == "move" and line.arguments)
    found = [(n, "") for n in (units(line.where) if names else ()) if line.verb in KNOWN or "@." not in n]
    if (line.verb in MACHINES and not (line.verb == "metadata" and line.arguments)) or (
        line.verb == "move" and line.arguments == 1
    ):
        found += [(name, "") for name in machines(line.where)]
    paths = "files" if line.verb in FILES else "folders" if line.verb in FOLDERS else "none"
    return Answer(found, paths)


def _value(line: _Line, word: str, units: Names) -> Answer:
    match line.waiting:
        case "--endpoint":
            return Answer(paths="files")
        case "--cluster" | "--on":
            return Answer(_clusters())
        case "--link":
            return Answer([(name, "") for name in units(line.where) if "@." not in name])
        case "--fields":
            from kirsch.cli.lists import COLUMNS

            given = word[: word.rfind(",") + 1]
            return Answer([(given + column, "") for column in COLUMNS[line.verb]])
        case option:
            action = next(a for a in line.parser._actions if option in a.option_strings)
            if action.metavar == "IMAGE":
                return Answer([(name, "") for name in images_here()])
            choices = [(str(choice), "") for choice in action.choices or ()]
            return Answer(choices, "files" if action.metavar in ("FILE", "PATH") else "none")


def _clusters() -> list[tuple[str, str]]:
    from kirsch.cluster.provision.record import ClusterRecord

    return [(name, "") for name in ClusterRecord.names()]


def _names(verbs: dict[str, str], first: str = "") -> list[tuple[str, str]]:
    """The verbs' first words; or the second ones of those that begin with `first`."""
    if not first:
        pairs = dict.fromkeys(name.partition(" ")[0] for name in verbs if name.partition(" ")[0] not in verbs)
        return [
            *((name, what) for name, what in verbs.items() if " " not in name),
            *((name, ", ".join(verb for verb, _ in _names(verbs, name))) for name in pairs),
        ]
    return [(n.partition(" ")[2], what) for n, what in verbs.items() if n.startswith(f"{first} ")]


def _options(parser: argparse.ArgumentParser) -> Iterable[tuple[str, str]]:
    for action in parser._actions:
        if action.help is not argparse.SUPPRESS:
            yield from ((option, action.help or "") for option in action.option_strings)


def _takes_value(parser: argparse.ArgumentParser, option: str) -> bool:
    return any(option in action.option_strings and action.nargs != 0 for action in parser._actions)


def units_of(where: Mapping[str, str]) -> list[str]:
    """The names of the units that a kirschd has; none if it does not answer at once."""
    from kirsch.cluster.api.client import UNITS

    return sorted({line["name"] for line in _ask(where, UNITS, "units")})


def machines_of(where: Mapping[str, str]) -> list[str]:
    """The machines' names where they have them, else their ids; none if kirschd does not answer at once."""
    from kirsch.cli.machines import MACHINES

    found = _ask(where, MACHINES, "machines")
    return sorted(machine["metadata"].get("hostname") or machine["id"] for machine in found)


def secrets_of(where: Mapping[str, str]) -> list[str]:
    """The names of the secrets that a kirschd has, or units wait for."""
    from kirsch.cli.secret import SECRETS

    return [secret["name"] for secret in _ask(where, SECRETS, "secrets")]


def images_here() -> list[str]:
    """The names of the images that are here; none if podman cannot say."""
    from kirsch.cluster.image.store import images
    from kirsch.cluster.provision.command import Runner
    from kirsch.cluster.provision.record import ProvisionError

    try:
        return [f"{image.name}:{image.tag}" for image in images(Runner())]
    except ProvisionError:
        return []


def _ask(where: Mapping[str, str], path: str, what: str) -> list[dict[str, Any]]:
    from kirsch.cluster.api.client import Client, ClientError
    from kirsch.cluster.provision.endpoint import Where, locate

    try:
        said = Where.said(where.get("endpoint"), where.get("cluster"), where.get("tunnel"))
        found: list[dict[str, Any]] = Client(locate(said), timeout=TIMEOUT).get(path)[what]
    except ClientError:
        return []
    return found
