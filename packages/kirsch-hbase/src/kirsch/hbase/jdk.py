"""Java on this machine: where it is, and which."""

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from kirsch.hbase.errors import NoJava

# HBase's client runs on 8; JPype needs 11.
OLDEST = 11
INSTALL = "apt-get install default-jre-headless, or set JAVA_HOME"
_RELEASE = re.compile(r'^JAVA_VERSION="([^"]+)"', re.M)


def find(given: str | Path | None = None, environment: Mapping[str, str] | None = None) -> Path:
    """Java's home: `given`, else JAVA_HOME, else that of `java` on PATH, else the newest in /usr/lib/jvm.
    Raises NoJava when there is none, or one that is too old."""
    variables = os.environ if environment is None else environment
    if named := given or variables.get("JAVA_HOME"):
        home = Path(named)
        whose = "java=" if given else "JAVA_HOME"
        if library(home) is None:
            raise NoJava(f"{whose} is {home}, and there is no Java in it: {INSTALL}")
        return _new_enough(home)
    if (program := shutil.which("java", path=variables.get("PATH", ""))) is not None:
        home = Path(program).resolve().parent.parent
        home = home.parent if home.name == "jre" else home
        if library(home) is not None:
            return _new_enough(home)
    homes = [h for h in Path("/usr/lib/jvm").glob("*") if not h.is_symlink() and library(h) is not None]
    if not homes or "PATH" not in variables:
        raise NoJava(f"there is no Java: {INSTALL}")
    return _new_enough(max(homes, key=lambda home: version(home) or 0))


def library(home: Path) -> Path | None:
    """The JVM's shared library in a Java home."""
    for part in ("lib/server/libjvm.so", "jre/lib/amd64/server/libjvm.so", "lib/client/libjvm.so"):
        if (home / part).is_file():
            return home / part
    return None


def program(home: Path) -> Path:
    """The `java` of a home."""
    return home / "bin" / "java"


def version(home: Path) -> int | None:
    """The first number of a Java's version (8, 11, 17, …), as its `release` file says; None if it does
    not."""
    try:
        match = _RELEASE.search((home / "release").read_text())
    except OSError:
        return None
    return number(match.group(1)) if match else None


def number(text: str) -> int | None:
    """17.0.15 is 17, 1.8.0_292 is 8."""
    match = re.match(r"(?:1\.)?(\d+)", text)
    return int(match.group(1)) if match else None


def _new_enough(home: Path) -> Path:
    found = version(home)
    if found is not None and found < OLDEST:
        raise NoJava(f"{home} is Java {found}, and HBase needs {OLDEST} or newer: {INSTALL}")
    return home
