"""Command that installs distributions of kirsch, as errors give it."""

import shlex

# Options of pip that say where from: the folder that `make release` fills, until kirsch's names are on the
# public index. pip asks that index all the same, and takes the higher version: a stranger who took a name
# would win. Afterwards this is empty. A test holds every page to it.
SOURCE = "--find-links dist"


def pip_install(requirement: str) -> str:
    """Return the command that installs a requirement on one of kirsch's distributions."""
    return " ".join(filter(None, ("pip install", SOURCE, shlex.quote(requirement))))
