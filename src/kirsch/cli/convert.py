"""export and import: applications for other systems, and from them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kirsch.cli.completion import files
from kirsch.cli.errors import Failure, Misuse
from kirsch.cli.verb import REPORT, Noun, Options, argument, flag, option
from kirsch.cluster.api.client import UNITS, unit_path
from kirsch.cluster.application import Application, load
from kirsch.cluster.application.initial import COMPOSE
from kirsch.cluster.convert import Converted
from kirsch.unit import UnitName

DIRECTORY = argument("directory", "DIR", "the application's folder; this one", optional=True, default=".")
OUTPUT = option("-o", "--output", metavar="FOLDER", help="write files there; without it, print them")

export = Noun("export")
import_ = Noun("import")


@export.verb(
    "kubernetes",
    "write an application as Kubernetes objects",
    DIRECTORY,
    option("--namespace", metavar="NAME", help="the namespace of every object", default=""),
    option(
        "--registry", metavar="HOST/PATH", help="takes the place of localhost in names of images", default=""
    ),
    option("--tag", metavar="TAG", help="the tag of the application's own images (latest)", default="latest"),
    flag("--with-secrets", help="write the values too that `kirsch up` has for secrets here"),
    flag("--kustomize", help="write kustomization.yaml too, for kubectl apply -k"),
    flag("--haproxy", help="run a balancer's HAProxy; without it an Ingress takes its place"),
    OUTPUT,
    REPORT,
    text="Everything that kirsch.toml starts is written as YAML, a file for each service. What Kubernetes "
    "has no counterpart for is a comment in the file and a line on standard error. Secrets are named, their "
    "values are not written unless that is asked for.",
    example="kirsch export kubernetes examples/notes -o deploy",
)
def kubernetes(options: Options) -> int:
    """Write the objects, and say what could not be carried over."""
    from kirsch.cluster.convert.kubernetes import export as exported
    from kirsch.cluster.convert.kubernetes import kustomization

    if options.kustomize and options.output is None:
        raise Misuse("--kustomize goes with -o FOLDER: a kustomization names files")
    application = load(Path(options.directory), cluster=True)
    made = exported(
        application,
        namespace=options.namespace,
        registry=options.registry,
        tag=options.tag,
        secrets=_values(application) if options.with_secrets else None,
        balancers=_configurations(application) if options.haproxy else None,
    )
    files = dict(made.files)
    if options.kustomize:
        files["kustomization.yaml"] = kustomization(made, options.tag)
    _give(options, files, made.remarks, options.output, private=options.with_secrets)
    return 0


@export.verb(
    "systemd",
    "write an application as Quadlet files",
    DIRECTORY,
    OUTPUT,
    REPORT,
    text="For one machine without kirsch: links are variables and names of podman's network, secrets are "
    "podman's, a balancer finds its servers by DNS. What only kirsch does is told on standard error.",
    example="kirsch export systemd examples/notes -o /etc/containers/systemd",
)
def systemd(options: Options) -> int:
    """Write the files, and say what could not be carried over."""
    from kirsch.cluster.convert.systemd import export as exported

    return _exported(options, exported)


@export.verb(
    "compose",
    "write an application as a compose file",
    DIRECTORY,
    OUTPUT,
    REPORT,
    text="compose.yaml has a service for each that kirsch.toml starts, as many replicas as instances, and "
    "variables in place of links. What only kirsch does is a comment, and told on standard error.",
    example="kirsch export compose examples/notes -o deploy",
)
def compose_file(options: Options) -> int:
    """Write the file, and say what could not be carried over."""
    from kirsch.cluster.convert.compose_export import export as exported

    return _exported(options, exported)


@export.verb(
    "units",
    "write the unit files of what runs",
    OUTPUT,
    REPORT,
    text="The units that kirschd knows are written as an application: their files, and a kirsch.toml that "
    "starts those that are to run.",
    example="kirsch export units --cluster demo -o saved",
)
def units(options: Options) -> int:
    """Write the files of a running application or cluster."""
    client = options.client()
    texts = {line["name"]: client.get(unit_path(line["name"]))["text"] for line in client.get(UNITS)["units"]}
    start = [line["name"] for line in client.get(UNITS)["units"] if line["desired"] == "launched"]
    made = {"kirsch.toml": f"start = {json.dumps(start, indent=4)}\n"}
    for name, text in texts.items():
        unit = UnitName.parse(name)
        template = f"{unit.service}@.{unit.type}" if unit.instance else ""
        if texts.get(template) != text:
            made[f"units/{name}"] = text
    _give(options, made, (), options.output)
    return 0


@import_.verb(
    "compose",
    "make an application of a compose file",
    argument("file", "FILE", "the compose file; the folder's own", optional=True),
    option("--profile", metavar="NAME", help="take services of this profile too", repeat=True),
    option("-o", "--output", metavar="FOLDER", help="write there; beside the compose file without it"),
    flag("--force", help="write over files that are there"),
    REPORT,
    text="kirsch.toml and a .container for each service are written. Variables have their values from the "
    "environment and .env. What is not carried over is told with its line. Containers run here, by "
    "podman, or on a cluster: kirsch up --on CLUSTER. With kirsch[compose] the file is held to the compose "
    "specification's schema first.",
    example="kirsch import compose",
)
def compose(options: Options) -> int:
    """Write the application, and say what was not carried over."""
    file = Path(options.file) if options.file else _compose_file()
    made = of_compose(file, options.profile)
    folder = Path(options.output or file.parent)
    _check_free(made.files, folder, force=options.force)
    _give(options, made.files, made.remarks, str(folder))
    print(f"Check it with `kirsch verify {folder / 'units'}/*`, then: kirsch up {folder}")
    return 0


def of_compose(file: Path, profiles: Sequence[str] = ()) -> Converted:
    """Return the application that a compose file makes. Raises Failure."""
    from kirsch.cluster.convert.compose import read
    from kirsch.cluster.convert.compose_file import ComposeError, env_files, variables

    text = _text(file)
    there = _text(file.parent / ".env") if (file.parent / ".env").is_file() else ""
    try:
        named = {name: file.parent / name for name in env_files(text, str(file))}
        return read(
            text,
            file=str(file),
            folder=file.resolve().parent.name,
            environment=variables(there) | dict(os.environ),
            env_files={name: _text(path) for name, path in named.items() if path.is_file()},
            profiles=profiles,
            validate=_faults if find_spec("check_jsonschema") else None,
        )
    except ComposeError as error:
        raise Failure(str(error)) from None


def _faults(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what the compose specification's schema finds wrong: paths, and words. Raises Failure."""
    command = [sys.executable, "-P", "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*command, "--output-format", "json", "-"],
        input=json.dumps(document, default=str), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    try:
        errors = json.loads(done.stdout)["errors"]
        return [(each["path"], " ".join(each["message"].split())) for each in errors]
    except (ValueError, LookupError):
        said = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
        raise Failure(f"check-jsonschema: {said[-1]}") from None


@import_.verb(
    "fleet",
    "make an application of fleet's unit files",
    argument("files", "FILE", "unit files of fleet", many=True, complete=files),
    option("-o", "--output", metavar="FOLDER", help="write there (this folder)", default="."),
    flag("--force", help="write over files that are there"),
    REPORT,
    text="Units that run a container by docker become .container files, with links, ports and volumes as the "
    "line said; others stay as they are. [X-Fleet] means what it always did.",
    example="kirsch import fleet ~/units/*.service -o notes",
)
def fleet(options: Options) -> int:
    """Write the application, and say what was not carried over."""
    from kirsch.cluster.convert import fleet as converter

    made = converter.read({Path(file).name: _text(Path(file)) for file in options.files})
    _check_free(made.files, Path(options.output), force=options.force)
    _give(options, made.files, made.remarks, options.output)
    print(f"Check it with `kirsch verify {Path(options.output) / 'units'}/*`")
    return 0


@import_.verb(
    "procfile",
    "make an application of a Procfile",
    argument("file", "FILE", "the Procfile", optional=True, default="Procfile"),
    flag("--force", help="write over files that are there"),
    REPORT,
    text="`kirsch up` runs a folder with a Procfile as it is. This writes the unit files, to be changed: "
    "health, links, more instances.",
    example="kirsch import procfile",
)
def procfile(options: Options) -> int:
    """Write a unit file for each line."""
    from kirsch.cluster.application.procfile import units as processes

    file = Path(options.file)
    folder = file.parent
    try:
        texts = processes(_text(file), file.parent)
    except ValueError as error:
        raise Failure(f"{file}:{error}") from None
    if not texts:
        raise Failure(f"{file} has no process: a line is NAME: COMMAND")
    start = [name.removesuffix(".service") for name in texts]
    made = {"kirsch.toml": f"start = {json.dumps(start)}\n"}
    made |= {f"units/{name}": text for name, text in texts.items()}
    _check_free(made, folder, force=options.force)
    _give(options, made, (), str(folder))
    print(f"Next: kirsch up {folder}")
    return 0


@import_.verb(
    "quadlet",
    "make an application of Quadlet files",
    argument("files", "FILE", "Quadlet and unit files, or folders of them", many=True, complete=files),
    option("-o", "--output", metavar="FOLDER", help="write there (this folder)", default="."),
    flag("--force", help="write over files that are there"),
    REPORT,
    text="The files stay as they are: kirsch reads what Quadlet reads. What they gain by a line of "
    "[X-Kirsch] is told.",
    example="kirsch import quadlet ~/.config/containers/systemd -o notes",
)
def quadlet(options: Options) -> int:
    """Copy the files, and say what they gain."""
    from kirsch.cluster.convert import quadlet as converter

    named = [Path(file) for file in options.files]
    paths = [path for file in named for path in (sorted(file.iterdir()) if file.is_dir() else [file])]
    texts = {path.name: _text(path) for path in paths if converter.is_unit(path.name)}
    made = converter.read(texts)
    if not texts:
        raise Failure(f"there is no unit file in {', '.join(map(str, named))}")
    _check_free(made.files, Path(options.output), force=options.force)
    _give(options, made.files, made.remarks, options.output)
    print(f"Check it with `kirsch verify {Path(options.output) / 'units'}/*`")
    return 0


def _exported(options: Options, export: Callable[[Application, Mapping[str, str]], Converted]) -> int:
    """Write an application for another system, its balancers' configurations with it."""
    application = load(Path(options.directory), cluster=True)
    made = export(application, _configurations(application))
    _give(options, made.files, made.remarks, options.output)
    return 0


def _values(application: Application) -> dict[str, bytes]:
    """The secrets that `kirsch up` made or was given in an application's folder, by name. Raises Failure."""
    from kirsch.cluster.secrets import FileSecrets

    folder = application.state / "secrets"
    if not folder.is_dir():
        raise Failure(f"{folder} is not there: `kirsch up {application.directory}` makes secrets up")
    try:
        return FileSecrets(folder).values()
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}") from None


def _configurations(application: Application) -> dict[str, str]:
    """The haproxy.cfg of each balancer of an application, by its path in the application's folder."""
    from kirsch.cluster.convert.service import services_of

    paths = {service.balancer_file for service in services_of(application)} - {""}
    return {path: _text(application.directory / path) for path in sorted(paths)}


def _check_free(made: Mapping[str, str], folder: Path, *, force: bool) -> None:
    """Refuse to write over files unless that is meant. Raises Failure."""
    found = [name for name in made if (folder / name).exists()]
    if found and not force:
        raise Failure(f"{folder / found[0]} is there already: --force writes over it, -o FOLDER elsewhere")


def _compose_file() -> Path:
    found = next((Path(name) for name in COMPOSE if Path(name).is_file()), None)
    if found is None:
        raise Failure(f"there is no {COMPOSE[0]} here: name the compose file")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise Failure(f"{path}: is not UTF-8") from None
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None


def _give(
    options: Options,
    made: Mapping[str, str],
    remarks: Sequence[str],
    output: str | None,
    *,
    private: bool = False,
) -> None:
    """Write files into a folder, or print them; say what was not carried over. `private` ones are for their
    owner alone."""
    from kirsch.cluster.secrets.files import write_file

    options.report(files=dict(made), folder=output, remarks=list(remarks))
    if output is None:
        print("---\n".join(made.values()), end="")
    else:
        folder = Path(output)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in made.items():
                (folder / name).parent.mkdir(exist_ok=True)
                if private:
                    write_file(folder / name, text.encode())
                else:
                    (folder / name).write_text(text)
        except OSError as error:
            raise Failure(f"{error.filename or folder}: {error.strerror}") from None
        print(f"wrote {', '.join(made)} into {folder}")
    for remark in remarks:
        print(f"note: {remark}", file=sys.stderr)
