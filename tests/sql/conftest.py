"""A real PostgreSQL for these tests, and CherryPy applications on real sockets."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from tests.deadline import eventually
from tests.port import free_port

ADDRESS = "127.0.0.1"
PASSWORD = "s3cret'\"% ü"


@dataclass
class Postgres:
    """`python -m kirsch.sql.postgres` with a data folder of its own."""

    data: Path
    port: int = field(default_factory=free_port)
    user: str = "notes"
    database: str = "notes"
    environment: dict[str, str] = field(default_factory=dict)
    account: str | None = None
    python: str = sys.executable
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.data.with_name(f"{self.data.name}.log")

    @property
    def url(self) -> str:
        from sqlalchemy import URL

        url = URL.create("postgresql", self.user, PASSWORD, ADDRESS, self.port, self.database)
        return url.render_as_string(hide_password=False)

    def launch(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start the module, with the variables of a first start unless others are given."""
        variables = {
            "POSTGRES_USER": self.user,
            "POSTGRES_PASSWORD": PASSWORD,
            "POSTGRES_DB": self.database,
            "PGDATA": str(self.data),
            "PGPORT": str(self.port),
            **self.environment,
            **environment,
        }
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.python, "-m", "kirsch.sql.postgres", *arguments],
                env=kept | {name: value for name, value in variables.items() if value},
                stdout=log,
                stderr=log,
                cwd="/",
                user=self.account,
                start_new_session=True,
            )
        return self.process

    def start(self, *arguments: str) -> "Postgres":
        self.launch(*arguments)
        eventually(self.answers, what=f"PostgreSQL ({self.log})")
        return self

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def connect(self, **options: object) -> psycopg.Connection:
        settings = {"host": ADDRESS, "port": self.port, "user": self.user, "dbname": self.database}
        return psycopg.connect(**settings | {"password": PASSWORD, "autocommit": True} | options)

    def stop(self, signum: int = signal.SIGINT) -> int:
        assert self.process is not None
        self.process.send_signal(signum)
        code = self.process.wait(30)
        self.process = None
        return code

    def restart(self) -> None:
        self.stop()
        self.start()


@pytest.fixture
def make_postgres() -> Iterator[Callable[..., Postgres]]:
    """Makes a Postgres that is not started; whatever runs at the end of the test is ended."""
    made: list[Postgres] = []

    def make(**options: object) -> Postgres:
        made.append(Postgres(options.pop("data", None) or open_folder() / "data", **options))
        return made[-1]

    yield make
    for postgres in made:
        end(postgres)
        shutil.rmtree(postgres.data.parent)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The server that the tests of this worker share."""
    server = Postgres(open_folder() / "data")
    try:
        yield server.start()
    finally:
        end(server)
        shutil.rmtree(server.data.parent)


def open_folder() -> Path:
    """A temporary folder that another account may enter; those of pytest are for root only."""
    folder = Path(tempfile.mkdtemp(prefix="kirsch-sql-"))
    folder.chmod(0o755)
    return folder


def end(postgres: Postgres) -> None:
    if postgres.process is not None and postgres.process.poll() is None:
        postgres.stop()
