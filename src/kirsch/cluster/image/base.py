"""Base images: kirsch's own, as kirsch/web, and those of Containerfiles with `ARG BASE=`.

The latter are an official image where a registry has it, else a Debian made from this computer's mirror.
"""

import hashlib
import json
import os
import platform
import tempfile
from dataclasses import replace
from pathlib import Path

import kirsch.cluster
from kirsch.cluster.image.containerfile import BASE, Containerfile
from kirsch.cluster.image.reference import ImageError
from kirsch.cluster.provision import recipe
from kirsch.cluster.provision.command import MissingProgram, Runner
from kirsch.cluster.provision.image import EXCLUDED, Images, alone, bootstrap, sources
from kirsch.cluster.provision.podman import podman
from kirsch.cluster.provision.wheels import source_tree

REPOSITORY = "localhost/kirsch/debian"


def base_name(packages: tuple[str, ...], architecture: str) -> str:
    """The name of the Debian with these packages."""
    made_of = json.dumps([recipe.SUITE, architecture, sorted(packages), EXCLUDED])
    return f"{REPOSITORY}:{hashlib.sha256(made_of.encode()).hexdigest()[:16]}"


class Bases:
    """Finds bases, or makes them. Every method raises ProvisionError."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.images = Images(runner)

    def made(self, file: Containerfile) -> str:
        """The Debian that was made for a Containerfile; empty if it was not yet."""
        name = base_name(file.packages, platform.machine())
        return name if self.images.exists(name) else ""

    def obtain(self, file: Containerfile) -> str:
        """The base for a Containerfile: pulled, or else made."""
        reference = file.arguments[BASE]
        with alone("image-base"):
            if made := self.made(file):
                return made
            if reference and self.images.pullable(reference):
                return reference
            return self._bootstrap(file, reference)

    def _bootstrap(self, file: Containerfile, reference: str) -> str:
        name = base_name(file.packages, platform.machine())
        lines = recipe.mirror_lines(sources(), recipe.SUITE)
        # Not in /tmp, which may be memory.
        with tempfile.TemporaryDirectory(dir="/var/tmp") as temporary:
            tar = os.path.join(temporary, "base.tar")
            command = bootstrap(tar, lines, recipe.SUITE, file.packages)
            try:
                # mmdebstrap(1): times and order as if it had been made then.
                self.runner.run(replace(command, environment={"SOURCE_DATE_EPOCH": "0"}))
            except MissingProgram:
                raise ImageError(
                    f"no image registry has {reference} for us, and without one mmdebstrap makes "
                    "the base: apt-get install mmdebstrap"
                ) from None
            self.runner.run(podman("import", "--quiet", tar, name))
        return name


OWN_PREFIX = "kirsch/"
OWN_NAMES = ("web", "postgres", "postgres-ha", "haproxy", "rabbitmq")


def own_folder(path: str) -> Path | None:
    """The folder of kirsch/web and its like, by the image's path: in a checkout images/, else among what was
    installed; None for any other image."""
    name = path.removeprefix(OWN_PREFIX)
    if not path.startswith(OWN_PREFIX) or name not in OWN_NAMES:
        return None
    tree = source_tree()
    places = [tree / "images"] if tree else []
    places.append(Path(kirsch.cluster.__file__).parents[1] / "images")
    return next((place / name for place in places if (place / name / "Containerfile").is_file()), None)
