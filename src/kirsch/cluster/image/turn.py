"""Builds, and what tidies up after them: an image that is being built has no name yet, and is not to go."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from kirsch.cluster.provision.record import cache_folder

LOCK = "image-build.lock"


@contextmanager
def building() -> Iterator[None]:
    """Nothing is tidied up meanwhile; others may build. Raises OSError."""
    with _locked(fcntl.LOCK_SH):
        yield


@contextmanager
def tidying() -> Iterator[bool]:
    """Whether nothing is being built, as far as can be known; then nothing is until this ends."""
    try:
        with _locked(fcntl.LOCK_EX | fcntl.LOCK_NB):
            yield True
    except OSError:
        yield False


@contextmanager
def _locked(how: int) -> Iterator[None]:
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        fcntl.flock(lock, how)
        yield
