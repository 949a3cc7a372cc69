"""Real machines of a cluster on this one: kirschd as on a machine, with processes in systemd's place.

Each has an address of 127.0.0.0/8 and certificates of one authority; they share an etcd.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from tests.cluster.etcd_server import Authority, EtcdServer, free_ports

from kirsch.cluster.api.client import Client
from kirsch.cluster.api.transport import Https
from kirsch.cluster.model.certificates import Certificates
from kirsch.cluster.secrets.seal import Key

PATIENCE = 60
KIRSCH = (sys.executable, "-m", "kirsch.cli.main")


class MemberMachine:
    """One machine: it keeps id, address, port and state from one kirschd to the next."""

    def __init__(
        self,
        folder: Path,
        name: str,
        etcd: EtcdServer,
        authority: Authority,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        self.name = name
        self.id = secrets.token_hex(16)
        self.address = f"127.{secrets.randbelow(254) + 1}.{secrets.randbelow(254) + 1}.{name[1:]}"
        self.port = free_ports(self.address, 1)[0]
        self.certificates = authority.certificates(name, self.address)
        self.config = self.folder / "kirschd.toml"
        self.socket = self.folder / "run/kirsch.sock"
        self.log = self.folder / "kirschd.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.told: list[bytes] = []
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notified.bind("")
        self._notified.settimeout(PATIENCE)
        certificates = etcd.certificates or self.certificates
        assert certificates.authority == self.certificates.authority
        # All machines of the folder have one.
        key = folder / "secrets.key"
        if not key.exists():
            key.touch(0o600)
            key.write_text(Key.generate().text)
        values = "".join(f'{key} = "{value}"\n' for key, value in (metadata or {}).items())
        self.config.write_text(
            f"""\
cluster = "test"
name = "{name}"
machine-id = "{self.id}"
address = "{self.address}"
listen = "{self.address}:{self.port}"
etcd = {list(etcd.endpoints)!r}
runtime = "process"
state = "{self.folder / "state"}"
run = "{self.folder / "run"}"
secrets = "{key}"

[metadata]
{values}
[tls]
authority = "{self.certificates.authority}"
certificate = "{self.certificates.certificate}"
key = "{self.certificates.key}"
"""
        )

    @property
    def endpoint(self) -> str:
        return f"https://{self.address}:{self.port}"

    def spawn(self, **environment: str) -> None:
        """Start kirschd."""
        address = "@" + self._notified.getsockname()[1:].decode()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kirsch.cluster.daemon", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "NOTIFY_SOCKET": address, **environment},
            )

    def await_told(self, message: bytes) -> None:
        """Return once kirschd has told its service manager so."""
        while not any(message in told for told in self.told):
            try:
                self.told.append(self._notified.recv(4096))
            except TimeoutError:
                raise AssertionError(f"no {message!r}, but {self.told}:\n{self.log.read_text()}") from None
        self.told.clear()

    def start(self) -> None:
        """Start kirschd; return once this machine is in the cluster."""
        self.spawn()
        self.await_told(b"READY=1")

    def stop(self) -> int:
        """End kirschd as its service manager does; its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(PATIENCE)
        self.process = None
        return status

    def kill(self) -> None:
        """End it as a loss of power would, with all that it runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def close(self) -> None:
        self.kill()
        self._notified.close()

    def client(self, certificates: Certificates) -> Client:
        """A client of this machine alone, over TCP."""
        return Client(Https(((self.address, self.port),), certificates, self.name))


class Members:
    """A cluster's machines, and a person who may use them."""

    def __init__(self, folder: Path, etcd: EtcdServer, authority: Authority, count: int) -> None:
        self.folder = folder
        self.etcd = etcd
        self.authority = authority
        self.certificates = authority.certificates("person")
        self.machines = [
            MemberMachine(folder, f"n{number}", etcd, authority, {"zone": "ab"[number % 2]})
            for number in range(1, count + 1)
        ]

    @cached_property
    def client(self) -> Client:
        """Of whichever machine answers. It is one for all: each would shake hands anew with each machine, and
        what waits asks fifty times a second."""
        places = [(machine.address, machine.port) for machine in self.machines]
        return Client(Https(places, self.certificates, "cluster test"))

    def environment(self, certificates: Certificates | None = None) -> dict[str, str]:
        """A person's environment."""
        files = certificates or self.certificates
        clean = {key: value for key, value in os.environ.items() if not key.startswith("KIRSCH_")}
        return {
            **clean,
            "XDG_DATA_HOME": str(self.folder / "data"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "KIRSCH_ENDPOINT": ",".join(machine.endpoint for machine in self.machines),
            "KIRSCH_TLS_AUTHORITY": str(files.authority),
            "KIRSCH_TLS_CERTIFICATE": str(files.certificate),
            "KIRSCH_TLS_KEY": str(files.key),
        }

    def run(
        self,
        *arguments: str,
        certificates: Certificates | None = None,
        stdin: IO[str] | None = None,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        """A verb, as a person types it."""
        done = subprocess.run(
            [*KIRSCH, *arguments],
            cwd=self.folder,
            env=self.environment(certificates) | environment,
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
        return done

    def ok(self, *arguments: str, **environment: Any) -> str:
        """What a verb prints that succeeds."""
        done = self.run(*arguments, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def fails(self, *arguments: str, status: int = 1, **environment: Any) -> str:
        """The one line that a verb fails with."""
        done = self.run(*arguments, **environment)
        assert done.returncode == status, done.stdout + done.stderr
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        return lines[0].removeprefix("kirsch: ")

    def unit(self, name: str, text: str) -> str:
        """A unit file; its path."""
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def lines(self) -> dict[str, dict[str, Any]]:
        """Each unit's line."""
        return {line["name"]: line for line in self.client.get("/kirsch/v1/units")["units"]}


@contextmanager
def members(folder: Path, count: int, voters: int = 1) -> Iterator[Members]:
    """A cluster for the time of a with statement: every machine is in it; its etcd has so many `voters`."""
    authority = Authority(folder / "tls")
    etcd = EtcdServer(folder / "etcd", voters, authority)
    with running(Members(folder, etcd, authority, count)) as made:
        yield made


@contextmanager
def running(made: Members) -> Iterator[Members]:
    """Run a cluster's machines for the time of a with statement; its etcd ends with them."""
    try:
        for machine in made.machines:
            machine.spawn()
        for machine in made.machines:
            machine.await_told(b"READY=1")
        yield made
    finally:
        for machine in made.machines:
            machine.close()
        made.etcd.stop()
