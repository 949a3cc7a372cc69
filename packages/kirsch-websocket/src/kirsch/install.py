"""Command that installs distributions of kirsch, as errors give it."""

import shlex

# Options of pip that say where from. Nobody has kirsch's names on the public index yet, so a stranger could
# take them. Until they are kirsch's, pip is pointed to the folder that `make release` fills; afterwards this
# is empty. A test holds every page to it.
SOURCE = "--find-links dist"


def pip_install(requirement: str) -> str:
    """Return the command that installs a requirement on one of kirsch's distributions."""
    return " ".join(filter(None, ("pip install", SOURCE, shlex.quote(requirement))))
