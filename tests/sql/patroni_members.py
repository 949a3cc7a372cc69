"""Three members of images/postgres-ha as processes here, and writers who count what is acknowledged."""

import base64
import importlib.machinery
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg
from sqlalchemy import URL, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from tests.cluster.etcd_server import Authority, EtcdServer
from tests.deadline import eventually

from kirsch.cluster.provision.account import script
from kirsch.sql import Timeouts, make_engine
from kirsch.sql.postgres import client

SERVE = Path(__file__).parents[2] / "images/postgres-ha/serve"
PASSWORD = "s3cret'\"% ü"
ETCD_PASSWORD = "etcds"
# Patroni allows no shorter ttl than 20 s; a computer with others at work takes its time besides.
PATIENCE = 120
PACE = 0.02


@cache
def image_program(name: str) -> ModuleType:
    """Return a program of images/postgres-ha as a module."""
    path = str(SERVE.with_name(name))
    loader = importlib.machinery.SourceFileLoader(f"postgres_ha_{name}", path)
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def confined_etcd(folder: Path) -> tuple[EtcdServer, dict[str, Any]]:
    """An etcd with an account for webdb, as a cluster's has it, and the secret that members are given."""
    authority = Authority(folder / "tls")
    server = EtcdServer(folder / "etcd", 1, authority)
    server.etcdctl("put", "/kirsch/v1/leader", "m1")
    person = server.certificates
    assert person is not None
    etcdctl = (
        f"ETCDCTL_API=3 etcdctl --endpoints={server.endpoints[0]} "
        f"--cacert={person.authority} --cert={person.certificate} --key={person.key}"
    )
    # Twice: a person may repeat it.
    for password in ("before", ETCD_PASSWORD):
        words = script("webdb", ["client"], etcdctl)
        subprocess.run(["sh", "-c", words], input=f"{password}\n".encode(), check=True, timeout=60)
    own = authority.certificates("webdb", common_name=False)
    return server, {
        "hosts": [server.endpoints[0].removeprefix("https://")],
        "username": "webdb",
        "password": ETCD_PASSWORD,
        "authority": own.authority.read_text(),
        "certificate": own.certificate.read_text(),
        "key": own.key.read_text(),
    }


def member_environment(account: dict[str, Any]) -> dict[str, str]:
    """What every member is told."""
    psql = client()
    assert psql is not None
    return {
        "POSTGRES_ETCD": json.dumps(account),
        "PATH": f"{Path(sys.executable).parent}:{psql.parent}:{os.environ['PATH']}",
        "POSTGRES_BIN": str(psql.parent),
        "POSTGRES_USER": "notes",
        "POSTGRES_PASSWORD": PASSWORD,
        "POSTGRES_REPLICATION_PASSWORD": "among members",
    }


def member_command() -> tuple[str, list[str]]:
    """Whom a member runs as, where that is not us, and its command."""
    command = [sys.executable, str(SERVE)]
    if os.geteuid() != 0:
        return "", command
    # PostgreSQL refuses root, whose folders hold the programs: another user who may read them.
    account = "postgres" if _has_account("postgres") else "nobody"
    may_read = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    return account, ["setpriv", f"--reuid={account}", "--clear-groups", *may_read, *command]


class Member:
    """One member: it keeps its address and data from one start to the next."""

    def __init__(
        self, folder: Path, number: int, address: str, account: dict[str, Any], megabytes: int = 0
    ) -> None:
        self.account = account
        self.name = f"webdb-{number}"
        self.address = address
        self.folder = folder / f"m{number}"
        self.folder.mkdir()
        self.mounted = megabytes > 0
        if self.mounted:
            small = f"size={megabytes}m"
            subprocess.run(["mount", "-t", "tmpfs", "-o", small, "tmpfs", self.folder], check=True)
        self.log = folder / f"m{number}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = member_environment(account) | {
            "HOME": str(self.folder),
            "KIRSCH_UNIT": f"webdb@{number}.container",
            "KIRSCH_ADDRESS": address,
            "PGDATA": str(self.folder / "data"),
            "POSTGRES_SOCKETS": str(self.folder),
        }
        owner, self.command = member_command()
        if owner:
            shutil.chown(self.folder, owner)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, cwd="/", stdout=log, stderr=log, start_new_session=True
            )

    def processes(self) -> list[int]:
        """Patroni, and PostgreSQL's first process with all of its children."""
        assert self.process is not None
        found = [self.process.pid]
        with suppress(OSError, ValueError):
            first = int((self.folder / "data/postmaster.pid").read_text().split()[0])
            found += [first, *map(int, Path(f"/proc/{first}/task/{first}/children").read_text().split())]
        return found

    def signal(self, number: int) -> None:
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """End it as a loss of power would."""
        assert self.process is not None
        self.signal(signal.SIGKILL)
        self.process.wait()
        self.process = None

    def stop(self) -> None:
        """End it as a service manager does."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE)
            self.process = None

    def ask(self, path: str, body: Any = None) -> Any:
        """What its REST interface answers; None if it does not."""
        request = urllib.request.Request(f"http://{self.address}:8008{path}")
        if body is not None:
            settings = json.loads((self.folder / "patroni.json").read_text())
            known = settings["restapi"]["authentication"]
            token = base64.b64encode(f"{known['username']}:{known['password']}".encode()).decode()
            request.add_header("Authorization", f"Basic {token}")
            request.data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                said = answer.read().decode()
        except (OSError, urllib.error.HTTPError):
            return None
        return json.loads(said) if said.startswith("{") else said

    @property
    def url(self) -> dict[str, Any]:
        return {"host": self.address, "user": "notes", "password": PASSWORD, "dbname": "notes"}


def _has_account(name: str) -> bool:
    import pwd

    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


class Trio:
    """Three members, started."""

    def __init__(self, folder: Path, network: str, account: dict[str, Any], megabytes: int = 0) -> None:
        self.members = [Member(folder, n, f"{network}.{n}", account, megabytes) for n in (1, 2, 3)]
        for member in self.members:
            member.start()

    def roles(self) -> dict[str, str]:
        """Each member's role, of those that run: leader, sync_standby, replica; by whoever answers."""
        for member in self.members:
            if member.process is not None and (said := member.ask("/cluster")):
                return {
                    each["name"]: each["role"]
                    for each in said["members"]
                    if each.get("state") in ("running", "streaming")
                }
        return {}

    def leader(self) -> Member | None:
        """The member that leads, as it says itself."""
        return next((m for m in self.members if m.process and m.ask("/primary") is not None), None)

    def settled(self) -> bool:
        """True while one leads and the others follow, one of them in step with it."""
        return sorted(self.roles().values()) == ["leader", "replica", "sync_standby"]

    def await_settled(self) -> None:
        eventually(self.settled, PATIENCE, "one leader, two replicas")

    def await_leader(self, *, but: Member) -> Member:
        def other() -> Member | None:
            found = self.leader()
            return found if found is not but else None

        found = eventually(other, PATIENCE, "another leader")
        assert found is not None
        return found

    def switch_over(self) -> None:
        """Have the synchronous standby lead."""
        leader = self.leader()
        assert leader is not None
        assert leader.ask("/switchover", {"leader": leader.name}) is not None, "no switchover"

    @property
    def url(self) -> URL:
        hosts = tuple(f"{member.address}:5432" for member in self.members)
        return URL.create("postgresql", "notes", PASSWORD, database="notes", query={"host": hosts})

    def close(self) -> None:
        for member in self.members:
            if member.process is not None:
                member.signal(signal.SIGCONT)
        # All at once: one that stops alone waits for somebody to hand over to.
        for member in self.members:
            if member.process is not None:
                member.process.send_signal(signal.SIGTERM)
        for member in self.members:
            if member.process is not None:
                try:
                    member.process.wait(30)
                except subprocess.TimeoutExpired:
                    member.kill()
            if member.mounted:
                subprocess.run(["umount", "--lazy", member.folder], check=True)


class Writer:
    """Writes numbers one after another: as an application does, and to each member, whoever leads."""

    def __init__(self, trio: Trio) -> None:
        self.trio = trio
        self.acknowledged: list[int] = []
        # When an application's writes were acknowledged.
        self.times: list[float] = []
        # By member: when a write was sent that it acknowledged, and when it did.
        self.accepted: list[tuple[str, float, float]] = []
        self._numbers = iter(range(1, 1 << 60))
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._write)]
        self._threads += [threading.Thread(target=self._try, args=(member,)) for member in trio.members]

    def _number(self) -> int:
        with self._lock:
            return next(self._numbers)

    def _write(self) -> None:
        engine = make_engine(self.trio.url, Timeouts(connect=2, network=2.0))
        while not self._stopping.wait(PACE):
            number = self._number()
            try:
                with Session(engine) as session:
                    session.execute(text("insert into marks values (:number)"), {"number": number})
                    session.commit()
            except SQLAlchemyError:
                continue
            self.times.append(time.monotonic())
            self.acknowledged.append(number)
        engine.dispose()

    def _try(self, member: Member) -> None:
        connection: psycopg.Connection[Any] | None = None
        while not self._stopping.wait(PACE):
            number, sent = self._number(), time.monotonic()
            try:
                if connection is None:
                    options = {"connect_timeout": 2, "tcp_user_timeout": 2000, "autocommit": True}
                    connection = psycopg.connect(**member.url, **options)
                connection.execute("insert into marks values (%s)", [number])
            except psycopg.Error:
                if connection is not None and connection.broken:
                    connection = None
                continue
            self.accepted.append((member.name, sent, time.monotonic()))
            self.acknowledged.append(number)
        if connection is not None:
            connection.close()

    def await_written(self) -> None:
        """Return once an application has written from here on."""
        before = len(self.times)
        eventually(lambda: len(self.times) > before + 5, PATIENCE, "a write")

    @property
    def longest_gap(self) -> float:
        """Seconds for which an application could not write."""
        return max((b - a for a, b in zip(self.times, self.times[1:], strict=False)), default=0.0)

    def lost(self) -> set[int]:
        """The numbers that were acknowledged and that the leader does not have."""
        leader = self.trio.leader()
        assert leader is not None
        with psycopg.connect(**leader.url) as connection:
            kept = {number for (number,) in connection.execute("select number from marks")}
        return set(self.acknowledged) - kept

    def turns(self) -> int:
        """How often another member began to take writes: sent after the last that the one before took."""
        turns, leading, last = 0, "", 0.0
        for member, sent, done in sorted(self.accepted, key=lambda each: each[2]):
            if member != leading and sent > last:
                turns, leading = turns + 1, member
            if member == leading:
                last = done
        return turns

    def timeline(self) -> int:
        """PostgreSQL's timeline: 1, and one more for each time that a member was made the leader."""
        leader = self.trio.leader()
        assert leader is not None
        with psycopg.connect(**leader.url) as connection:
            row = connection.execute("select pg_walfile_name(pg_current_wal_lsn())").fetchone()
        assert row is not None
        return int(row[0][:8], 16)

    @contextmanager
    def writing(self) -> Iterator["Writer"]:
        leader = self.trio.leader()
        assert leader is not None
        with psycopg.connect(**leader.url) as connection:
            connection.execute("create table marks (number bigint primary key)")
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stopping.set()
            for thread in self._threads:
                thread.join()
