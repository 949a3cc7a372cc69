"""Java's archive of the client's classes (application class-data sharing, JEP 350): with it the client starts
faster, for Java finds some thousand classes read and checked already.

It is made once by `kirsch hbase jars`, in a process of its own, for one Java and the jars as they are; where
it is not there, or does not fit, Java goes without, and says nothing.
"""

import os
import socket
import sys
import threading
import zlib
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kirsch.hbase import jdk
from kirsch.hbase.errors import NoJava
from kirsch.hbase.jars import cache_folder

# Java 13 was the first to make one of the classes that were loaded.
OLDEST = 13
TIMEOUT = 120.0


def stem(home: Path, path: Sequence[Path]) -> str:
    """How the name of the archive for a Java and a class path begins: it changes with any of them."""
    told = []
    for one in (jdk.library(home) or home, *path, support()):
        try:
            found = one.stat()
        except OSError:
            continue
        told.append((str(one), found.st_size, found.st_mtime_ns))
    # Java itself looks whether one fits; this is so that one that does not is not in another's way.
    return f"{zlib.crc32(repr(told).encode()):08x}-"


def find(home: Path, path: Sequence[Path], cache: Path | None = None) -> Path | None:
    """The archive for a Java and a class path, if there is one and it is whole: Java would end the process
    where it is shorter than it was made, so its size is in its name."""
    for found in ((cache or cache_folder()) / "archives").glob(f"{stem(home, path)}*.jsa"):
        if found.stem.rpartition("-")[2] == str(found.stat().st_size):
            return found
    return None


def support() -> Path:
    """JPype's own jar, the last of its class path."""
    found = find_spec("jpype")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent.parent / "org.jpype.jar"


def options(home: Path, path: Sequence[Path]) -> list[str]:
    """Java's options to use the archive, if there is one."""
    archive = find(home, path)
    # It is to look whether it is as it was made, and not to say on our standard output why it takes none.
    return [f"-XX:SharedArchiveFile={archive}", "-XX:+VerifySharedSpaces", "-Xlog:disable"] if archive else []


def make(path: Sequence[Path], say: Callable[[str], None], home: Path | None = None) -> Path | None:
    """Make the archive for jars, unless it is there; None where it cannot be made, and `say` is told why."""
    try:
        return _made(path, say, home or jdk.find())
    except NoJava as error:
        say(str(error))
    except OSError as error:
        say(f"no archive of HBase's classes was made: {error.filename}: {error.strerror}")
    return None


def _made(path: Sequence[Path], say: Callable[[str], None], java: Path) -> Path | None:
    import subprocess  # only here: who starts has no time for it

    if archive := find(java, path):
        return archive
    if (jdk.version(java) or 0) < OLDEST:
        say(
            f"Java starts faster from {OLDEST} on, with an archive of HBase's classes: {java} cannot make one"
        )
        return None
    folder = cache_folder() / "archives"
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f".{os.getpid()}.jsa"
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(java), str(made), *map(str, path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT,
        )
        if done.returncode or not made.is_file():
            words = done.stderr.strip().splitlines()
            say(f"no archive of HBase's classes was made: {words[-1] if words else 'Java does not say why'}")
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


def _load() -> None:
    """Have Java load what a client needs: by one that asks, and whom nobody answers."""
    from kirsch.hbase.crossing import cells, pack, sizes
    from kirsch.hbase.jvm import cls, hbase

    with socket.create_server(("127.0.0.1", 0)) as nobody:
        threading.Thread(target=_hang_up, args=(nobody,), daemon=True).start()
        port = nobody.getsockname()[1]
        for registry, client in (
            ("ZKConnectionRegistry", "BlockingRpcClient"),
            ("RpcConnectionRegistry", "NettyRpcClient"),
        ):
            configuration = hbase("HBaseConfiguration").create()
            values = {
                "hbase.client.registry.impl": f"org.apache.hadoop.hbase.client.{registry}",
                "hbase.rpc.client.impl": f"org.apache.hadoop.hbase.ipc.{client}",
                "hbase.zookeeper.quorum": "127.0.0.1",
                "hbase.zookeeper.property.clientPort": port,
                "hbase.client.bootstrap.servers": f"127.0.0.1:{port}",
                **_IMPATIENT,
            }
            for name, value in values.items():
                configuration.set(name, str(value))
            _ask(configuration)
    empty = hbase("client.Result").create(cls("java.util.ArrayList")())
    pack([empty])
    sizes([empty])
    cells(empty)


# Nobody answers, so nobody is waited for.
_IMPATIENT = {
    "hbase.client.operation.timeout": 500,
    "hbase.client.meta.operation.timeout": 500,
    "hbase.rpc.timeout": 500,
    "hbase.client.retries.number": 2,
    "hbase.client.pause": 10,
    "zookeeper.registry.async.get.timeout": 500,
    "zookeeper.recovery.retry": 1,
    "zookeeper.recovery.retry.intervalmill": 10,
}


def _ask(configuration: Any) -> None:
    """Ask for all that there is, in vain."""
    from kirsch.hbase.calls import call
    from kirsch.hbase.crossing import gets, mutations, reader
    from kirsch.hbase.errors import HBaseError
    from kirsch.hbase.gathering import gather, source
    from kirsch.hbase.jvm import cls, hbase
    from kirsch.hbase.mutation import Value, block, delete, get, get_message, put

    try:
        connection = call(hbase("client.ConnectionFactory").createConnection, configuration)
    except HBaseError:
        return
    table = connection.getTable(hbase("TableName").valueOf("t"))
    written = block([put(b"r", [Value(b"f", b"q", b"v")]), delete(b"r")])
    for step in (
        lambda: connection.getAdmin().listTableNames(),
        lambda: reader(table)(get_message(b"r")),
        lambda: table.batch(mutations(written), cls("java.lang.Object")[2]),
        lambda: table.get(gets(block([get(b"r")]))),
        lambda: gather(source(table.getScanner(hbase("client.Scan")())), 10, 1000),
    ):
        try:
            call(step)
        except HBaseError:
            pass
    call(connection.close)


def _hang_up(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        connection.close()


def main(words: Sequence[str]) -> int:
    """In the process that makes one: Java's home, the archive, the jars."""
    from kirsch.hbase import jvm

    home, archive, *path = words
    jvm.start(path, home, [f"-XX:ArchiveClassesAtExit={archive}", "-Xlog:disable"])
    _load()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
