"""Java's archive of the client's classes (application class-data sharing, JEP 350).

With an archive the client starts faster: Java finds some thousand classes already loaded and verified.
`kirsch hbase jars` makes it in a child process (kirsch.hbase.warmup), for one Java and one set of jars. Where
there is no archive, or it does not fit, Java starts without one and prints nothing.
"""

import os
import sys
import zlib
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from kirsch.hbase import jdk
from kirsch.hbase.errors import NoJava
from kirsch.hbase.jars import cache_folder

# The first version that archives the classes a process has loaded (-XX:ArchiveClassesAtExit).
OLDEST = 13
WARMUP = "kirsch.hbase.warmup"
TIMEOUT = 120.0


def stem(home: Path, path: Sequence[Path]) -> str:
    """Return the prefix of the archive's file name: a digest of Java and the class path."""
    files = []
    for one in (jdk.library(home) or home, *path, support()):
        try:
            found = one.stat()
        except OSError:
            continue
        files.append((str(one), found.st_size, found.st_mtime_ns))
    # Java checks that an archive fits; the digest keeps archives of several versions side by side.
    return f"{zlib.crc32(repr(files).encode()):08x}-"


def find(home: Path, path: Sequence[Path], cache: Path | None = None) -> Path | None:
    """Return the archive for a Java and a class path, if there is a complete one.

    Java aborts the process on a truncated archive, so the size is part of the file's name.
    """
    for found in ((cache or cache_folder()) / "archives").glob(f"{stem(home, path)}*.jsa"):
        if found.stem.rpartition("-")[2] == str(found.stat().st_size):
            return found
    return None


def support() -> Path:
    """Return JPype's own jar, which is last on the class path."""
    found = find_spec("jpype")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent.parent / "org.jpype.jar"


def options(home: Path, path: Sequence[Path]) -> list[str]:
    """Return the Java options that use the archive, if there is one."""
    archive = find(home, path)
    # Java verifies the archive's checksum, and does not log to our standard output why it rejects one.
    return [f"-XX:SharedArchiveFile={archive}", "-XX:+VerifySharedSpaces", "-Xlog:disable"] if archive else []


def make(path: Sequence[Path], say: Callable[[str], None], home: Path | None = None) -> Path | None:
    """Make the archive for jars unless it exists. Return None where it cannot be made; `say` gets the
    reason."""
    try:
        return _made(path, say, home or jdk.find())
    except NoJava as error:
        say(str(error))
    except OSError as error:
        say(f"no archive of HBase's classes was made: {error.filename}: {error.strerror}")
    return None


def _made(path: Sequence[Path], say: Callable[[str], None], java: Path) -> Path | None:
    import subprocess  # Imported here because a client's start does not need it.

    if archive := find(java, path):
        return archive
    if (jdk.version(java) or 0) < OLDEST:
        say(
            f"no archive of HBase's classes was made: Java {OLDEST} or newer makes one, and "
            f"{java} cannot make one"
        )
        return None
    folder = cache_folder() / "archives"
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f".{os.getpid()}.jsa"
    try:
        done = subprocess.run(
            [sys.executable, "-m", WARMUP, str(java), str(made), *map(str, path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT,
        )
        if done.returncode or not made.is_file():
            words = done.stderr.strip().splitlines()
            say(f"no archive of HBase's classes was made: {words[-1] if words else 'Java gave no reason'}")
            return None
        archive = folder / f"{stem(java, path)}{made.stat().st_size}.jsa"
        made.replace(archive)
    except subprocess.TimeoutExpired:
        say(f"no archive of HBase's classes was made within {TIMEOUT:g} s")
        return None
    finally:
        made.unlink(missing_ok=True)
    say(f"an archive of HBase's classes for a faster start: {archive.stat().st_size // 1_000_000} MB")
    return archive
