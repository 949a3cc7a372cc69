"""The images that podman has: listed, named, removed."""

import json
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from kirsch.cluster.image import podman
from kirsch.cluster.image.build import inspected
from kirsch.cluster.image.lock import BUILD, exclusive
from kirsch.cluster.image.reference import ImageError, Reference, content_tag, is_content_tag
from kirsch.cluster.provision.command import Runner
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord, ProvisionError
from kirsch.cluster.provision.registry import CLEAN
from kirsch.cluster.provision.shell import act, shell_of


@dataclass(frozen=True, slots=True)
class Image:
    """One name of an image: its id, the tag by its content if it has one at this name, its size in bytes."""

    name: str
    tag: str
    content: str
    id: str
    size: int


def images(runner: Runner) -> list[Image]:
    """All names of all images, but for tags by content that another name shows. Raises ProvisionError."""
    return listed(json.loads(runner.run(podman.images()) or "[]"))


def listed(said: Iterable[dict[str, object]]) -> list[Image]:
    """From podman's JSON. Pure."""
    found = []
    for image in {str(each["Id"]): each for each in said}.values():
        names = image.get("Names")
        pairs = [tuple(str(name).rpartition(":")[::2]) for name in (names if isinstance(names, list) else [])]
        contents = {name: tag for name, tag in pairs if is_content_tag(tag)}
        for name, tag in pairs:
            if is_content_tag(tag) and any(n == name and not is_content_tag(t) for n, t in pairs):
                continue
            size = image["Size"]
            assert isinstance(size, int)
            found.append(Image(name, tag, contents.get(name, ""), str(image["Id"]), size))
    return sorted(found, key=lambda image: (image.name, image.tag))


def tag(image: str, names: Sequence[str], runner: Runner) -> list[Reference]:
    """Give an image more names, and at each the tag by its content. Raises ProvisionError."""
    source = known(image, runner)
    content = content_tag(inspected(source, runner))
    given = [Reference.parse(name) for name in names]
    runner.run(podman.tag(source, *(str(each) for name in given for each in (name.tagged(content), name))))
    return given


def remove(names: Sequence[str], runner: Runner, *, force: bool = False) -> Iterator[str]:
    """Take names from images; what has no name left but that of its content goes. Gives each name that is
    gone. Raises ProvisionError."""
    for text in names:
        source = known(text, runner)
        image = inspected(source, runner)
        had = [str(name) for name in image.get("RepoTags") or ()]
        own = [name for name in had if name == source]
        rest = [name for name in had if name not in own]
        contents = all(is_content_tag(name.rpartition(":")[2]) for name in rest)
        taken = [*own, *rest] if contents or not own else own
        # podman takes the names away before it finds that the image is in use, by whichever of them.
        if len(taken) == len(had) and not force and (users := _users(str(image["Id"]), runner)):
            raise ImageError(
                f"{text} is in use by the container {users[0]}: remove that first, or both with --force"
            )
        runner.run(podman.remove(taken or [source], force=force))
        yield from taken or [source]


def _users(id: str, runner: Runner) -> list[str]:
    return runner.run(podman.users(id)).split()


def known(text: str, runner: Runner) -> str:
    """An image's full name, from one as people type it; or its id. Raises ImageError where there is none."""
    there = json.loads(runner.run(podman.images()) or "[]")
    if re.fullmatch(r"[0-9a-f]{7,64}", text):
        for each in there:
            if each["Id"].startswith(text):
                return str(each["Id"])
    name = str(Reference.parse(text))
    if not any(name in (each.get("Names") or ()) for each in there):
        raise ImageError(f"there is no image {name} here; `kirsch image list` shows them")
    return name


def prune(runner: Runner, busy: Callable[[], None], texts: Collection[str] = ()) -> Iterator[str]:
    """Remove the images that no container uses, no text names, and that have no name left but those by their
    content, or none at all, as builds that failed leave them: gives what they were called. While something is
    being built, which has no name yet, the latter stay, and `busy` is called. Raises ProvisionError."""
    for image in {str(each["Id"]): each for each in json.loads(runner.run(podman.images()) or "[]")}.values():
        names = [str(name) for name in image.get("Names") or ()]
        old = names and all(is_content_tag(name.rpartition(":")[2]) for name in names)
        unnamed = set(removable(names, texts)) == set(names)
        if old and unnamed and not _users(str(image["Id"]), runner):
            runner.run(podman.remove(names))
            yield from names
    with exclusive(BUILD) as alone:
        if alone:
            yield from runner.run(podman.prune()).split()
        else:
            busy()


# Names of images on a machine; of one without podman none.
NAMES = "! command -v podman >/dev/null || podman image ls --format '{{.Repository}}:{{.Tag}}'"
# Some of them, of which no container was made; images without a name; layers that no image of a registry has.
REMOVE = (
    "for name in {names}; do "
    'podman ps --all --external --quiet --filter ancestor="$name" | grep -q . || '
    '{{ podman image rm "$name" >/dev/null && echo "$name"; }}; done; '
    "{{ ! command -v podman >/dev/null || podman image prune --force; }} && {{ {clean}; }}"
)


def removable(names: Iterable[str], texts: Collection[str]) -> list[str]:
    """Return the names of images that are in no text. Pure."""
    named = (name for name in names if not name.endswith(":<none>"))
    return sorted(name for name in named if not any(name in text for text in texts))


def prune_machines(
    cluster: ClusterRecord, texts: Collection[str] | None, runner: Runner
) -> tuple[dict[str, int], list[str]]:
    """Remove from a cluster's machines the images that no container uses and no text names.

    `texts` are those of units, and those that a release could bring back; None where they are not known:
    then only images without a name go. Returns how many went, by the machines' names, and why some machines
    could not be asked, for a person.
    """
    counts: dict[str, int] = {}
    left: list[str] = []

    def prune_one(machine: MachineRecord) -> None:
        shell = shell_of(cluster, machine)
        try:
            there = [] if texts is None else act(runner, shell, machine.name, NAMES).split()
            names = shlex.join(removable(there, texts or ()))
            said = act(runner, shell, machine.name, REMOVE.format(names=names, clean=CLEAN))
        except ProvisionError as error:
            left.append(str(error))
        else:
            counts[machine.name] = len(said.split())

    runner.together(cluster.machines, prune_one)
    return dict(sorted(counts.items())), sorted(left)
