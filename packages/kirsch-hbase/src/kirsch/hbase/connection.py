"""A connection to an HBase cluster: by the official Java client, in this process."""

import atexit
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from kirsch.hbase import jvm
from kirsch.hbase.calls import begin, call
from kirsch.hbase.codec import BYTES, Codec, K, V
from kirsch.hbase.errors import Closed, HBaseError, Invalid, Unavailable
from kirsch.hbase.names import table_name
from kirsch.hbase.quorum import Quorum, ask, has_node
from kirsch.hbase.row import Codecs, Given

if TYPE_CHECKING:
    from kirsch.hbase.admin import Admin
    from kirsch.hbase.cell import Cell
    from kirsch.hbase.table import Table

# A quorum has answered by then: a busy machine needs seconds to load a thousand classes, and nobody is away.
_LOADING = 12.0

_open: "weakref.WeakSet[Connection]" = weakref.WeakSet()

RPC_CLIENT = "hbase.rpc.client.impl"
BLOCKING = "org.apache.hadoop.hbase.ipc.BlockingRpcClient"


def connect(
    quorum: str | Mapping[str, object] | Path | None = None,
    *,
    timeout: float = 60.0,
    patience: float = 3.0,
    user: str | None = None,
    jars: Sequence[str | Path] | str | Path | None = None,
    java: str | Path | None = None,
    options: Sequence[str] = (),
) -> "Connection":
    """Connect to HBase.

    `quorum` is ZooKeeper's `host[:port][,host…][/node]`, or HBase's own settings as a mapping, or the path of
    its hbase-site.xml; None: what the class path's hbase-site.xml says, else localhost. An operation is tried
    again until `timeout` seconds have passed; a cluster that does not answer is Unavailable after `patience`
    seconds. `user` is who one is where the cluster trusts its clients. The JVM is started by the first
    connect of a process: `jars` (else HBASE_HOME, CLASSPATH, the cache of `kirsch hbase jars`), `java` (its
    home, else JAVA_HOME, PATH), `options` (such as `-Xmx2g`).

    Raises NoJava, NoJars, OtherJVM, Unavailable, Invalid.
    """
    if not isinstance(quorum, str | Mapping | Path | None):
        raise Invalid(f"{quorum!r} is no quorum: it is a str, a mapping of settings, or a Path")
    given = Path(quorum) if isinstance(quorum, str) and quorum.endswith(".xml") else quorum
    where: Quorum | None = None
    if isinstance(given, str):
        where = Quorum.parse(given)
        # Before Java is started: who waits for a cluster that is not there should not wait for that.
        ask(where, patience)
    jvm.start(jars, java, options)
    configuration = _configuration(given, where, timeout)
    if where is None and not _masters(configuration):
        ask(_quorum(configuration), patience)
    return Connection(configuration, patience + _LOADING, user, timeout)


def _configuration(
    given: str | Mapping[str, object] | Path | None, where: Quorum | None, timeout: float
) -> Any:
    configuration = jvm.hbase("HBaseConfiguration").create()
    milliseconds = str(int(timeout * 1000))
    # The time decides when it is given up, not the number of attempts.
    settings: dict[str, object] = {
        "hbase.client.operation.timeout": milliseconds,
        "hbase.client.meta.operation.timeout": milliseconds,
        "hbase.client.scanner.timeout.period": milliseconds,
        "hbase.rpc.timeout": milliseconds,
        "hbase.client.retries.number": "1000",
        # Java waits for most of what its Admin does by asking again, at first after a pause, later after up
        # to 200 pauses. With its default, 100 ms, it takes a third longer to make a table.
        "hbase.client.pause": "20",
        "hbase.client.pause.server.overloaded": "100",
        "hbase.ipc.client.connect.max.retries": "0",
        "zookeeper.registry.async.get.timeout": milliseconds,
        "zookeeper.recovery.retry": "1000",
        "zookeeper.recovery.retry.intervalmill": "200",
    }
    if where is not None:
        settings["hbase.zookeeper.quorum"] = str(where)
        settings["hbase.zookeeper.property.clientPort"] = str(where.servers[0][1])
        if where.parent:
            settings["zookeeper.znode.parent"] = where.parent
    elif isinstance(given, Path):
        _read(configuration, given)
    elif isinstance(given, Mapping):
        settings.update(given)
    for name, value in settings.items():
        configuration.set(name, str(value).lower() if isinstance(value, bool) else str(value))
    # With it the calling thread itself writes to the server, where Netty's would have to be woken first. TLS
    # is Netty's alone.
    if not configuration.getBoolean("hbase.client.netty.tls.enabled", False):
        configuration.setIfUnset(RPC_CLIENT, BLOCKING)
    if configuration.get("hadoop.security.authentication") == "kerberos":
        # Else Hadoop's login is that of its own core-site.xml.
        jvm.cls("org.apache.hadoop.security.UserGroupInformation").setConfiguration(configuration)
    return configuration


def _read(configuration: Any, site: Path) -> None:
    """Have it read an hbase-site.xml. Raises Invalid."""
    if not site.is_file():
        raise Invalid(f"there is no {site}: an hbase-site.xml is expected")
    try:
        call(configuration.addResource, jvm.cls("java.net.URL")(site.resolve().as_uri()))
        # It may be read by its first use only.
        call(configuration.size)
    except HBaseError as error:
        raise Invalid(f"{site} is no hbase-site.xml: {error}", error.java) from error


def _masters(configuration: Any) -> bool:
    registry = str(configuration.get("hbase.client.registry.impl") or "")
    return registry.endswith(("RpcConnectionRegistry", "MasterRegistry"))


def _quorum(configuration: Any) -> Quorum:
    hosts = str(configuration.get("hbase.zookeeper.quorum") or "localhost")
    port = int(str(configuration.get("hbase.zookeeper.property.clientPort") or 2181))
    return Quorum.parse(hosts, port)


def _absent(configuration: Any, patience: float, java: Any) -> Unavailable:
    """Return the error for a cluster whose ZooKeeper answers, and HBase does not."""
    if not _masters(configuration):
        quorum, node = _quorum(configuration), str(configuration.get("zookeeper.znode.parent") or "/hbase")
        if has_node(quorum, node, 3.0) is False:
            return Unavailable(
                f"ZooKeeper at {quorum} has no znode {node}: check the quorum's /node "
                "(zookeeper.znode.parent of the servers), or start HBase, which makes it",
                java,
            )
    return Unavailable(
        f"HBase did not answer within {patience:.0f} s: ZooKeeper does, but no master or no region "
        "server: is it still starting?",
        java,
    )


class Connection:
    """A connection; for any number of threads. `java` is the Java Connection. Close it, or use `with`."""

    def __init__(
        self, configuration: Any, patience: float = 3.0, user: str | None = None, timeout: float = 60.0
    ) -> None:
        self.configuration = configuration
        # Seconds that an operation may take.
        self.timeout = timeout
        self._closed = False
        self._local = threading.local()
        factory = jvm.hbase("client.ConnectionFactory")
        try:
            if user is None:
                self.java = call(factory.createConnection, configuration, timeout=patience)
            else:
                self.java = call(factory.createConnection, configuration, self._user(user), timeout=patience)
        except Unavailable as error:
            raise _absent(configuration, patience, error.java) from None
        try:
            # Whether there is a master: nothing works without one, and it is not told otherwise for a minute.
            call(self._first, timeout=patience)
        except HBaseError as error:
            begin(self.java.close)
            if isinstance(error, Unavailable):
                raise _absent(configuration, patience, error.java) from error
            raise
        _open.add(self)

    def _first(self) -> None:
        locator = self.java.getRegionLocator(jvm.hbase("TableName").META_TABLE_NAME)
        try:
            locator.getRegionLocation(b"")
        finally:
            locator.close()

    @staticmethod
    def _user(name: str) -> Any:
        remote = jvm.cls("org.apache.hadoop.security.UserGroupInformation").createRemoteUser(name)
        return jvm.hbase("security.User").create(remote)

    @cached_property
    def admin(self) -> "Admin":
        """Return the administration of the cluster."""
        from kirsch.hbase.admin import Admin

        self.check()
        return Admin(self, self.call(self.java.getAdmin))

    @overload
    def table(self, name: str) -> "Table[bytes, bytes]": ...
    @overload
    def table(self, name: str, key: Codec[K]) -> "Table[K, bytes]": ...
    @overload
    def table(self, name: str, key: Codec[K], value: Codec[V]) -> "Table[K, V]": ...
    @overload
    def table(self, name: str, key: Codec[K], value: Given) -> "Table[K, Any]": ...
    @overload
    def table(self, name: str, *, value: Codec[V]) -> "Table[bytes, V]": ...
    @overload
    def table(self, name: str, *, value: Given) -> "Table[bytes, Any]": ...
    @overload
    def table(self, name: str, key: Codec[Any] | str = BYTES, value: Given = BYTES) -> "Table[Any, Any]": ...
    def table(self, name: str, key: Codec[Any] | str = BYTES, value: Given = BYTES) -> "Table[Any, Any]":
        """Return a table by its name, `table` or `namespace:table`; it need not exist yet. `key` is the codec
        of its keys, `value` that of its values, or codecs by column (`cf:q`) or family (`cf`), "" for all
        others. Raises Invalid."""
        from kirsch.hbase.table import Table

        name = table_name(name)
        if not name.isascii():
            call(jvm.hbase("TableName").valueOf, name)
        return Table(self, name, Codecs(key, value))

    def java_table(self, name: str) -> Any:
        """Return this thread's Java Table, which is not thread-safe."""
        self.check()
        tables = self._local.__dict__.setdefault("tables", {})
        if name not in tables:
            tables[name] = self.java.getTable(jvm.hbase("TableName").valueOf(name))
        return tables[name]

    def reader(self, name: str) -> Callable[[bytes], "list[Cell]"]:
        """Return this thread's reader of a table's rows (kirsch.hbase.block_transfer.reader)."""
        self.check()
        readers = self._local.__dict__.setdefault("readers", {})
        if name not in readers:
            from kirsch.hbase.block_transfer import reader

            readers[name] = reader(self.java_table(name))
        return readers[name]  # type: ignore[no-any-return]

    def writer(self, name: str) -> Callable[[bytes], None]:
        """Return this thread's writer of a table (kirsch.hbase.block_transfer.batch)."""
        self.check()
        writers = self._local.__dict__.setdefault("writers", {})
        if name not in writers:
            from kirsch.hbase.block_transfer import batch

            writers[name] = batch(self.java_table(name))
        return writers[name]  # type: ignore[no-any-return]

    def call(self, function: Any, *arguments: Any, timeout: float | None = None) -> Any:
        """Call any Java method, for at most `timeout` seconds (the connection's): Ctrl-C interrupts it, and
        Java's exceptions are HBaseError. Raises Closed after `close`."""
        self.check()
        return call(function, *arguments, limit=self.timeout if timeout is None else timeout)

    def check(self) -> None:
        """Raise Closed if it was closed."""
        if self._closed:
            raise Closed("the connection is closed: connect again")

    @property
    def closed(self) -> bool:
        """Return whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """Close the connection and what it has open."""
        if not self._closed:
            self._closed = True
            _open.discard(self)
            try:
                call(self.java.close, timeout=self.timeout)
            except Unavailable:
                pass  # It goes on in its thread; nobody uses the connection any more.

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@atexit.register
def _close_all() -> None:
    for connection in list(_open):
        try:
            connection.close()
        except HBaseError:
            pass
