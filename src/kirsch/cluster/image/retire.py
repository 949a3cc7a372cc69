"""Images that a cluster's registry has and that nobody names: each change of an application leaves one there,
with a tag by its content."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from kirsch.cluster.api.client import UNITS, Client, unit_path
from kirsch.cluster.image.content import is_content_tag
from kirsch.cluster.image.presence import Presence
from kirsch.cluster.image.reference import Reference


@dataclass(frozen=True, slots=True)
class Kept:
    """A tag of an image that a registry keeps: the image's path, the tag, the digest that it leads to."""

    path: str
    tag: str
    digest: str


def retired(kept: Iterable[Kept], texts: Collection[str]) -> list[tuple[str, str]]:
    """The images (path, digest) that have no tag but those by content, none of which a text names. Pure."""
    tags: dict[tuple[str, str], set[str]] = defaultdict(set)
    for each in kept:
        tags[each.path, each.digest].add(each.tag)
    return sorted(
        (path, digest)
        for (path, digest), names in tags.items()
        if all(map(is_content_tag, names))
        and not any(f"{path}:{name}" in text for name in names for text in texts)
    )


def retire(presence: Presence, texts: Collection[str]) -> int:
    """Have a registry forget them, as far as the texts of a cluster's units do not name them: how many. What
    they consist of goes when the registry is cleared. Raises ImageError."""
    kept = [
        Kept(path, tag, digest)
        for path in presence.paths()
        for tag in presence.tags(path)
        if (digest := presence.digest(Reference(presence.registry.address, path, tag)))
    ]
    gone = retired(kept, texts)
    for path, digest in gone:
        presence.forget(path, digest)
    return len(gone)


def texts_of(client: Client) -> list[str]:
    """The texts of all units of a cluster. Raises ClientError."""
    names = {line["name"] for line in client.get(UNITS)["units"]}
    return [client.get(unit_path(name))["text"] for name in sorted(names)]
