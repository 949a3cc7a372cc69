"""A standalone HBase for development and tests, as a child on the bus: `kirsch hbase server`."""

import json
import os
import shutil
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path
from signal import SIGTERM
from typing import Any

from cherrypy.process.plugins import SimplePlugin
from cherrypy.process.wspbus import Bus

from kirsch.bus import Command, Exit, ExitPlugin, NotifyPlugin, ProcessPlugin
from kirsch.bus.restart import Done, History, after_exit
from kirsch.hbase import jars, jdk
from kirsch.hbase.errors import StartError, Unavailable
from kirsch.hbase.server_settings import READY, Settings

# Regions are flushed within it; a server that takes longer is killed, and its log replayed at the next start.
GRACE = 25.0
# What the JVM sees of our environment.
_KEPT = ("PATH", "HOME", "TZ", "LANG", "LC_ALL", "USER", "LOGNAME", "TMPDIR")


def prepare(settings: Settings, version: str = jars.VERSION, *, verbose: bool = False) -> Command:
    """Write the server's settings, and how to run it: its jars are fetched if they are not there yet.
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
    """Whether one can listen there. Where ZooKeeper cannot, it takes the next port, and the master gives
    up."""
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
    """Master's and region server's ports: those of the last time if they are free. After kill -9 ZooKeeper
    takes the old ones for alive until their sessions end; new ones at their addresses take their place at
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
    """The server with the bus. It publishes 'hbase-ready' (seconds) once the master serves."""

    def __init__(self, bus: Any, settings: Settings, command: Command) -> None:
        super().__init__(bus)
        self.settings = settings
        self.process = ProcessPlugin(
            bus, "hbase", command, restart="no", grace=GRACE, stop_signal=SIGTERM, reload_signal=None
        )
        self.failed = False
        self._begun = time.monotonic()
        self._last: list[str] = []
        self.ready = False

    def subscribe(self) -> None:
        super().subscribe()
        self.process.subscribe()

    def unsubscribe(self) -> None:
        super().unsubscribe()
        self.process.unsubscribe()

    def process_line(self, name: str, stream: str, line: str) -> None:
        """A line of the server's."""
        if name != "hbase":
            return
        if not self.ready and READY in line:
            self.ready = True
            self.bus.publish("hbase-ready", time.monotonic() - self._begun)
        elif not line.startswith("INFO "):
            self._last = [*self._last[-20:], line]
            print(line, file=sys.stderr, flush=True)

    def process_failed(self, name: str, reason: str) -> None:
        """It ended, and nobody asked it to."""
        if name == "hbase":
            self.failed = True
            print(f"HBase ended: {reason}{self._why()}", file=sys.stderr, flush=True)

    def _why(self) -> str:
        told = [line for line in self._last if line.startswith(("ERROR", "FATAL", "Exception", "Caused by"))]
        return f": {told[-1]}" if told else ""

    def start(self) -> None:
        """With the bus."""
        for channel, listener in (
            ("process-line", self.process_line),
            ("process-failed", self.process_failed),
        ):
            self.bus.subscribe(channel, listener)

    start.priority = 10  # type: ignore[attr-defined]  # before the process


def run(settings: Settings, version: str = jars.VERSION, *, verbose: bool = False) -> int:
    """Run a server in the foreground until SIGTERM or Ctrl-C; the exit status. Raises StartError,
    Unavailable."""
    return serve(settings, prepare(settings, version, verbose=verbose))


def serve(settings: Settings, command: Command) -> int:
    """Run what `prepare` made, until SIGTERM or Ctrl-C, or until it ends by itself; the exit status."""
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
    """Where the server's data is: systemd's and kirsch's STATE_DIRECTORY, else ./hbase-data."""
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(given) if given else Path("hbase-data")
