"""Who is not to be disturbed: builds, for an image that is being built has no name yet; and who sends images
to a cluster's registry, for until a unit names one it looks like one that nobody wants."""

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from kirsch.cluster.image.reference import ImageError
from kirsch.cluster.provision.record import cache_folder

BUILD = "image-build"


@contextmanager
def building() -> Iterator[None]:
    """Nothing is tidied up meanwhile; others may build. Raises ImageError."""
    with _locked(BUILD, fcntl.LOCK_SH):
        yield


@contextmanager
def tidying() -> Iterator[bool]:
    """Whether nothing is being built; then nothing is until this ends. Raises ImageError."""
    with _alone(BUILD) as alone:
        yield alone


@contextmanager
def sending(registry: str) -> Iterator[None]:
    """This computer removes nothing from a registry (HOST[:PORT]) meanwhile; others may send. Raises
    ImageError."""
    with _locked(f"registry-{registry}", fcntl.LOCK_SH):
        yield


@contextmanager
def retiring(registry: str) -> Iterator[bool]:
    """Whether this computer sends nothing to a registry; then it does not until this ends. Raises
    ImageError."""
    with _alone(f"registry-{registry}") as alone:
        yield alone


@contextmanager
def _alone(name: str) -> Iterator[bool]:
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
