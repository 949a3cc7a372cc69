"""The wheels that an image's `RUN pip install` takes, downloaded here, where pip knows its index."""

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from kirsch.cluster.image.podman import WHEELS
from kirsch.cluster.provision.command import Runner
from kirsch.cluster.provision.image import target
from kirsch.cluster.provision.record import cache_folder
from kirsch.cluster.provision.wheels import Wheels, download, made_once

REQUIREMENTS = "requirements.txt"
CONFIGURATION = f"[global]\nno-index = true\nfind-links = {WHEELS}\n"
_KIRSCH = re.compile(r"^\s*kirsch\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Supply:
    """A folder of wheels with pip's configuration, and the digest of what they were chosen by."""

    folder: Path
    digest: str


def supply(context: Path, runner: Runner, *, fresh: bool = False) -> Supply | None:
    """Wheels for the requirements.txt of a build's folder; none where there is none. Raises ProvisionError.

    What was downloaded before is taken again, unless it is to be fresh."""
    try:
        text = (context / REQUIREMENTS).read_text()
    except FileNotFoundError:
        return None
    own = Wheels(runner).own() if _KIRSCH.search(text) else None
    chosen_by = repr((text, own and own.parent.name, target()))
    digest = hashlib.sha256(chosen_by.encode()).hexdigest()[:16]
    folder = cache_folder() / "image-wheels" / digest
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    with made_once(folder) as new:
        if new:
            found = ["--find-links", str(own.parent)] if own else []
            runner.run(download([*found, "-r", str(context / REQUIREMENTS)], target(), new))
            (new / "pip.conf").write_text(CONFIGURATION)
            # mkdtemp's folders are for their owner, and steps may run as another user.
            new.chmod(0o755)
    return Supply(folder, digest)
