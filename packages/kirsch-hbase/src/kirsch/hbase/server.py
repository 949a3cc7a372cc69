"""A standalone HBase: its settings as values, and the files and the command line that it is started with.
Pure.
"""

import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from signal import SIGTERM
from typing import Any
from xml.sax.saxutils import escape

from cherrypy.process.plugins import SimplePlugin
from cherrypy.process.wspbus import Bus

from kirsch.bus import Command, Exit, ExitPlugin, NotifyPlugin, ProcessPlugin
from kirsch.bus.process.restart import Done, History, after_exit
from kirsch.hbase import jars, jdk
from kirsch.hbase.errors import Invalid, StartError, Unavailable

MAIN = "org.apache.hadoop.hbase.master.HMaster"
# What the master logs when it serves (HMaster.finishActiveMasterInitialization).
READY = "Master has completed initialization"
# What RSGroupInfoManagerImpl logs when it knows the groups; until then no table can be made.
GROUPS_READY = "GroupBasedLoadBalancer is now online"
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
        """Return the host name that clients use."""
        return "localhost" if self.address in ("127.0.0.1", "::1", "localhost") else self.address

    @property
    def configuration(self) -> Path:
        """Return the folder of its hbase-site.xml."""
        return self.folder / "conf"

    def site(self) -> dict[str, str]:
        """Return the server's hbase-site.xml as a mapping."""
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
            # The master collects regions to assign for 150 ms, then requests to a server for as long. There
            # are few here, and a person who makes a table waits for both.
            "hbase.assignment.dispatch.wait.msec": "5",
            "hbase.procedure.remote.dispatcher.delay.msec": "5",
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

    def awaited(self) -> set[str]:
        """Return what the server logs, in any order, before it is up."""
        return {READY, GROUPS_READY} if self.groups else {READY}

    def files(self, verbose: bool = False) -> dict[str, str]:
        """Return the files of its configuration folder; `verbose` logs warnings too."""
        logging = LOGGING.format(level="WARN" if verbose else "ERROR")
        site = self.site()
        # Hadoop's login reads its own file only.
        hadoop = {name: value for name, value in site.items() if name.startswith("hadoop.")}
        return {"hbase-site.xml": xml(site), "core-site.xml": xml(hadoop), "log4j.properties": logging}

    def command(self, java: Path, jars: Sequence[Path]) -> list[str]:
        """Return the server's command line."""
        path = ":".join([str(self.configuration), *map(str, jars)])
        return [
            str(java), f"-Xmx{self.memory}m", "-XX:+UseSerialGC",
            # It starts sooner and leaves tests the cores; the second compiler would be half as fast again.
            "-XX:TieredStopAtLevel=1",
            "-Djava.awt.headless=true", "--add-opens=java.base/java.nio=ALL-UNNAMED",
            "-XX:+ExitOnOutOfMemoryError", *self.java,
            "-cp", path, MAIN, "start",
        ]  # fmt: skip


# Errors, and of the master and its groups that they are up.
LOGGING = """\
log4j.rootLogger={level}, out
log4j.logger.org.apache.hadoop.hbase.master.HMaster=INFO
log4j.logger.org.apache.hadoop.hbase.rsgroup=INFO
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%p %c{{1}}: %m%n
"""


def xml(values: Mapping[str, str]) -> str:
    """Write settings as Hadoop's XML."""
    properties = "".join(
        f"  <property><name>{escape(name)}</name><value>{escape(value)}</value></property>\n"
        for name, value in values.items()
    )
    return f'<?xml version="1.0"?>\n<configuration>\n{properties}</configuration>\n'


def setting(text: str) -> tuple[str, str]:
    """Parse NAME=VALUE. Raises Invalid."""
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise Invalid(f"{text!r} is no setting: it is NAME=VALUE")
    return name.strip(), value.strip()


# Regions are flushed within it; a server that takes longer is killed, and its log replayed at the next start.
GRACE = 25.0
# What the JVM sees of our environment.
_KEPT = ("PATH", "HOME", "TZ", "LANG", "LC_ALL", "USER", "LOGNAME", "TMPDIR")


def prepare(settings: Settings, version: str = jars.VERSION, *, verbose: bool = False) -> Command:
    """Write the server's configuration, fetch its jars if the cache lacks them, and return its command.
    Raises StartError, Unavailable."""
    java = jdk.find()
    sets = [jars.server(version), *([jars.groups()] if settings.groups else [])]
    path = [jar for one in sets for jar in jars.fetch(one, lambda line: print(line, file=sys.stderr))]
    if not is_free(settings.address, settings.port):
        raise Unavailable(
            f"{settings.address}:{settings.port} is in use or not this machine's: choose another with --port"
        )
    try:
        # HBase is started in it, by one who may be elsewhere by then.
        settings = replace(settings, folder=settings.folder.absolute(), ports=_ports(settings))
        settings.configuration.mkdir(parents=True, exist_ok=True)
        for name, text in settings.files(verbose).items():
            (settings.configuration / name).write_text(text)
        # A start that was cut short leaves files that keep Hadoop's lock.
        shutil.rmtree(settings.folder / "tmp", ignore_errors=True)
    except OSError as error:
        raise StartError(f"{error.filename}: {error.strerror}") from None
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return Command(
        tuple(settings.command(jdk.program(java), path)),
        environment=environment,
        directory=str(settings.folder),
    )


def is_free(address: str, port: int) -> bool:
    """Return whether a port is free. ZooKeeper would take the next one, and the master would give up."""
    with socket.socket(_family(address)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _ports(settings: Settings) -> tuple[int, int]:
    """Return the ports of master and region server: the last ones if they are free. After kill -9 ZooKeeper
    considers the old servers alive until their sessions end; new ones at the same addresses replace them at
    once."""
    kept = settings.configuration / "ports.json"
    try:
        master, region = json.loads(kept.read_text())
        if is_free(settings.address, master) and is_free(settings.address, region):
            return master, region
    except (OSError, ValueError, TypeError):
        pass
    where, family = (settings.address, 0), _family(settings.address)
    with socket.create_server(where, family=family) as one, socket.create_server(where, family=family) as two:
        ports = (one.getsockname()[1], two.getsockname()[1])
    settings.configuration.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(ports))
    return ports


class ServerPlugin(SimplePlugin):
    """Server as a part of the bus. It publishes 'hbase-ready' (seconds) when the master serves."""

    def __init__(self, bus: Any, settings: Settings, command: Command) -> None:
        super().__init__(bus)
        self.settings = settings
        self.process = ProcessPlugin(
            bus, "hbase", command, restart="no", grace=GRACE, stop_signal=SIGTERM, reload_signal=None
        )
        self.failed = False
        self._begun = time.monotonic()
        self._last: list[str] = []
        self._awaited = settings.awaited()

    @property
    def ready(self) -> bool:
        """Return whether the master has served."""
        return not self._awaited

    def subscribe(self) -> None:
        super().subscribe()
        self.process.subscribe()

    def unsubscribe(self) -> None:
        super().unsubscribe()
        self.process.unsubscribe()

    def process_line(self, name: str, stream: str, line: str) -> None:
        """Detect readiness, and show warnings and errors."""
        if name != "hbase":
            return
        if seen := {mark for mark in self._awaited if mark in line}:
            self._awaited -= seen
            if not self._awaited:
                self.bus.publish("hbase-ready", time.monotonic() - self._begun)
        elif not line.startswith("INFO "):
            self._last = [*self._last[-20:], line]
            print(line, file=sys.stderr, flush=True)

    def process_failed(self, name: str, reason: str) -> None:
        """Report that HBase ended unexpectedly."""
        if name == "hbase":
            self.failed = True
            print(f"HBase ended: {reason}{self._why()}", file=sys.stderr, flush=True)

    def _why(self) -> str:
        told = [line for line in self._last if line.startswith(("ERROR", "FATAL", "Exception", "Caused by"))]
        return f": {told[-1]}" if told else ""

    def start(self) -> None:
        """Listen to the process when the bus starts."""
        for channel, listener in (
            ("process-line", self.process_line),
            ("process-failed", self.process_failed),
        ):
            self.bus.subscribe(channel, listener)

    start.priority = 10  # type: ignore[attr-defined]  # before the process


def run(settings: Settings, version: str = jars.VERSION, *, verbose: bool = False) -> int:
    """Run a server in the foreground until SIGTERM or Ctrl-C. Return the exit status. Raises StartError,
    Unavailable."""
    return serve(settings, prepare(settings, version, verbose=verbose))


def serve(settings: Settings, command: Command) -> int:
    """Run a prepared server until SIGTERM or Ctrl-C, or until it ends by itself. Return the exit status."""
    bus = Bus()
    plugin = ServerPlugin(bus, settings, command)
    ending = ExitPlugin(bus)
    ready = NotifyPlugin(bus, held=True)

    def say(seconds: float) -> None:
        where = f"{settings.host}:{settings.port}"
        print(f"HBase is up in {seconds:.1f} s: kirsch hbase shell --quorum {where}", flush=True)
        ready.release()

    def ended(name: str, how: Exit) -> None:
        # As the shell's stop_master has it: that is no failure, and nothing else tells of it.
        if not ending.asked and isinstance(after_exit(plugin.process.policy, History(), how, 0.0), Done):
            print("HBase has stopped", file=sys.stderr, flush=True)
            plugin.failed = not plugin.ready
            ending()

    bus.subscribe("hbase-ready", say)
    bus.subscribe("process-exited", ended)
    bus.subscribe("process-failed", lambda name, reason: ending())
    for part in (plugin, ending, ready):
        part.subscribe()
    bus.start()
    bus.block()
    return 1 if plugin.failed else 0


def default_folder() -> Path:
    """Return the folder of the server's data: STATE_DIRECTORY of systemd or kirsch, else ./hbase-data."""
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(given) if given else Path("hbase-data")
