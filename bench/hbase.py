"""HBase from Python beside the same work in Java: `python bench/hbase.py [--quick] [--json FILE]`.

One standalone server, 100,000 rows of one cell (10,000 with --quick). Subjects, each in a process of its own:

    kirsch          kirsch.hbase: HBase's Java client by JPype, cells in blocks
    java            the same client in Java (hbase_peers/Peer.java, compiled here)
    happybase       Thrift, by HBase's Thrift server
    kirsch shell    kirsch hbase shell, for the start only
    jruby shell     HBase's own shell, of 2.4 (the newest whose shell Maven has), for the start only

- start: from the command to the answer of its first request, tables listed
- puts a second: rows by a BufferedMutator, or batches of 2,000
- scan rows a second: row, family, qualifier, timestamp and value of each cell as objects
- gets a second: single rows, one after another

Each round starts every subject anew, in random order; puts are done three times in it, scan and gets four
times, and the last counts, when Java has compiled what runs often (of gets that takes some 15,000, whoever
asks). Figures are medians, ratios to Java of the same run.

The server is as `kirsch hbase server` starts it: Java's first compiler only, for short lives. With --full
it has the second one too, as servers that run for long have.

happybase is installed into .venv-bench; jars come by Maven. What cannot be had is left out, and said.
"""

import argparse
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import outcome

from kirsch.hbase import archive, connect, jars

HERE = Path(__file__).parent
ROOT = HERE.parent
PYTHONPATH = ":".join(map(str, (ROOT / "src", *ROOT.glob("packages/*/src"))))
PEERS = HERE / "hbase_peers"
VENV = ROOT / ".venv-bench"
WORK = (*("puts",) * 3, *("scan",) * 4, *("gets",) * 4)
SHELLS = ("kirsch shell", "jruby shell")
TABLE = "bench"
THRIFT, SHELL, JRUBY = "2.6.1", "2.4.17", "9.2.13.0"
Run = Callable[[str], list[str]]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--full", action="store_true", help="a server with Java's second compiler")
    parser.add_argument("--only", default="", help="subjects, with commas")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows, gets = (10_000, 500) if options.quick else (100_000, 5000)
    rounds = options.rounds or (1 if options.quick else 5)
    folder = Path(tempfile.mkdtemp(prefix="kirsch-bench-hbase-"))
    running: list[subprocess.Popen[str]] = []
    try:
        quorum = server(folder, running, options.full)
        subjects = available(folder, quorum, running, str(rows), str(gets), options.only)
        measured: dict[tuple[str, str], list[float]] = {}
        for number in range(rounds):
            for name in random.sample(list(subjects), len(subjects)):
                fresh(quorum)
                print(f"round {number + 1}: {name}", file=sys.stderr, flush=True)
                for what, value in one(name, subjects[name]).items():
                    measured.setdefault((what, name), []).append(value)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)
    table = rows_of(measured)
    for row in table:
        ratio = f"{row['ratio']:6.2f} of {row['ratio_to']}" if row["ratio"] else ""
        print(f"{row['what']:<22} {row['subject']:<12} {row['value']:>12,.2f} {row['unit']:<6} {ratio}")
    if options.json:
        java = subprocess.run(["java", "-version"], capture_output=True, text=True).stderr.splitlines()[0]
        outcome.write(
            options.json,
            table,
            hbase=jars.VERSION,
            java=java,
            server="full" if options.full else "as it comes",
        )
    return 0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def server(folder: Path, running: list[subprocess.Popen[str]], full: bool) -> str:
    """A server by `kirsch hbase server`; its quorum."""
    port = free_port()
    command = [sys.executable, "-m", "kirsch.cli.main", "hbase", "server", f"--port={port}"]
    command += [f"--directory={folder / 'server'}", "--memory=1024"]
    command += ["--java-option=-XX:TieredStopAtLevel=4"] if full else []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
    running.append(process)
    assert process.stdout is not None
    line = process.stdout.readline()
    if "is up" not in line:
        raise SystemExit(f"the server did not start: {line}")
    print(line.strip(), file=sys.stderr)
    return f"127.0.0.1:{port}"


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": PYTHONPATH}


def fresh(quorum: str) -> None:
    """An empty table, all else of the server as it is."""
    with connect(quorum) as connection:
        if connection.admin.exists(TABLE):
            connection.admin.drop(TABLE, force=True)
        connection.admin.create(TABLE, "cf")


def available(
    folder: Path, quorum: str, running: list[subprocess.Popen[str]], rows: str, gets: str, only: str
) -> dict[str, list[str]]:
    """The commands of those subjects that can be had here; what to do is added to them."""
    wanted = only.split(",") if only else ["kirsch", "java", "happybase", *SHELLS]
    # As `kirsch hbase jars` does.
    fetched = jars.fetch(jars.client(), told)
    archive.make(fetched, told)
    client = ":".join(str(jar) for jar in fetched)
    found: dict[str, list[str]] = {}
    if "kirsch" in wanted:
        found["kirsch"] = [sys.executable, str(PEERS / "kirsch_peer.py"), quorum, TABLE, rows, gets]
    if "java" in wanted:
        compiled = folder / "classes"
        subprocess.run(["javac", "-cp", client, "-d", str(compiled), str(PEERS / "Peer.java")], check=True)
        found["java"] = [
            "java",
            "-XX:+UseSerialGC",
            "-cp",
            f"{compiled}:{client}",
            "Peer",
            quorum,
            TABLE,
            rows,
            gets,
        ]
    if "happybase" in wanted:
        try:
            thrift = thrift_server(folder, quorum, running)
            found["happybase"] = [*happybase(), thrift, TABLE, rows, gets]
        except (OSError, subprocess.SubprocessError) as error:
            told(f"no happybase: {error}")
    if "kirsch shell" in wanted:
        shell = [sys.executable, "-m", "kirsch.cli.main", "hbase", "shell"]
        found["kirsch shell"] = [*shell, "--quorum", quorum]
    if "jruby shell" in wanted:
        try:
            found["jruby shell"] = jruby(folder, quorum)
        except (OSError, subprocess.SubprocessError) as error:
            told(f"no JRuby shell: {error}")
    return found


def told(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def one(name: str, command: list[str]) -> dict[str, float]:
    """What one subject does in one round: figures by their names."""
    if name in SHELLS:
        begun = time.perf_counter()
        done = subprocess.run(
            command, input="list\n", capture_output=True, text=True, timeout=300, env=environment()
        )
        if done.returncode:
            told(f"the {name} failed: {done.stderr.strip().splitlines()[-1:]}")
            return {}
        return {"start": time.perf_counter() - begun}
    begun = time.perf_counter()
    subprocess.run([*command, "list"], capture_output=True, timeout=300, check=True, env=environment())
    figures = {"start": time.perf_counter() - begun}
    done = subprocess.run(
        [*command, *WORK], capture_output=True, text=True, timeout=900, check=True, env=environment()
    )
    for line in done.stdout.splitlines():
        # The last one counts.
        what, count, seconds = line.split()
        figures[what] = int(count) / float(seconds)
    return figures


def maven(folder: Path, name: str, *artifacts: str, alone: bool = False) -> str:
    """A class path of artifacts, with what they need, or without."""
    exclude = "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>"
    dependencies = ""
    for artifact in artifacts:
        group, part, version = artifact.split(":")
        dependencies += (
            f"<dependency><groupId>{group}</groupId><artifactId>{part}</artifactId><version>{version}</version>"
            f"{exclude if alone else ''}</dependency>"
        )
    pom = folder / f"{name}.xml"
    pom.write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>kirsch'
        f"</groupId><artifactId>{name}</artifactId><version>1</version><packaging>pom</packaging><dependencies>"
        f"{dependencies}</dependencies></project>"
    )
    out = folder / f"{name}.path"
    command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:build-classpath", f"-Dmdep.outputFile={out}"]
    subprocess.run(command, check=True, timeout=600, stdout=subprocess.DEVNULL)
    return out.read_text().strip()


def site(folder: Path, quorum: str, extra: dict[str, str]) -> Path:
    """A folder with an hbase-site.xml that names the server."""
    from kirsch.hbase.server import xml

    host, _, port = quorum.partition(":")
    made = folder / f"conf-{len(extra)}"
    made.mkdir(exist_ok=True)
    values = {"hbase.zookeeper.quorum": host, "hbase.zookeeper.property.clientPort": port, **extra}
    (made / "hbase-site.xml").write_text(xml(values))
    return made


def thrift_server(folder: Path, quorum: str, running: list[subprocess.Popen[str]]) -> str:
    """HBase's Thrift server beside the server; its address."""
    path = maven(folder, "thrift", f"org.apache.hbase:hbase-thrift:{THRIFT}")
    port = free_port()
    configuration = site(folder, quorum, {"hbase.thrift.info.port": "-1"})
    main = ["org.apache.hadoop.hbase.thrift.ThriftServer", "start", "-p", str(port)]
    command = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-cp", f"{configuration}:{path}", *main]
    running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return f"127.0.0.1:{port}"
        except OSError:
            time.sleep(0.2)
    raise TimeoutError("the Thrift server does not listen")


def happybase() -> list[str]:
    if not (VENV / "bin/python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    pip = [str(VENV / "bin/pip"), "install", "--quiet", "happybase", "setuptools<81"]
    subprocess.run(pip, check=True, timeout=300, stdout=subprocess.DEVNULL)
    return [str(VENV / "bin/python"), str(PEERS / "happybase_peer.py")]


def jruby(folder: Path, quorum: str) -> list[str]:
    """HBase's shell from Maven's parts of it."""
    shell = maven(folder, "shell", f"org.apache.hbase:hbase-shell:{SHELL}", alone=True)
    ruby = maven(folder, "jruby", f"org.jruby:jruby-complete:{JRUBY}")
    # Its own version's classes: 2.6's lack some that it names.
    server = maven(folder, "server", f"org.apache.hbase:hbase-server:{SHELL}")
    path = ":".join([str(site(folder, quorum, {})), shell, ruby, server])
    # Its jar says itself where its Ruby begins.
    return ["java", "-XX:+UseSerialGC", "-cp", path, "org.jruby.JarBootstrapMain", "-n"]


def rows_of(measured: dict[tuple[str, str], list[float]]) -> list[dict[str, object]]:
    """Medians, and their ratios to Java's."""
    units = {
        "start": ("start", "s"),
        "puts": ("puts", "rows/s"),
        "scan": ("scan", "rows/s"),
        "gets": ("gets", "/s"),
    }
    medians = {key: statistics.median(values) for key, values in measured.items()}
    found: list[dict[str, object]] = []
    for what, (label, unit) in units.items():
        for (measure, name), value in sorted(medians.items()):
            if measure == what:
                java = medians.get((what, "java"))
                to = "java" if java and name != "java" else ""
                ratio = round(value / java, 3) if java and to else None
                row = {"what": label, "subject": name, "value": round(value, 3), "unit": unit}
                found.append({**row, "ratio_to": to, "ratio": ratio})
    return found


if __name__ == "__main__":
    sys.exit(main())
