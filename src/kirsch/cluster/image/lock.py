"""Locks between the kirsch processes of this computer (flock(2)).

An image that is being built has no name yet, and one that was just sent to a registry looks unused until a
unit names it: neither may be removed meanwhile. Builds and transfers share a lock; a removal holds it alone.
"""

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from kirsch.cluster.image.reference import ImageError
from kirsch.cluster.provision.record import cache_folder

BUILD = "image-build"


def registry_lock(address: str) -> str:
    """Name the lock of a registry by its HOST[:PORT]."""
    return f"registry-{address}"


@contextmanager
def shared(name: str) -> Iterator[None]:
    """Hold a lock together with others. Raises ImageError."""
    with _locked(name, fcntl.LOCK_SH):
        yield


@contextmanager
def exclusive(name: str) -> Iterator[bool]:
    """Hold a lock alone; yields False, without waiting, where others hold it. Raises ImageError."""
    with ExitStack() as held:
        try:
            held.enter_context(_locked(name, fcntl.LOCK_EX | fcntl.LOCK_NB))
            alone = True
        except BlockingIOError:
            alone = False
        yield alone


@contextmanager
def _locked(name: str, how: int) -> Iterator[None]:
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / f"{name}.lock").open("w")
    except OSError as error:
        raise ImageError(f"{error.filename}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, how)
        except BlockingIOError:
            raise
        except OSError as error:
            raise ImageError(f"{lock.name}: {error.strerror}") from None
        yield
