"""A real PostgreSQL and the real application, each on a loopback address of its own, and an HTTP client."""

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.deadline import eventually

NOTES = Path(__file__).parents[2] / "examples" / "notes"
PASSWORD = "cherry-stone-37"
PATIENCE = 60


def find_address(port: int) -> str:
    """A loopback address where nobody listens on `port`."""
    while True:
        address = "127.{}.{}.{}".format(*(random.randint(1, 254) for _ in range(3)))
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((address, port))
            return address


@dataclass
class Answer:
    """A response, read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """Requests to one instance, each on a connection of its own unless `connection` is given."""

    address: str
    port: int = 8080

    def __call__(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, **fields: str
    ) -> Answer:
        """Send `body` (a value: as JSON; bytes: as they are); `if_match="…"` is the header If-Match."""
        sent = {name.replace("_", "-"): value for name, value in fields.items()} | (headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection(self.address, self.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def write(self, text: str) -> dict[str, Any]:
        """Write a note."""
        answer = self("POST", "/api/notes", {"text": text})
        assert answer.status == 201, answer.body
        return answer.json()

    def answers(self) -> bool:
        try:
            return self("GET", "/readyz").status == 200
        except OSError:
            return False

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"


@dataclass
class Database:
    """A PostgreSQL server, which can be stopped and started again."""

    folder: Path
    address: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def link(self) -> dict[str, str]:
        """What Link=webdb:postgres and ExposeEnv= give a unit, and its password."""
        return {
            "POSTGRES_PORT_5432_TCP_ADDR": self.address,
            "POSTGRES_PORT_5432_TCP_PORT": "5432",
            "POSTGRES_ENV_POSTGRES_USER": "notes",
            "POSTGRES_ENV_POSTGRES_DB": "notes",
            "POSTGRES_PASSWORD": PASSWORD,
        }

    def connect(self, name: str = "notes") -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=self.address, port=5432, user="notes", password=PASSWORD, dbname=name, autocommit=True
        )

    def start(self) -> None:
        names = {"POSTGRES_USER": "notes", "POSTGRES_DB": "notes", "POSTGRES_PASSWORD": PASSWORD}
        place = {"PGDATA": str(self.folder / "data"), "KIRSCH_ADDRESS": self.address}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kirsch.sql.postgres"],
                env=os.environ | names | place,
                stderr=log,
                stdout=log,
            )
        eventually(self.answers, PATIENCE, "PostgreSQL")

    def stop(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(PATIENCE)
            self.process = None

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True


@dataclass
class Instances:
    """Instances of the application that this test session has started."""

    log: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def launch(self, environment: dict[str, str], **options: Any) -> subprocess.Popen[Any]:
        """`python -m webapp` with these variables and no others that concern it."""
        inherited = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("POSTGRES", "KIRSCH", "DATABASE", "PORT"))
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "webapp"], cwd=NOTES, env=inherited | environment, **options
        )
        self.processes.append(process)
        return process

    def start(self, link: dict[str, str], instance: str = "1", address: str | None = None) -> Client:
        """An instance that is ready to answer."""
        address = address or find_address(8080)
        unit = {
            "KIRSCH_ADDRESS": address,
            "KIRSCH_UNIT": f"notes@{instance}.container",
            "KIRSCH_INSTANCE": instance,
            "NOTES_DRAIN": "0",
        }
        with self.log.open("ab") as log:
            process = self.launch(unit | link, stdout=log, stderr=log)
        client = Client(address)

        def ready() -> bool:
            assert process.poll() is None, self.log.read_text()
            return client.answers()

        eventually(ready, PATIENCE, "the application")
        return client

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(PATIENCE)


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    server = Database(tmp_path_factory.mktemp("postgres"), find_address(5432))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def instances(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instances]:
    started = Instances(tmp_path_factory.mktemp("notes") / "log")
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="session")
def application(database: Database, instances: Instances) -> Client:
    return instances.start(database.link)


@pytest.fixture
def client(application: Client, database: Database) -> Client:
    """The application with no notes in it."""
    with database.connect() as connection:
        connection.execute("TRUNCATE notes")
    return application


@pytest.fixture
def new_database(database: Database) -> Iterator[dict[str, str]]:
    """The link's variables for a database that nothing has been put in."""
    name = f"notes_{random.randrange(1 << 40):x}"
    with database.connect() as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield database.link | {"POSTGRES_ENV_POSTGRES_DB": name}
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def free_address() -> Callable[[int], str]:
    return find_address
