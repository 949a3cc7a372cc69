"""A standalone HBase: its settings as values, and the files and the command line that it is started with.
Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from kirsch.hbase.errors import Invalid

MAIN = "org.apache.hadoop.hbase.master.HMaster"
# What the master logs when it serves (HMaster.finishActiveMasterInitialization).
READY = "Master has completed initialization"
ACCESS_CONTROLLER = "org.apache.hadoop.hbase.security.access.AccessController"
VISIBILITY_CONTROLLER = "org.apache.hadoop.hbase.security.visibility.VisibilityController"
GROUPS_ENDPOINT = "org.apache.hadoop.hbase.rsgroup.RSGroupAdminEndpoint"
GROUPS_BALANCER = "org.apache.hadoop.hbase.rsgroup.RSGroupBasedLoadBalancer"


@dataclass(frozen=True, slots=True)
class Settings:
    """`folder` has data, settings and logs; `address` is what it binds; `port` is ZooKeeper's, which clients
    are told; `memory` is Java's heap in MB; `access` and `labels` switch ACLs and visibility labels on;
    `groups` groups of region servers; `extra` are settings of HBase's, `java` options of Java's that win over
    ours."""

    folder: Path
    address: str = "127.0.0.1"
    port: int = 2181
    memory: int = 512
    access: bool = False
    labels: bool = False
    # Who may do everything where `access` is on.
    superuser: str = "admin"
    groups: bool = False
    extra: Mapping[str, str] = field(default_factory=dict)
    # Master's and region server's; 0: any.
    ports: tuple[int, int] = (0, 0)
    java: Sequence[str] = ()

    @property
    def host(self) -> str:
        """The name under which clients reach it."""
        return "localhost" if self.address in ("127.0.0.1", "::1", "localhost") else self.address

    @property
    def configuration(self) -> Path:
        """The folder of its hbase-site.xml."""
        return self.folder / "conf"

    def site(self) -> dict[str, str]:
        """HBase's settings."""
        values = {
            "hbase.cluster.distributed": "false",
            "hbase.rootdir": (self.folder / "data").absolute().as_uri(),
            "hbase.tmp.dir": str((self.folder / "tmp").absolute()),
            "hbase.zookeeper.quorum": self.host,
            "hbase.zookeeper.property.dataDir": str((self.folder / "zookeeper").absolute()),
            "hbase.zookeeper.property.clientPort": str(self.port),
            "hbase.zookeeper.property.clientPortAddress": self.address,
            "hbase.master.hostname": self.host,
            "hbase.master.ipc.address": self.address,
            "hbase.master.port": str(self.ports[0]),
            "hbase.master.info.port": "-1",
            "hbase.regionserver.hostname": self.host,
            "hbase.regionserver.ipc.address": self.address,
            "hbase.regionserver.port": str(self.ports[1]),
            "hbase.regionserver.info.port": "-1",
            # Without these the start waits 5 s and more for region servers that there are not.
            "hbase.master.wait.on.regionservers.mintostart": "1",
            "hbase.master.wait.on.regionservers.maxtostart": "1",
            "hbase.master.wait.on.regionservers.interval": "100",
            "hbase.regionserver.msginterval": "200",
            # All is one process: who is slow on a busy machine is not dead.
            "zookeeper.session.timeout": "120000",
            "hbase.zookeeper.property.tickTime": "6000",
            "hbase.unsafe.stream.capability.enforce": "false",
            "hbase.wal.provider": "filesystem",
            # Hadoop's default for local files keeps what the log has been told in memory: kill -9 would lose
            # it.
            "fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
            "hbase.quota.enabled": "true",
            "hbase.regionserver.handler.count": "10",
            "hbase.snapshot.enabled": "true",
        }
        classes = [ACCESS_CONTROLLER] if self.access else []
        classes += [VISIBILITY_CONTROLLER] if self.labels else []
        if classes:
            values["hbase.superuser"] = self.superuser
            values["hbase.coprocessor.master.classes"] = ",".join(classes)
            values["hbase.coprocessor.region.classes"] = ",".join(classes)
        if self.access:
            values["hbase.security.authorization"] = "true"
            values["hbase.coprocessor.regionserver.classes"] = ACCESS_CONTROLLER
        if self.groups:
            masters = [*classes, GROUPS_ENDPOINT]
            values["hbase.coprocessor.master.classes"] = ",".join(masters)
            values["hbase.master.loadbalancer.class"] = GROUPS_BALANCER
        return {**values, **self.extra}

    def files(self, verbose: bool = False) -> dict[str, str]:
        """The files of its configuration folder; `verbose`: it logs warnings too."""
        logging = LOGGING.format(level="WARN" if verbose else "ERROR")
        return {"hbase-site.xml": xml(self.site()), "log4j.properties": logging}

    def command(self, java: Path, jars: Sequence[Path]) -> list[str]:
        """The command line."""
        path = ":".join([str(self.configuration), *map(str, jars)])
        return [
            str(java), f"-Xmx{self.memory}m", "-XX:+UseSerialGC",
            # It starts sooner and leaves tests the cores; the second compiler would be half as fast again.
            "-XX:TieredStopAtLevel=1",
            "-Djava.awt.headless=true", "--add-opens=java.base/java.nio=ALL-UNNAMED",
            "-XX:+ExitOnOutOfMemoryError", *self.java,
            "-cp", path, MAIN, "start",
        ]  # fmt: skip


# Errors, and of the master that it is up.
LOGGING = """\
log4j.rootLogger={level}, out
log4j.logger.org.apache.hadoop.hbase.master.HMaster=INFO
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%p %c{{1}}: %m%n
"""


def xml(values: Mapping[str, str]) -> str:
    """Settings as Hadoop's XML."""
    properties = "".join(
        f"  <property><name>{escape(name)}</name><value>{escape(value)}</value></property>\n"
        for name, value in values.items()
    )
    return f'<?xml version="1.0"?>\n<configuration>\n{properties}</configuration>\n'


def setting(text: str) -> tuple[str, str]:
    """NAME=VALUE. Raises Invalid."""
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise Invalid(f"{text!r} is no setting: it is NAME=VALUE")
    return name.strip(), value.strip()
