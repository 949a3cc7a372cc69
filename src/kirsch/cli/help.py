"""help and version: the pages, and the version of the distribution."""

import importlib
import json
from importlib import metadata

import click
from click.shell_completion import CompletionItem

from kirsch.cli.errors import Failure
from kirsch.cli.values import JSON
from kirsch.cli.verb import Noun, Options, argument, carry_out, unknown, verb
from kirsch.cli.verbs import load, overview, summaries

# Modules with a name `compiled`, of the distributions that have code to compile.
COMPILED = {"kirsch-hbase": "kirsch.hbase.compiled", "kirsch-websocket": "kirsch.websocket.core.speedups"}


def _verbs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Suggest a verb, or the second word of one."""
    before = ctx.params.get("verb") or ()
    known = summaries()
    if before:
        noun = load(before[0]) if len(before) == 1 else None
        known = {n: v.short_help or "" for n, v in noun.commands.items()} if isinstance(noun, Noun) else {}
    return [CompletionItem(name, help=what) for name, what in known.items() if name.startswith(incomplete)]


@verb("help", argument("verb", "VERB", many=True, optional=True, complete=_verbs), example="kirsch help run")
def help_(options: Options) -> int:
    """Print the list of verbs, or the page of one."""
    if not options.verb:
        print(overview(), end="")
        return 0
    if options.verb[0] not in summaries():
        raise Failure(f"{unknown(' '.join(options.verb), summaries())} (see kirsch --help)")
    return carry_out([*options.verb, "--help"])


@verb(
    "version",
    JSON,
    text="The other distributions follow, with `compiled` or `not compiled` where code can be.",
    example="kirsch version",
)
def version(options: Options) -> int:
    """Print the versions of kirsch's distributions, and whether compiled code runs."""
    names = sorted({each for each in map(_ours, metadata.distributions()) if each})
    versions = {name: metadata.version(name) for name in names}
    compiled = {
        name: bool(importlib.import_module(module).compiled)
        for name, module in COMPILED.items()
        if name in versions
    }
    if options.json:
        print(json.dumps({"versions": versions, "compiled": compiled}, indent=2))
        return 0
    words = {True: " (compiled)", False: " (not compiled)", None: ""}
    for name, number in versions.items():
        print(f"{name} {number}{words[compiled.get(name)]}")
    return 0


def _ours(distribution: metadata.Distribution) -> str:
    """Return the name of a distribution of kirsch; empty for another's."""
    name = str(distribution.metadata["Name"] or "")
    return name if name == "kirsch" or name.startswith("kirsch-") else ""
