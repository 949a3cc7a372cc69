"""A real PostgreSQL for these tests, and CherryPy applications on real sockets."""

import http.client
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
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
        eventually(self.answers, 60, f"PostgreSQL ({self.log})")
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

    @contextmanager
    def frozen(self, child: int | None = None) -> Iterator[None]:
        """The server with all its processes, or one child, hangs; the kernel goes on taking data."""
        assert self.process is not None
        stopped = [child or self.process.pid]
        os.kill(stopped[0], signal.SIGSTOP)
        if not child:
            children = Path(f"/proc/{stopped[0]}/task/{stopped[0]}/children").read_text()
            stopped += map(int, children.split())
        try:
            for process in stopped[1:]:
                os.kill(process, signal.SIGSTOP)
            yield
        finally:
            for process in reversed(stopped):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)

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


@pytest.fixture
def pair(make_postgres: Callable[..., Postgres]) -> tuple[Postgres, Postgres]:
    """A server, and a standby that replays nothing, of which it does not know."""
    leader, standby = make_postgres(), make_postgres()
    for server in (leader, standby):
        server.start()
        with server.connect() as connection:
            connection.execute("create table marks (word text)")
    standby.stop()
    (Path(standby.data).resolve() / "standby.signal").touch()
    standby.start()
    return leader, standby


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


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    text: str


@dataclass
class Application:
    port: int
    postgres: object
    log: Path

    def get(
        self,
        path: str,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: str | None = None,
        raw: bool = False,
    ) -> Answer:
        """One request; redirects are not followed. `raw`: the body is not looked at."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            content = response.read()
            return Answer(response.status, response.headers, "" if raw else content.decode())
        finally:
            connection.close()

    def post(self, path: str, headers: dict[str, str] | None = None, body: str = "") -> Answer:
        return self.get(path, "POST", headers, body)

    def hang_up(self, path: str, read: int) -> None:
        """Ask for a response, read some bytes of it and reset the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            while read > 0:
                read -= len(sock.recv(read))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def has(self, word: str) -> bool:
        with self.postgres.connect() as connection:
            return connection.execute("select 1 from words where text = %s", [word]).fetchone() is not None

    def checked_out(self) -> int:
        return int(self.get("/pool").text)


@pytest.fixture(scope="module")
def run() -> Callable[..., AbstractContextManager[Application]]:
    """`with run(postgres, log, pool_size, pool_timeout) as application`: in a process of its own."""

    @contextmanager
    def run(
        postgres, log: Path, pool_size: int = 1, pool_timeout: float = 30, statement: float = 30
    ) -> Iterator[Application]:
        application = Application(free_port(), postgres, log)
        script = Path(__file__).with_name("sql_application.py")
        arguments = (postgres.url, application.port, pool_size, pool_timeout, statement)
        with log.open("wb") as output:
            argv = [sys.executable, str(script), *map(str, arguments)]
            process = subprocess.Popen(argv, stdout=output, stderr=output)

        def listens() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                return application.get("/pool").status == 200
            except OSError:
                return False

        try:
            eventually(listens, 60, f"the application ({log})")
            yield application
        finally:
            process.terminate()
            process.wait(20)

    return run


@pytest.fixture(scope="module")
def application(run, postgres, tmp_path_factory) -> Iterator[Application]:
    with run(postgres, tmp_path_factory.mktemp("application") / "log") as application:
        yield application
