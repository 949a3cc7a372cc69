"""`kirsch secret rotate` with a real PostgreSQL: the old password is good until all have the new one."""

import json
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import psycopg
import pytest
from tests.cli.application import KIRSCH, Application, wait_for

pytestmark = [pytest.mark.services, pytest.mark.slow]

WEBDB = Path(__file__).parents[2] / "examples" / "notes" / "units" / "webdb.container"
# Each request opens a connection of its own. While a file `held` is there, no server starts to serve.
SERVER = """
import http.server, os, pathlib
import psycopg

held = pathlib.Path("held")
if held.exists():
    held.read_bytes()  # a FIFO: until its writer closes it

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url = "host={} user={} password={} dbname=notes".format(
            *(os.environ[name] for name in (
                "POSTGRES_PORT_5432_TCP_ADDR", "POSTGRES_ENV_POSTGRES_USER", "POSTGRES_PASSWORD"))
        )
        with psycopg.connect(url) as connection:
            row = connection.execute("SELECT session_user, current_user").fetchone()
        body = " ".join(row).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass

http.server.ThreadingHTTPServer((os.environ["KIRSCH_ADDRESS"], 8080), Handler).serve_forever()
"""
UNIT = """\
[Service]
ExecStart=python server.py
[X-Kirsch]
Link=webdb:postgres
Secret=notes-database:POSTGRES_PASSWORD
Expose=8080
Health=http://:8080/
"""


def who(application: Application, number: int) -> str:
    """The roles with which an instance opens a connection now: of the session, and as which it works."""
    address = application.units()[f"a@{number}.service"]["address"]
    try:
        with urllib.request.urlopen(f"http://{address}:8080/", timeout=10) as answer:
            return str(answer.read().decode())
    except (OSError, urllib.error.URLError) as error:
        return repr(error)


def logs_in(application: Application, user: str, password: str) -> bool:
    """True if PostgreSQL takes the password."""
    host = application.units()["webdb.container"]["address"]
    try:
        psycopg.connect(host=host, user=user, password=password, dbname="notes").close()
    except psycopg.OperationalError:
        return False
    return True


def login(application: Application) -> object:
    """Who logs in with the secret while a rotation is under way."""
    (row,) = json.loads(application.ok("secret", "list", "--json"))
    return row["login"]


@pytest.fixture
def users(application: Application) -> Application:
    """A database, and two that use it."""
    folder = application.directory
    application.unit("webdb.container", WEBDB.read_text())
    application.unit("a@.service", UNIT)
    (folder / "server.py").write_text(SERVER)
    (folder / "kirsch.toml").write_text(
        'name = "shop"\nstart = ["webdb", "a@1", "a@2"]\n[release]\nhealthy_for = "0s"\n'
    )
    application.ok("up", "-d")
    return application


def test_the_old_password_is_good_until_all_have_the_new_one(users: Application):
    file = users.directory / ".kirsch/secrets/notes-database"
    old = file.read_text()
    held = users.directory / "held"
    subprocess.run(["mkfifo", str(held)], check=True)
    rotation = subprocess.Popen(
        [*KIRSCH, "secret", "rotate", "notes-database"],
        cwd=users.directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    # The first instance has the new password, and is held as it starts; its client goes away.
    with held.open("wb"):
        rotation.kill()
        rotation.communicate()
        new = file.read_text()
        assert new != old
        assert login(users) == {"owner": "notes", "role": "notes_login_1"}
        assert who(users, 2) == "notes notes"
        assert (logs_in(users, "notes", old), logs_in(users, "notes", new)) == (True, False)
        assert logs_in(users, "notes_login_1", new)
        assert users.ok("run", "--link", "webdb:p", "psql", "-Atc", "SELECT current_user") == "notes\n"
        refused = subprocess.run(
            [*KIRSCH, "secret", "set", "notes-database"],
            cwd=users.directory, input="x", capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert refused.returncode == 1
        assert "`kirsch secret rotate notes-database` ends that first" in refused.stderr
        held.unlink()
    # The release goes on by itself, and the rotation when it is said again.
    wait_for(lambda: who(users, 1) == who(users, 2) == "notes_login_1 notes", "both have the new password")
    wait_for(lambda: json.loads(users.ok("releases", "--json"))[0]["state"] == "done", "the release is done")
    assert logs_in(users, "notes", old)
    said = users.ok("secret", "rotate", "notes-database")
    assert said.splitlines() == [
        "A rotation of notes-database was interrupted; it goes on",
        "webdb.container has another password, in secret notes-database; restarted a@1.service a@2.service",
    ]
    assert file.read_text() == new
    assert login(users) is None
    assert (logs_in(users, "notes", old), logs_in(users, "notes", new)) == (False, True)
    assert who(users, 1) == who(users, 2) == "notes_login_1 notes"
    # Who starts from now on logs in as the owner; the next rotation takes the role away.
    users.ok("restart", "a@1")
    assert who(users, 1) == "notes notes"
    users.ok("secret", "rotate", "notes-database")
    assert (logs_in(users, "notes", new), logs_in(users, "notes_login_1", new)) == (False, False)
    assert who(users, 1) == who(users, 2) == "notes_login_2 notes"
    query = "SELECT rolname FROM pg_roles WHERE rolname LIKE 'notes%' ORDER BY 1"
    roles = users.ok("run", "--link", "webdb:p", "psql", "-Atc", query)
    assert roles.split() == ["notes", "notes_login_2"]


def test_what_cannot_be_rotated_is_said_before_anything_is_changed(users: Application):
    file = users.directory / ".kirsch/secrets/notes-database"
    old = file.read_text()
    said = users.fails("secret", "rotate", "nothing")
    assert said.startswith("secret nothing is not set")
    users.unit("b.service", UNIT.replace("Link=webdb:postgres\n", "").replace("Health=http://:8080/\n", ""))
    (users.directory / "kirsch.toml").write_text('name = "shop"\nstart = ["webdb", "a@1", "a@2", "b"]\n')
    users.ok("up", "-d")
    said = users.fails("secret", "rotate", "notes-database")
    assert said.startswith("b.service uses secret notes-database and is not linked to webdb.container")
    assert file.read_text() == old
    assert login(users) is None
