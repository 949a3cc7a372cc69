"""Quadlet files read as an application: they stay as they are, with what a line more gives them. Pure."""

import json
from collections.abc import Iterator, Mapping

from kirsch.cluster.application.folder import is_unit
from kirsch.cluster.convert import Converted
from kirsch.unit import UnitFile, UnitName

__all__ = ["is_unit", "read"]


def read(texts: Mapping[str, str]) -> Converted:
    """Return the application of some Quadlet and unit files, by name. Raises UnitError."""
    files = {name: UnitFile.parse(text, name) for name, text in texts.items()}
    names = [UnitName.parse(name) for name in texts]
    start = [name.text for name in names if not name.is_template and name.type in ("container", "service")]
    made = {"kirsch.toml": f"start = {json.dumps(start)}\n"}
    made |= {f"units/{name}": text for name, text in texts.items()}
    remarks = [f"{name}: {remark}" for name, file in files.items() for remark in _gains(file)]
    remarks += [
        f"{name} is a template: add an instance to start, {name.with_instance('1')}"
        for name in names
        if name.is_template
    ]
    return Converted(made, tuple(remarks))


def _gains(file: UnitFile) -> Iterator[str]:
    """Sentences about what one line of [X-Kirsch] gives a container."""
    if not file.has("Container"):
        return
    options = {entry.name for entry in file.entries("X-Kirsch")}
    published = [entry.value.rpartition(":")[2] for entry in file.values("Container", "PublishPort")]
    if published and "Expose" not in options:
        yield f"Expose={published[0]} lets other units find it by Link="
    if not file.values("Container", "HealthCmd") and "Health" not in options:
        port = published[0].partition("/")[0] if published else "PORT"
        yield f"Health=tcp://:{port} has others wait until it answers"
    named = [e.value for e in file.values("Container", "Volume") if not e.value.startswith(("/", "."))]
    if named and "Sticky" not in options:
        yield "Sticky=yes keeps it on the machine that has its volume"
    for entry in file.values("Container", "Network"):
        if entry.value.endswith(".network"):
            yield f"Network={entry.value} keeps it out of the cluster's network: leave it out for links"
