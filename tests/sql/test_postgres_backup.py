"""images/postgres-ha/backups: base backups and WAL by the real pgBackRest, and the database as it was."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.certificate import certify
from tests.cluster.etcd_server import needs_etcd
from tests.deadline import eventually
from tests.port import free_port
from tests.sql.patroni_members import PATIENCE, SERVE, Member, confined_etcd, image_program, member_command

DAY = 86400


class TestDue:
    """The type of the base backup that is due."""

    @pytest.mark.parametrize(
        ("taken", "expected"),
        [
            ([], "full"),
            ([("full", 0.5)], ""),
            ([("full", 1)], "diff"),
            ([("full", 2), ("diff", 0.5)], ""),
            ([("full", 7), ("diff", 0.5)], "full"),
            ([("diff", 0.5)], "full"),
            ([("full", 9), ("full", 3), ("diff", 1.5)], "diff"),
        ],
    )
    def test_full_each_week_and_differential_each_day(self, taken: list[tuple[str, float]], expected: str):
        now = 100.0 * DAY
        kept = [{"type": kind, "timestamp": {"stop": now - days * DAY}} for kind, days in taken]
        assert image_program("backups").due(kept, now) == expected


ARCHIVER = {
    "last_archived_wal": "W",
    "last_archived_time": "2026-12-01T14:00",
    "last_failed_time": None,
    "waiting": 2 << 24,
}


class TestStatus:
    """Words that a person reads of backups."""

    def test_nothing_yet(self):
        backups = image_program("backups")
        nothing = dict.fromkeys(ARCHIVER)
        lines = backups.lines_of({"errors": [], **backups.kept([]), **backups.archived(nothing)})
        assert lines == ["Last backup: none yet; `kirsch db backup` makes one", "No WAL archived yet"]
        assert backups.lines_of(None)[0].startswith("Backups: none; set PGBACKREST_REPO1_PATH")

    def test_a_failure_counts_until_a_later_segment_came_through(self):
        backups = image_program("backups")
        later = ARCHIVER | {"last_failed_time": "2026-12-01T14:01"}
        earlier = ARCHIVER | {"last_failed_time": "2026-12-01T13:59"}
        assert backups.archived(earlier)["failed"] is None
        # The repository is away as well.
        lines = backups.lines_of({"errors": ["the repository: gone"], **backups.archived(later)})
        assert lines[0] == "Backups: the repository: gone"
        assert "Archiving fails, last at 2026-12-01T14:01: 34 MB of WAL wait" in lines[-1]


def test_a_slot_that_nobody_uses_keeps_wal():
    line = image_program("backups").slots_line
    used, left = (
        {"name": "webdb_2", "active": True, "kept": 0},
        {"name": "webdb_3", "active": False, "kept": 34e6},
    )
    assert line([]) == "Replication slots: none"
    assert line([used, left]) == (
        "Replication slots: webdb_2 is used; "
        "webdb_3 is not used, and 34 MB of WAL wait on the leader's disk for it"
    )


def test_a_restore_leaves_room_for_what_runs():
    backups = image_program("backups")
    kept = [{"info": {"size": 400_000_000}}, {"info": {"size": 300_000_000}}]
    backups.require_space(kept, 800_000_000)
    with pytest.raises(backups.BackupError, match=r"799 MB are free .* 800 MB"):
        backups.require_space(kept, 799_000_000)


def debian_postgres() -> str:
    """The folder of the PostgreSQL that Debian's pgBackRest knows."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    return str(found[-1].parent) if found else ""


needs_pgbackrest = pytest.mark.skipif(
    not (shutil.which("pgbackrest") and debian_postgres()),
    reason="needs pgBackRest and its PostgreSQL (apt-get install pgbackrest postgresql)",
)


TLS = """\
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen store
    bind {address}:{port} ssl crt {pair}
    server moto {address}:{plain}
"""


class Database:
    """Members of databases with one repository."""

    def __init__(self, folder: Path, account: dict[str, Any]) -> None:
        self.folder = folder
        self.account = account
        self.repository = folder / "repository"
        self.repository.mkdir()
        if owner := member_command()[0]:
            shutil.chown(self.repository, owner)
        self.network = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}"
        self.members: list[Member] = []

    def member(self, number: int, **variables: str) -> Member:
        """Start a database of one member; return it once it leads."""
        made = Member(self.folder, number, f"{self.network}.{number}", self.account)
        programs = debian_postgres()
        made.environment |= {"PGBACKREST_REPO1_PATH": str(self.repository), **variables}
        made.environment |= {"POSTGRES_BIN": programs, "PATH": f"{programs}:{made.environment['PATH']}"}
        made.environment["PATRONICTL_CONFIG_FILE"] = str(made.folder / "patroni.json")
        self.members.append(made)
        made.start()
        eventually(lambda: made.ask("/primary"), PATIENCE, "a leader")
        eventually(lambda: self.can_connect(made), PATIENCE, "the owner's database")
        return made

    def can_connect(self, member: Member) -> bool:
        try:
            own = member.url | {"password": member.environment["POSTGRES_PASSWORD"]}
            psycopg.connect(**own, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def query(self, member: Member, statement: str) -> Any:
        with psycopg.connect(**member.url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall()[0][0] if cursor.description else None

    def run(self, member: Member, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command as it would be in the member's container."""
        command = [*member_command()[1], *words]
        return subprocess.run(
            command, env=member.environment, cwd="/", capture_output=True, text=True, timeout=PATIENCE
        )

    def backups(self, member: Member, *words: str) -> str:
        done = self.run(member, "backups", *words)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def close(self) -> None:
        for member in self.members:
            member.kill()


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="kirsch-backup-"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def database(folder: Path) -> Iterator[Database]:
    etcd, account = confined_etcd(folder)
    database = Database(folder, account)
    try:
        yield database
    finally:
        database.close()
        etcd.stop()


@needs_etcd
@needs_pgbackrest
@pytest.mark.services
@pytest.mark.soak
@pytest.mark.timeout(600)
def test_rows_are_back_from_before_they_were_deleted(database: Database):
    """Beside the database, and in a new one."""
    member = database.member(1)

    def archive() -> Any:
        return json.loads(database.backups(member, "status", "--json"))["archive"]

    database.query(member, "create table notes (id int primary key)")
    database.query(member, "insert into notes select generate_series(1, 100)")
    database.backups(member, "take")
    # A backup that is killed half way is no backup, and the next one is made.
    command = [*member_command()[1], "backups", "take"]
    killed = subprocess.Popen(command, env=member.environment, cwd="/", start_new_session=True)
    eventually(lambda: list((member.folder / "pgbackrest").glob("*backup*.lock")), PATIENCE, "a backup")
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait(PATIENCE)
    database.backups(member, "take", "--type=diff")
    # What came after the base backup is in the WAL only.
    database.query(member, "insert into notes select generate_series(101, 150)")
    # pgBackRest knows the second in which a backup ended, and takes one that ended before.
    ended = f"'{archive()['backup']['finished']}'::timestamptz + interval '1 s'"
    eventually(lambda: database.query(member, f"select clock_timestamp() > {ended}"), PATIENCE, "a second")
    before = str(database.query(member, "select clock_timestamp()::text"))
    database.query(member, "delete from notes")
    segment = database.query(member, "select pg_walfile_name(pg_switch_wal())")

    eventually(lambda: (archive()["wal"] or "") >= segment, PATIENCE, "the WAL archived")
    known = archive()
    assert (known["backup"]["type"], known["failed"], known["errors"]) == ("diff", None, [])
    count = ["psql", "-XAtc", "select count(*) from notes"]
    assert database.backups(member, "restore", "--to", before, *count) == "150\n"
    assert database.backups(member, "restore", *count) == "0\n"
    assert database.query(member, "select count(*) from notes") == 0, "the running one is as it was"
    report = database.backups(member, "restore")
    assert report.startswith("restored webdb as of latest in ")
    assert "read all of it: 3 databases" in report
    assert not (member.folder / "restored").exists()
    # What is scheduled runs in a container of its own, which is no member.
    beside = Member(database.folder, 3, "", {})
    beside.environment = member.environment | {
        "PGDATA": str(beside.folder / "data"),
        "PATRONICTL_CONFIG_FILE": str(beside.folder / "patroni.json"),
        "KIRSCH_UNIT": "backup-check.container",
        "POSTGRES_CLUSTER": "webdb",
    }
    assert database.backups(beside, "restore").startswith("restored webdb as of latest in ")
    later = str(database.query(member, "select (clock_timestamp() + interval '1 h')::text"))
    future = database.run(member, "backups", "restore", "--to", later, *count)
    assert (future.returncode, future.stdout) == (1, "")
    assert future.stderr.splitlines()[-1] == (
        f"postgres: nothing is archived up to {later}: choose an earlier time, or none for the last"
    )
    past = database.run(member, "backups", "restore", "--to", "2001-01-01 00:00:00+00", *count)
    assert "no backup was complete at 2001-01-01" in past.stderr

    new = database.member(
        2,
        POSTGRES_CLUSTER="copy",
        # The account may write below its own service's prefix.
        POSTGRES_NAMESPACE="/postgres/webdb",
        POSTGRES_RESTORE_TO=before,
        POSTGRES_RESTORE_FROM="webdb",
        POSTGRES_PASSWORD="another",
    )
    with psycopg.connect(**new.url | {"password": "another"}) as connection:
        assert connection.execute("select count(*) from notes").fetchone() == (150,)
    # Its stanza is its own, and it is backed up as the first is.
    database.backups(new, "take")
    assert json.loads(database.backups(new, "status", "--json"))["archive"]["backup"]
    assert database.backups(member, "restore", "--to", before, *count) == "150\n"


def keep_elsewhere(database: Database, address: str, port: int, authority: Path) -> None:
    """Back up into the bucket `backups` of an object store over TLS, encrypted, and restore from it."""
    member = database.member(
        1,
        PGBACKREST_REPO1_TYPE="s3",
        PGBACKREST_REPO1_PATH="/webdb",
        PGBACKREST_REPO1_S3_URI_STYLE="path",
        PGBACKREST_REPO1_S3_ENDPOINT=address,
        PGBACKREST_REPO1_S3_REGION="eu-1",
        PGBACKREST_REPO1_S3_BUCKET="backups",
        PGBACKREST_REPO1_S3_KEY="key",
        PGBACKREST_REPO1_S3_KEY_SECRET="secret",
        PGBACKREST_REPO1_STORAGE_PORT=str(port),
        PGBACKREST_REPO1_STORAGE_CA_FILE=str(authority),
        PGBACKREST_REPO1_CIPHER_TYPE="aes-256-cbc",
        PGBACKREST_REPO1_CIPHER_PASS="a password of the repository",
    )
    database.query(member, "create table notes as select generate_series(1, 150) as id")
    database.backups(member, "take")
    database.query(member, "delete from notes where id > 100")
    segment = database.query(member, "select pg_walfile_name(pg_switch_wal())")

    def archived() -> bool:
        known = json.loads(database.backups(member, "status", "--json"))["archive"]
        return bool((known["wal"] or "") >= segment)

    eventually(archived, PATIENCE, "the WAL archived")
    assert database.backups(member, "restore", "psql", "-XAtc", "select count(*) from notes") == "100\n"


@needs_etcd
@needs_pgbackrest
@pytest.mark.skipif(not shutil.which("moto_server"), reason="needs moto (pip install 'moto[s3,server]')")
@pytest.mark.services
@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_repository_may_be_an_object_store(database: Database):
    """S3's interface as moto has it."""
    address, port, plain = f"{database.network}.9", free_port(), free_port()
    # pgBackRest looks for an address among the names.
    certificate = certify(database.folder, f"IP:{address}", address)
    certificate.file.chmod(0o644)
    # moto's own TLS ends connections without saying so, which pgBackRest takes for an attack.
    pair = database.folder / "pair.pem"
    pair.write_text(certificate.file.read_text() + certificate.key.read_text())
    configuration = database.folder / "haproxy.cfg"
    configuration.write_text(TLS.format(address=address, port=port, plain=plain, pair=pair))
    commands = [
        ["moto_server", "--host", address, "--port", str(plain)],
        ["haproxy", "-db", "-f", str(configuration)],
    ]
    null = subprocess.DEVNULL
    servers = [subprocess.Popen(command, stdout=null, stderr=null) for command in commands]
    try:
        where = f"https://{address}:{port}/backups"

        def made() -> bool:
            request = urllib.request.Request(where, method="PUT")
            try:
                with urllib.request.urlopen(request, timeout=20, context=certificate.client) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        eventually(made, PATIENCE, "a bucket")
        keep_elsewhere(database, address, port, certificate.file)
        with urllib.request.urlopen(where, timeout=20, context=certificate.client) as answer:
            assert b"webdb/backup/webdb/" in answer.read()
    finally:
        for server in servers:
            server.kill()
            server.wait()


@needs_etcd
@needs_pgbackrest
@pytest.mark.skipif(
    not shutil.which("versitygw"),
    reason="needs Versity's S3 gateway (go install github.com/versity/versitygw/cmd/versitygw@latest)",
)
@pytest.mark.services
@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_repository_may_be_an_object_store_that_people_run(database: Database):
    """A server that checks signatures, with TLS of its own."""
    address, port = f"{database.network}.9", free_port()
    certificate = certify(database.folder, f"IP:{address}", address)
    certificate.file.chmod(0o644)
    bucket = database.folder / "objects/backups"
    bucket.mkdir(parents=True)
    command = [
        "versitygw",
        "--port",
        f"{address}:{port}",
        "--region",
        "eu-1",
        "--access=key",
        "--secret=secret",
    ]
    command += [f"--cert={certificate.file}", f"--key={certificate.key}", "posix", str(bucket.parent)]
    log = database.folder / "versitygw.log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output)
    try:

        def listens() -> bool:
            with suppress(OSError), socket.create_connection((address, port), 5):
                return True
            return False

        eventually(listens, PATIENCE, "the object store")
        keep_elsewhere(database, address, port, certificate.file)
        assert list(bucket.glob("webdb/backup/webdb/*/bundle/*")), log.read_text()
        kept = [path.read_bytes() for path in bucket.rglob("*") if path.is_file()]
        assert not any(b"notes" in each for each in kept), "it is encrypted"
    finally:
        server.kill()
        server.wait()


def test_without_a_repository_it_is_said_what_to_set(tmp_path: Path):
    done = subprocess.run(
        [SERVE, "backups", "take"],
        env={"PATH": "/usr/bin:/bin", "PGDATA": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (
        1,
        "postgres: no place for backups is named: set PGBACKREST_REPO1_PATH, or what else pgBackRest needs\n",
    )
