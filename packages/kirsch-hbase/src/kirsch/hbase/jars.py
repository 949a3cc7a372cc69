"""HBase's jars: where they are, or Maven to fetch them once into a cache."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kirsch.hbase.errors import NoJars

# The newest that Maven has for server and client both.
VERSION = "2.6.4-hadoop3"
GROUP = "org.apache.hbase"
FETCH_TIMEOUT = 900.0


@dataclass(frozen=True, slots=True)
class Artifact:
    """Maven coordinates of a jar."""

    group: str
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class JarSet:
    """A set of jars, and its folder in the cache."""

    name: str
    artifacts: tuple[Artifact, ...]
    # Without what they need: it is there already.
    alone: bool = False

    def folder(self, cache: Path) -> Path:
        """Return the folder of the set in a cache."""
        return cache / self.name


def client(version: str = VERSION) -> JarSet:
    """Return the jars of HBase's client, with a logger that discards everything. Their folder is
    `client-VERSION`."""
    artifacts = (
        Artifact(GROUP, "hbase-shaded-client", version),
        Artifact("org.slf4j", "slf4j-nop", "1.7.36"),
    )
    return JarSet(f"client-{version}", artifacts)


def server(version: str = VERSION) -> JarSet:
    """Return the jars of a standalone server: master, region server and ZooKeeper."""
    return JarSet(f"server-{version}", (Artifact(GROUP, "hbase-server", version),))


def bulk(version: str = VERSION) -> JarSet:
    """Return the jars of a client that can bulk load: the server's, and those that write HFiles."""
    artifacts = (*server(version).artifacts, Artifact(GROUP, "hbase-shaded-mapreduce", version))
    return JarSet(f"bulk-{version}", artifacts)


def groups() -> JarSet:
    """Return the jars a server of HBase 2 needs for groups of region servers; there is no hbase-rsgroup
    2.6.4."""
    return JarSet("groups-2.6.1-hadoop3", (Artifact(GROUP, "hbase-rsgroup", "2.6.1-hadoop3"),), alone=True)


def cache_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Return the cache folder: KIRSCH_HBASE_JARS, else below XDG_CACHE_HOME or ~/.cache."""
    given = os.environ if environment is None else environment
    if named := given.get("KIRSCH_HBASE_JARS"):
        return Path(named)
    return Path(given.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kirsch" / "hbase"


_ALONE = "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>"


def pom(jars: JarSet) -> str:
    """Return the pom.xml of a set of jars."""
    dependencies = "".join(
        f"<dependency><groupId>{a.group}</groupId><artifactId>{a.name}</artifactId>"
        f"<version>{a.version}</version>{_ALONE if jars.alone else ''}</dependency>"
        for a in jars.artifacts
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        f"<groupId>kirsch</groupId><artifactId>{jars.name}</artifactId><version>1</version>"
        f"<packaging>pom</packaging><dependencies>{dependencies}</dependencies></project>\n"
    )


def cached(jars: JarSet, cache: Path | None = None) -> list[Path]:
    """Return the jars of a set in the cache: all of them, or none."""
    return sorted(jars.folder(cache or cache_folder()).glob("*.jar"))


def fetch(jars: JarSet, say: Callable[[str], None], cache: Path | None = None) -> list[Path]:
    """Return the jars of a set, fetched by Maven if the cache lacks them; `say` gets progress, a line each.
    Raises NoJars."""
    # Only here: who finds them has no time for it.
    import shutil
    import tempfile

    if found := cached(jars, cache):
        return found
    folder = jars.folder(cache or cache_folder())
    if (maven := shutil.which("mvn")) is None:
        raise NoJars("there is no Maven to fetch HBase's jars with: apt-get install maven, or set HBASE_HOME")
    folder.parent.mkdir(parents=True, exist_ok=True)
    say(f"fetching {', '.join(a.name + ' ' + a.version for a in jars.artifacts)} with Maven into {folder}")
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder.parent) as temporary:
        project, path = Path(temporary, "pom.xml"), Path(temporary, "path")
        project.write_text(pom(jars))
        _run(
            [
                maven, "--quiet", "--batch-mode", f"--file={project}", "dependency:build-classpath",
                f"-Dmdep.outputFile={path}", "-DincludeScope=runtime",
            ]
        )  # fmt: skip
        copied = Path(temporary, "jars")
        copied.mkdir()
        entries = [Path(entry) for entry in path.read_text().strip().split(os.pathsep) if entry]
        if not entries:
            raise NoJars(f"Maven gave no jars for {jars.name}")
        for entry in entries:
            try:
                # One copy on disk: Maven's own repository keeps its files unchanged.
                os.link(entry, copied / entry.name)
            except OSError:
                shutil.copy2(entry, copied / entry.name)
        try:
            copied.rename(folder)
        except OSError:
            # Another process was faster.
            if not cached(jars, cache):
                raise
    found = cached(jars, cache)
    say(f"{len(found)} jars, {sum(jar.stat().st_size for jar in found) // 1_000_000} MB")
    return found


def _run(command: Sequence[str]) -> None:
    import subprocess

    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=FETCH_TIMEOUT, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise NoJars(f"Maven has not fetched the jars within {FETCH_TIMEOUT:g} s") from None
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
        raise NoJars(
            f"Maven could not fetch the jars: {lines[0].partition('] ')[2] if lines else 'it says nothing'}"
        )


def find(
    given: Sequence[str | Path] | str | Path | None = None,
    environment: Mapping[str, str] | None = None,
    cache: Path | None = None,
) -> list[Path]:
    """Return the client's class path: `given` (folders, jars, or a class path), else HBASE_HOME, else
    CLASSPATH if it contains HBase, else the cache: the version that KIRSCH_HBASE_VERSION names, else VERSION,
    else the newest. Raises NoJars."""
    variables = os.environ if environment is None else environment
    if given is not None:
        return _given(given)
    if home := variables.get("HBASE_HOME"):
        return of_home(Path(home))
    if path := variables.get("CLASSPATH"):
        entries = expanded(path.split(os.pathsep))
        if any(entry.name.startswith(("hbase-shaded", "hbase-client", "hbase-common")) for entry in entries):
            return entries
    if version := variables.get("KIRSCH_HBASE_VERSION"):
        if found := cached(client(version), cache):
            return found
        raise NoJars(
            f"HBase's client {version} is not here, and KIRSCH_HBASE_VERSION names it: run "
            f"`kirsch hbase jars --version {version}`"
        )
    for version in (VERSION, *versions(cache)):
        if found := cached(client(version), cache):
            return found
    raise NoJars("HBase's client is not here: run `kirsch hbase jars`, or set HBASE_HOME or CLASSPATH")


def versions(cache: Path | None = None) -> list[str]:
    """Return the versions of the client in the cache, the newest first."""
    prefix = client("").name
    found = [folder.name.removeprefix(prefix) for folder in (cache or cache_folder()).glob(f"{prefix}*")]
    return sorted(found, key=_order, reverse=True)


def _order(version: str) -> list[tuple[int, str]]:
    """Return a sort key by which 2.10.0 is newer than 2.9.1."""
    return [(int(number or 0), word) for number, word in re.findall(r"(\d+)|([a-z]+)", version)]


def of_home(home: Path) -> list[Path]:
    """Return the class path of an HBase installation: its configuration and its jars."""
    library = home / "lib"
    jars = sorted(library.glob("*.jar"))
    thirdparty = library / "client-facing-thirdparty"
    if not jars:
        # An installation of the client alone; the others of these lack Hadoop, or are for its jobs.
        jars = sorted((library / "shaded-clients").glob("hbase-shaded-client-[0-9]*.jar"))
    if not jars:
        raise NoJars(f"HBASE_HOME is {home}, and there are no jars in {library}")
    logging = sorted(thirdparty.glob("*.jar"))
    return [home / "conf", *jars, *logging] if (home / "conf").is_dir() else [*jars, *logging]


def _given(given: Sequence[str | Path] | str | Path) -> list[Path]:
    if isinstance(given, str):
        entries = expanded(given.split(os.pathsep))
    else:
        entries = expanded([str(one) for one in ([given] if isinstance(given, Path) else given)])
    missing = [str(entry) for entry in entries if not entry.exists()]
    if missing:
        raise NoJars(f"there is no {missing[0]}, which was given as a jar")
    if not entries:
        raise NoJars("no jars were given: jars= takes folders, jars, or a class path")
    return entries


def expanded(entries: Sequence[str]) -> list[Path]:
    """Expand a class path: `FOLDER/*` is the jars of a folder, and so is a folder with jars."""
    found: list[Path] = []
    for entry in filter(None, entries):
        path = Path(entry)
        if path.name == "*":
            found += sorted(path.parent.glob("*.jar"))
        elif path.is_dir() and (jars := sorted(path.glob("*.jar"))):
            found += jars
        else:
            found.append(path)
    return found
