"""verify: unit files checked without a kirschd, or by a cluster's."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from kirsch.cli.completion import clusters, files
from kirsch.cli.errors import Failure
from kirsch.cli.names import machine_names, named, recorded_names
from kirsch.cli.values import JSON
from kirsch.cli.verb import Options, argument, option, verb
from kirsch.cluster.node.verify import verify as checked
from kirsch.cluster.runtime.host import Host
from kirsch.cluster.runtime.process.runtime import check
from kirsch.unit import UnitError, to_text


@verb(
    "verify",
    argument("files", "FILE", many=True, complete=files),
    option("--on", metavar="CLUSTER", help="check them against the machines of a cluster", complete=clusters),
    JSON,
    text="No kirschd is needed. Directives that a plain process cannot have are warnings. The exit "
    "status is 1 if a file would be refused.\n\n"
    "With --on the files are checked together, against a cluster as it is now. A unit that no machine can "
    "have is refused; secrets, linked units and images that are missing are warnings.",
    example="kirsch verify units/*",
)
def verify(options: Options) -> int:
    """Check each file, and say what is wrong with each that is bad."""
    texts, found = dict[str, str](), list[dict[str, Any]]()
    for file in options.files:
        if file.rstrip("/").endswith(".d") and Path(file).is_dir():
            continue  # drop-ins: units/* names their folders too
        entry: dict[str, Any] = {"file": file, "ok": False, "error": "", "warnings": []}
        found.append(entry)
        try:
            texts[file] = to_text(Path(file).read_bytes())
        except OSError as error:
            entry["error"] = f"{file}: {error.strerror}"
    there = options.on or options.cluster or options.endpoint or options.tunnel
    verdicts = _there(texts, options) if there else _here(texts)
    for entry in found:
        if verdict := verdicts.get(entry["file"]):
            entry |= {"ok": not verdict["error"]} | verdict
    if options.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    for entry in () if options.json else found:
        _tell(entry["file"], entry["error"], entry["warnings"])
    return 0 if all(each["ok"] for each in found) else 1


def _here(texts: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Check each file alone, and return the verdicts by file."""
    host = Host.create(Path(".kirsch"), Path(), ())
    verdicts: dict[str, dict[str, Any]] = {}
    for file, text in texts.items():
        try:
            warnings = checked(Path(file).name, text, file, partial(check, host))
            verdicts[file] = {"error": "", "warnings": warnings}
        except UnitError as error:
            verdicts[file] = {"error": _of(file, str(error)), "warnings": []}
    return verdicts


def _there(texts: Mapping[str, str], options: Options) -> dict[str, dict[str, Any]]:
    """Have a cluster check the files together. Raises ClientError, Failure."""
    options.cluster = options.on or options.cluster
    client, files = options.client(), {Path(file).name: file for file in texts}
    if len(files) < len(texts):
        raise Failure("two files have one name: they would be one unit")
    units = {name: texts[file] for name, file in files.items()}
    found = client.post("/kirsch/v1/trial", {"units": units})["units"]
    names = machine_names(client, recorded_names(options)) if any(each["error"] for each in found) else {}
    verdicts: dict[str, dict[str, Any]] = {}
    for each in found:
        file, error = files[each["name"]], named(each["error"], names)
        warnings = [_of(file, words) for words in each["warnings"]]
        verdicts[file] = {"error": error and _of(file, error), "warnings": warnings}
    good = {file: texts[file] for file, verdict in verdicts.items() if not verdict["error"]}
    if cluster := options.where().cluster:
        for file, words in _missing_images(good, cluster):
            verdicts[file]["warnings"].append(_of(file, words))
    return verdicts


def _missing_images(texts: Mapping[str, str], cluster: str) -> Iterator[tuple[str, str]]:
    """Files with what is to be said of images that they name and the cluster's own registry does not have."""
    from kirsch.cluster.application.pin import named as images_of
    from kirsch.cluster.image.reference import ImageError
    from kirsch.cluster.image.registry import of_cluster
    from kirsch.cluster.image.registry_client import RegistryClient
    from kirsch.cluster.provision.record import ClusterRecord

    registry = of_cluster(ClusterRecord.load(cluster))
    with RegistryClient(registry) as client:
        for file, text in texts.items():
            for image in images_of(text):
                try:
                    there = client.has(image.at(registry.address))
                    words = f"nobody has sent {image}: kirsch up --on {cluster} builds and sends it, "
                    words += f"or kirsch image push {image.path} --on {cluster}"
                except ImageError as error:
                    there, words = False, f"{image}: {error}"
                if not there:
                    yield file, words


def _of(file: str, words: str) -> str:
    """A message that names the file it is about, and not only the unit."""
    name = Path(file).name
    if words.startswith(f"{name}:"):
        return file + words.removeprefix(name)
    return words if words.startswith(file) else f"{file}: {words}"


def _tell(file: str, problem: str, warnings: Sequence[str]) -> None:
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if problem:
        print(f"kirsch: {problem}", file=sys.stderr)
    else:
        print(f"{file}: ok")
