"""Child process that loads the classes a client needs, for Java to archive at its exit.

Started by kirsch.hbase.archive as `python -m kirsch.hbase.warmup JAVA_HOME ARCHIVE JAR…`. The client talks to
a socket that closes every connection, so no HBase is needed.
"""

import socket
import sys
import threading
from collections.abc import Sequence
from typing import Any

from kirsch.hbase import jvm
from kirsch.hbase.block_transfer import cells, gets, mutations, next_rows, pack, reader, rows_of, sizes
from kirsch.hbase.calls import call
from kirsch.hbase.errors import HBaseError
from kirsch.hbase.jvm import cls, hbase
from kirsch.hbase.mutation import Value, block, delete, get, get_message, put

# Short timeouts: no request is ever answered.
_SHORT = {
    "hbase.client.operation.timeout": 500,
    "hbase.client.meta.operation.timeout": 500,
    "hbase.rpc.timeout": 500,
    "hbase.client.retries.number": 2,
    "hbase.client.pause": 10,
    "zookeeper.registry.async.get.timeout": 500,
    "zookeeper.recovery.retry": 1,
    "zookeeper.recovery.retry.intervalmill": 10,
}


def _load() -> None:
    """Run every kind of request against a server that does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_hang_up, args=(server,), daemon=True).start()
        port = server.getsockname()[1]
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
                **_SHORT,
            }
            for name, value in values.items():
                configuration.set(name, str(value))
            _ask(configuration)
    empty = hbase("client.Result").create(cls("java.util.ArrayList")())
    pack([empty])
    sizes([empty])
    cells(empty)


def _ask(configuration: Any) -> None:
    """Send one request of each kind."""
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
        lambda: next_rows(rows_of(table.getScanner(hbase("client.Scan")())), 10, 1000),
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
    """Load the classes and exit; Java writes the archive then."""
    home, archive, *path = words
    jvm.start(path, home, [f"-XX:ArchiveClassesAtExit={archive}", "-Xlog:disable"])
    _load()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
