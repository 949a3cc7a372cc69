"""kirsch's own base images: where what they are built from lies."""

from pathlib import Path

import kirsch.cluster
from kirsch.cluster.provision.wheels import source_tree

PREFIX = "kirsch/"
NAMES = ("web", "postgres", "haproxy", "rabbitmq")


def folder(path: str) -> Path | None:
    """The folder of kirsch/web and its like, by the image's path: in a checkout images/, else among what was
    installed; None for any other image."""
    name = path.removeprefix(PREFIX)
    if not path.startswith(PREFIX) or name not in NAMES:
        return None
    tree = source_tree()
    places = [tree / "images"] if tree else []
    places.append(Path(kirsch.cluster.__file__).parents[1] / "images")
    return next((place / name for place in places if (place / name / "Containerfile").is_file()), None)
