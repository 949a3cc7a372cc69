"""Names that docs/promises.md keeps for 1.x: promises.json has them, so that none goes silently."""

import json
import os
from pathlib import Path

from scripts.documentation import PACKAGES, public

from kirsch.cli.verb import Noun
from kirsch.cli.verbs import load, summaries
from kirsch.cluster.api.openapi import OPERATIONS
from kirsch.cluster.runtime.directives import SERVICE, UNIT

LIST = Path(__file__).with_name("promises.json")


def promised() -> dict[str, list[str]]:
    """Collect the names that people's files, scripts and programs use."""
    verbs = []
    for name in summaries():
        noun = load(name)
        verbs += [f"{name} {second}" for second in noun.commands] if isinstance(noun, Noun) else [name]
    return {
        "verbs": sorted(verbs),
        "operations": sorted(operation.id for operation in OPERATIONS),
        "directives": sorted({*SERVICE, *UNIT}),
        **{f"kirsch.{name}": public(f"kirsch.{name}") for name in PACKAGES},
    }


def test_nothing_that_is_promised_is_gone():
    """Before a release `KIRSCH_WRITE=1` takes what is new into the list; names are taken out by hand."""
    kept, there = json.loads(LIST.read_text()), promised()
    gone = {kind: sorted({*names} - {*there.get(kind, ())}) for kind, names in kept.items()}
    assert not {kind: names for kind, names in gone.items() if names}
    if os.environ.get("KIRSCH_WRITE"):
        LIST.write_text(json.dumps(there, indent=1) + "\n")
