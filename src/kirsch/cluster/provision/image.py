"""The image that machines start from: made once, found again by the digest of its recipe."""

import fcntl
import json
import os
import platform
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from kirsch.cluster.provision import recipe
from kirsch.cluster.provision.archive import archive
from kirsch.cluster.provision.command import Command, CommandError, MissingProgram, Runner
from kirsch.cluster.provision.install import LIBRARIES, OWN
from kirsch.cluster.provision.podman import SLOW, copy_in, execute, limits, podman, remove_machines, ulimits
from kirsch.cluster.provision.record import ProvisionError, cache_folder
from kirsch.cluster.provision.wheels import Target, digests, shipped

SOURCES = Path("/etc/apt")
# A registry that does not answer within this is taken for none.
REACHABLE = 8.0
LONG = 600.0
# Seconds for which an image of an earlier kirsch is kept after it was made.
OLD = 86400.0
# What ends systemd, as podman writes it: only an image of a machine names that.
STOPS = ("SIGRTMIN+3", "37")
# What nobody reads on a machine.
EXCLUDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")


def target() -> Target:
    """Return the target of wheels for machines as containers: Debian's Python on this computer's
    processor."""
    return Target(recipe.PYTHON, platform.machine(), (2, 41))


class Images:
    """Makes images with podman. Every method raises ProvisionError."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner

    def base(self) -> str:
        """The image with all packages; made from one that is pulled, or else from a Debian mirror."""
        digest = recipe.base_digest(platform.machine())
        image = f"{recipe.REPOSITORY}-base:{digest}"
        with alone("base"):
            if self.exists(image):
                pass
            elif self.pullable(recipe.REFERENCE):
                self._extend(recipe.REFERENCE, image, digest)
            else:
                self._bootstrap(image, digest)
        return image

    def node(self, wheels: Sequence[Path], given: str = "") -> str:
        """The packages, settings, and the libraries that kirsch needs. A `given` image has the first two."""
        made_of = digests(wheels).splitlines()
        digest = recipe.node_digest(platform.machine(), made_of, self._id(given) if given else "")
        image = f"{recipe.REPOSITORY}-libraries:{digest}"
        with alone("node"):
            if not self.exists(image):
                files = shipped(wheels)
                if given:
                    self._commit(given, image, digest, archive(files), LIBRARIES, "none")
                else:
                    files, script = [*recipe.FILES, *files], f"{recipe.PREPARE}; {LIBRARIES}"
                    self._commit(self.base(), image, digest, archive(files), script, "none")
        return image

    def machine(self, wheels: Sequence[Path], own: Sequence[Path], given: str = "") -> str:
        """Return the image that machines start from: the base image with kirsch on it.

        A change of kirsch makes only this layer anew; layers of earlier states are removed once nobody may be
        about to start from them. A `given` image takes the base image's place.
        """
        made_of, id = digests(wheels).splitlines(), self._id(given) if given else ""
        digest = recipe.machine_digest(platform.machine(), made_of, [wheel.parent.name for wheel in own], id)
        image = f"{recipe.REPOSITORY}:{digest}"
        with alone("machine"):
            if not self.exists(image):
                node = self.node(wheels, given)
                self._commit(node, image, digest, archive(shipped(own)), OWN, "none")
                self._forget_old()
        return image

    def exists(self, image: str) -> bool:
        """Return True if podman has the image."""
        try:
            self.runner.run(podman("image", "exists", image))
        except CommandError as error:
            if error.status == 1:
                return False
            raise
        return True

    def pullable(self, reference: str) -> bool:
        """Return True if podman has the image, or could pull it."""
        if self.exists(reference):
            return True
        try:
            self.runner.run(podman("manifest", "inspect", inspectable(reference), timeout=REACHABLE))
            self.runner.run(podman("pull", "--quiet", reference, timeout=LONG))
        except CommandError:
            return False
        return True

    def _id(self, image: str) -> str:
        """An image's id. Raises ProvisionError where there is none, or none that machines can begin with."""
        if not self.exists(image):
            raise ProvisionError(
                f"there is no image {image} here: `kirsch image build images/node -t NAME` makes one"
            )
        said = json.loads(self.runner.run(podman("image", "inspect", image)))[0]
        if said["Config"].get("StopSignal") not in STOPS or said["Config"].get("User"):
            raise ProvisionError(f"{image} is no machine's: it is to begin with images/node")
        return str(said["Id"])

    def _forget_old(self) -> None:
        listing = podman("images", "--format", "json", "--filter", f"reference={recipe.REPOSITORY}")
        # podman 4 stumbles over an image that somebody else removes meanwhile.
        images = self.runner.run(replace(listing, again="image not known"))
        for image in json.loads(images or "[]"):
            if image["Created"] < time.time() - OLD:
                try:
                    self.runner.run(podman("rmi", image["Id"]))
                except CommandError:
                    pass  # a machine runs from it

    def _extend(self, reference: str, image: str, digest: str) -> None:
        packages = " ".join(recipe.PACKAGES)
        script = (
            "set -e; export DEBIAN_FRONTEND=noninteractive; apt-get update --quiet; "
            f"apt-get install --yes --quiet --no-install-recommends {packages}; apt-get clean"
        )
        # The host's network, so that a mirror that it reaches is reached here too.
        self._commit(reference, image, digest, b"", script, "host")

    def _bootstrap(self, image: str, digest: str) -> None:
        lines = recipe.mirror_lines(sources(), recipe.SUITE)
        # Not in /tmp, which may be memory.
        with tempfile.TemporaryDirectory(dir="/var/tmp") as temporary:
            tar = os.path.join(temporary, "base.tar")
            try:
                self.runner.run(replace(bootstrap(tar, lines), environment={"TMPDIR": temporary}))
            except MissingProgram:
                raise ProvisionError(
                    f"no image registry has {recipe.REFERENCE} for us, and without one mmdebstrap makes "
                    "machines: apt-get install mmdebstrap"
                ) from None
            self.runner.run(
                podman("import", "--quiet", "--change", f"LABEL {recipe.LABEL}={digest}", tar, image)
            )

    def _commit(self, base: str, image: str, digest: str, files: bytes, script: str, network: str) -> None:
        """Make an image of another one: files are put in, a script is run."""
        container = f"kirsch-image-{uuid.uuid4().hex[:8]}"
        try:
            self.runner.run(
                podman(
                    "run", "--detach", "--name", container, "--network", network, *ulimits(limits()),
                    base, "sleep", "infinity",
                )
            )  # fmt: skip
            if files:
                self.runner.run(copy_in(container, files))
            self.runner.run(execute(container, "sh", "-c", script, timeout=LONG))
            self.runner.run(
                podman(
                    "commit", "--quiet", "--change", f"LABEL {recipe.LABEL}={digest}", container, image,
                    timeout=SLOW,
                )
            )  # fmt: skip
        finally:
            # A runner that was interrupted runs nothing more, and this is to go all the same.
            Runner().run(remove_machines([container]))


def inspectable(reference: str) -> str:
    """Return the name that podman-manifest-inspect(1) takes: by tag or by digest, not by both. Pure."""
    name, at, digest = reference.partition("@")
    before, _, tag = name.rpartition(":")
    tagged = at and before and "/" not in tag
    return f"{before if tagged else name}{at}{digest}"


@contextmanager
def alone(image: str) -> Iterator[None]:
    """Let one process make an image while others wait for it."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{image}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def bootstrap(
    tar: str, sources: str, suite: str = recipe.SUITE, packages: Sequence[str] = recipe.PACKAGES
) -> Command:
    """Return mmdebstrap's command; the sources go by a pipe, for their URIs may hold passwords."""
    return Command(
        (
            "mmdebstrap", "--quiet", "--variant=minbase",
            *([f"--include={','.join(packages)}"] if packages else []),
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED),
            "--customize-hook=rm -f \"$1\"/etc/apt/sources.list \"$1\"/etc/apt/sources.list.d/*",
            suite, tar, *(["-"] if sources else []),
        ),
        sources.encode(),
        LONG,
    )  # fmt: skip


def sources() -> dict[str, str]:
    """The host's own apt sources, by their files' names."""
    files = [SOURCES / "sources.list", *sorted((SOURCES / "sources.list.d").glob("*"))]
    return {
        path.name: path.read_text(errors="replace")
        for path in files
        if path.is_file() and path.suffix in (".list", ".sources")
    }
