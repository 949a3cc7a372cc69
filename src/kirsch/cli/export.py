"""export: an application's unit files for other systems."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from kirsch.cli.errors import Failure
from kirsch.cli.verb import Noun, Options, argument, option
from kirsch.cluster.application import load

DIRECTORY = argument("directory", "DIR", "the application's folder; this one", optional=True, default=".")
OUTPUT = option("-o", "--output", metavar="FOLDER", help="write files there; without it, print them")

export = Noun("export")


@export.verb(
    "kubernetes",
    "write an application as Kubernetes objects",
    DIRECTORY,
    option("--namespace", metavar="NAME", help="the namespace of every object", default=""),
    option(
        "--registry", metavar="HOST/PATH", help="takes the place of localhost in names of images", default=""
    ),
    option("--tag", metavar="TAG", help="the tag of the application's own images (latest)", default="latest"),
    OUTPUT,
    text="Everything that kirsch.toml starts is written as YAML, a file for each service. What Kubernetes "
    "has no counterpart for is a comment in the file and a line on standard error. Secrets are named, their "
    "values are not written.",
    example="kirsch export kubernetes examples/notes -o deploy",
)
def kubernetes(options: Options) -> int:
    """Write the objects, and say what could not be carried over."""
    from kirsch.cluster.export.kubernetes import export as exported

    application = load(Path(options.directory), cluster=True)
    made = exported(application, namespace=options.namespace, registry=options.registry, tag=options.tag)
    _give(made.files, made.remarks, options.output)
    return 0


def _give(files: Mapping[str, str], remarks: Sequence[str], output: str | None) -> None:
    """Write files into a folder, or print them; say what was not carried over."""
    if output is None:
        print("---\n".join(files.values()), end="")
    else:
        folder = Path(output)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (folder / name).write_text(text)
        except OSError as error:
            raise Failure(f"{error.filename or folder}: {error.strerror}") from None
        print(f"wrote {', '.join(files)} into {folder}")
    for remark in remarks:
        print(f"note: {remark}", file=sys.stderr)
