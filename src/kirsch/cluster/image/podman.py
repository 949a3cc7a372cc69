"""podman's commands for images, as values. Pure; see podman-build(1) and its neighbours, 4.3 and later."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kirsch.cluster.provision.command import Command
from kirsch.cluster.provision.podman import podman

# A build may have to compile, a registry may be far.
LONG = 3600.0
WHEELS = "/wheels"


def build(
    context: Path,
    file: Path,
    tags: Sequence[str],
    arguments: Mapping[str, str],
    *,
    id_file: Path,
    ignore: Path,
    wheels: Path | None = None,
    cache: bool = True,
) -> Command:
    """Build an image; its id comes into `id_file`. `ignore` has the patterns of what stays out.

    docker's format, for OCI's knows no HEALTHCHECK. All times are 1970, so that two builds give the same
    layers. The host's network, so that what it reaches is reached by the steps."""
    return podman(
        "build", "--format", "docker", "--timestamp", "0", "--network", "host", "--force-rm",
        "--layers" if cache else "--no-cache", "--pull=never",
        *(["--volume", f"{wheels}:{WHEELS}:ro"] if wheels else []),
        *(word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")),
        *(word for tag in tags for word in ("--tag", tag)),
        "--ignorefile", str(ignore), "--iidfile", str(id_file), "--file", str(file), str(context),
        timeout=LONG,
    )  # fmt: skip


def inspect(image: str) -> Command:
    """An image's configuration, as JSON."""
    return podman("image", "inspect", image)


def tag(image: str, *names: str) -> Command:
    """Give an image more names."""
    return podman("tag", image, *names)


def images() -> Command:
    """All images that have a name, as JSON."""
    listing = podman("image", "ls", "--filter", "dangling=false", "--format", "json")
    # podman 4 stumbles over an image that somebody else removes meanwhile.
    return replace(listing, again="image not known")


def remove(names: Sequence[str], *, force: bool = False) -> Command:
    """Take names from images; one that has no other goes, by force with the containers that run it."""
    return podman("image", "rm", *(["--force"] if force else []), *names)


def prune() -> Command:
    """Remove images that have no name, that no other begins with and that no container uses."""
    return podman("image", "prune", "--force")


def users(image: str) -> Command:
    """The names of the containers that were made from an image: running or not, and those that a build which
    was killed has left."""
    return podman("ps", "--all", "--external", "--filter", f"ancestor={image}", "--format", "{{.Names}}")
