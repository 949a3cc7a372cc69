"""The images postgres and haproxy, as their users expect them."""

import gzip
import http.client
import json
import shutil
import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from tests.containers import page_or_none
from tests.deadline import eventually
from tests.image.conftest import IMAGES, Podman
from tests.port import free_port

from kirsch.cluster.provision.podman import limits, ulimits

EXAMPLES = IMAGES.parent / "examples"
CONFIGURATION = """\
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
frontend web
    bind :8080
    default_backend notes
backend notes
    balance roundrobin
"""

pytestmark = [pytest.mark.machines, pytest.mark.soak, pytest.mark.root, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def postgres() -> str:
    Podman("none").kirsch("image", "build", IMAGES / "postgres", "-t", "kirsch/postgres")
    return "localhost/kirsch/postgres"


@pytest.fixture(scope="module")
def haproxy() -> str:
    Podman("none").kirsch("image", "build", IMAGES / "haproxy", "-t", "kirsch/haproxy")
    return "localhost/kirsch/haproxy"


def asked(podman: Podman, name: str, query: str, **variables: str) -> str:
    """What a database answers over TCP."""
    words = [word for key, value in variables.items() for word in ("--env", f"{key}={value}")]
    argv = ["exec", *words, name, "psql", "--no-psqlrc", "--tuples-only", "--no-align", "--command", query]
    return podman.podman(*argv)


def ready(podman: Podman, name: str) -> None:
    def answers() -> bool:
        done = podman._run(["podman", "exec", name, "pg_isready", "--quiet", "--host", "127.0.0.1"])
        return done.returncode == 0

    eventually(answers, 90, f"the database; {podman._run(['podman', 'logs', name]).stderr}")


def test_the_official_images_variables_make_a_database_that_stays(podman, postgres, tmp_path):
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "1-table.sql").write_text("CREATE TABLE note (text text);\n")
    (scripts / "2-row.sh").write_text(
        "psql --quiet --command \"INSERT INTO note VALUES ('$POSTGRES_USER')\"\n"
    )
    secret = tmp_path / "password"
    secret.write_text('it\'s "secret"\n')
    scripts.chmod(0o755)
    volume = f"{podman.prefix}-data"
    options = [
        "--env", "POSTGRES_USER=notes", "--env", "POSTGRES_DB=take", "--env",
        "POSTGRES_PASSWORD_FILE=/secret", "--volume", f"{secret}:/secret:ro",
        "--volume", f"{scripts}:/docker-entrypoint-initdb.d:ro", "--volume",
        f"{volume}:/var/lib/postgresql/data", "--read-only", "--cap-drop", "all",
    ]  # fmt: skip
    tcp = {"PGHOST": "127.0.0.1", "PGUSER": "notes", "PGDATABASE": "take"}
    try:
        name = podman.run(postgres, *options)
        ready(podman, name)
        assert asked(podman, name, "SELECT * FROM note", **tcp, PGPASSWORD='it\'s "secret"') == "notes"
        refused = podman._run(["podman", "exec", "--env", "PGPASSWORD=x", name, "psql", "-h", "127.0.0.1",
                               "-U", "notes", "take", "-c", "SELECT 1"])  # fmt: skip
        assert "password authentication failed" in refused.stderr
        podman.podman("healthcheck", "run", name)
        podman.podman("stop", "--time", "60", name)
        assert podman.podman("inspect", name, "--format", "{{.State.ExitCode}}") == "0"
        again = podman.run(postgres, "--volume", f"{volume}:/var/lib/postgresql/data")
        ready(podman, again)
        assert asked(podman, again, "SELECT * FROM note", PGUSER="notes", PGDATABASE="take") == "notes"
    finally:
        podman.clean()
        podman.podman("volume", "rm", "--force", volume)


def test_the_image_of_kirsch_runs_the_application_of_a_folder(podman, tmp_path):
    podman.kirsch("image", "build", IMAGES / "kirsch", "-t", f"{podman.prefix}-kirsch")
    port = free_port()
    (tmp_path / "Procfile").write_text(f"web: python -m http.server --bind 127.0.0.1 {port}\n")
    name = podman.run(f"{podman.prefix}-kirsch", "--network", "host", "--volume", f"{tmp_path}:/app")

    def answers() -> bool:
        return page_or_none(f"http://127.0.0.1:{port}/Procfile") == (tmp_path / "Procfile").read_text()

    eventually(answers, 60, f"the application; {podman.said(name)}")
    (unit,) = json.loads(podman.podman("exec", name, "kirsch", "list-units", "--json"))
    assert (unit["name"], unit["active"]) == ("web.service", "active")
    podman.podman("stop", "--time", "60", name)
    assert "web.service stopped" in podman.said(name)
    assert podman.podman("inspect", name, "--format", "{{.State.ExitCode}}") == "0"


def test_scripts_are_bashs_as_with_the_official_image(podman, postgres, tmp_path):
    """One that is not executable is read, and may use what is not set."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    scripts.chmod(0o755)
    (scripts / "1.sh").write_text(
        "#!/usr/bin/env bash\nset -e\nnames=(ali zoe)\n"
        'if [[ -z $NOT_SET ]]; then psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" '
        '--dbname "$POSTGRES_DB" <<-EOSQL\n\tCREATE TABLE ${names[1]} (id int);\nEOSQL\nfi\n'
    )
    (scripts / "2.sql.gz").write_bytes(gzip.compress(b"INSERT INTO zoe VALUES (7);\n"))
    volume = f"{scripts}:/docker-entrypoint-initdb.d:ro"
    name = podman.run(postgres, "--env", "POSTGRES_PASSWORD=x", "--volume", volume)
    ready(podman, name)
    assert asked(podman, name, "SELECT * FROM zoe", PGUSER="postgres") == "7"


def test_a_torn_dump_makes_no_database(podman, postgres, tmp_path):
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    scripts.chmod(0o755)
    lines = "".join(f"SELECT {number};\n" for number in range(20_000))
    (scripts / "1.sql.gz").write_bytes(gzip.compress(lines.encode())[:-2000])
    volume = f"{scripts}:/docker-entrypoint-initdb.d:ro"
    name = podman.run(postgres, "--env", "POSTGRES_PASSWORD=x", "--volume", volume)
    podman.podman("wait", name)
    assert podman.podman("inspect", name, "--format", "{{.State.ExitCode}}") != "0"
    assert "1.sql.gz" in podman.said(name)
    assert "made the database" not in podman.said(name)


def test_without_a_password_no_database_is_made(podman, postgres):
    name = podman.run(postgres)
    podman.podman("wait", name)
    logs = podman._run(["podman", "logs", name])
    assert "set POSTGRES_PASSWORD" in logs.stderr
    assert podman.podman("inspect", name, "--format", "{{.State.ExitCode}}") == "1"


def test_a_value_that_is_given_twice_is_refused(podman, postgres):
    twice = ("--env", "POSTGRES_USER=ali", "--env", "POSTGRES_USER_FILE=/etc/hostname")
    name = podman.run(postgres, *twice, "--env", "POSTGRES_PASSWORD=x")
    podman.podman("wait", name)
    assert (
        podman.said(name) == "postgres: POSTGRES_USER and POSTGRES_USER_FILE are both set: set one of them\n"
    )


def test_a_folder_with_other_things_is_left_alone(podman, postgres, tmp_path):
    (tmp_path / "letter").write_text("dear")
    tmp_path.chmod(0o777)
    volume = f"{tmp_path}:/var/lib/postgresql/data:U"
    name = podman.run(postgres, "--env", "POSTGRES_PASSWORD=x", "--volume", volume)
    podman.podman("wait", name)
    assert "is not empty" in podman._run(["podman", "logs", name]).stderr
    assert [path.name for path in Path(tmp_path).iterdir()] == ["letter"]


def test_another_command_is_run_as_it_is(podman, postgres):
    words = podman.podman("run", "--rm", *ulimits(limits()), postgres, "psql", "--version")
    assert words.startswith("psql (PostgreSQL)")


def test_the_balancer_runs_haproxy_as_its_user(podman, haproxy, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "haproxy.cfg").write_text(CONFIGURATION)
    options = ["--volume", f"{tmp_path / 'haproxy.cfg'}:/etc/haproxy/haproxy.cfg:ro", "--read-only"]
    command = ["--config", "haproxy.cfg", "--backend", "notes=notes:http"]
    silent = podman._run(
        ["podman", "--runtime", "runc", "run", "--rm", *ulimits(limits()), *options, haproxy, *command]
    )
    assert "KIRSCH_ENDPOINTS is not set" in silent.stderr
    name = f"{podman.prefix}-lb"
    podman.podman(
        "run", "--detach", "--name", name, *ulimits(limits()), *options, "--cap-drop", "all",
        "--env", "KIRSCH_ENDPOINTS=/run/none", "--publish", f"{port}:8080", haproxy, *command,
    )  # fmt: skip

    def status() -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0

    # No endpoint is ready, as nobody gives any.
    eventually(lambda: status() == 503, what="HAProxy")
    podman.podman("healthcheck", "run", name)
    assert podman.podman("exec", name, "id", "--user", "--name") == "haproxy"
    podman.podman("stop", name)
    assert podman.podman("inspect", name, "--format", "{{.State.ExitCode}}") == "0"


class Endpoints:
    """The endpoints socket, as kirschd serves it, alone in a folder."""

    def __init__(self, folder: Path) -> None:
        self.line = b'{"endpoints": []}\n'
        self.clients: list[socket.socket] = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder / "endpoints.sock"))
        (folder / "endpoints.sock").chmod(0o666)
        self.listener.listen()
        self.thread = threading.Thread(target=self.accept)
        self.thread.start()

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self.clients.append(client)
                client.sendall(self.line)

    def set(self, *addresses: str) -> None:
        """These are ready, each a unit of its own."""
        ports = [{"number": 9100, "protocol": "tcp", "name": "http"}]
        endpoints = [
            {
                "service": "web",
                "unit": f"web@{at}.service",
                "slot": "-",
                "address": at,
                "ports": ports,
                "ready": True,
            }
            for at in addresses
        ]
        self.line = json.dumps({"endpoints": endpoints}).encode() + b"\n"
        for client in self.clients:
            client.sendall(self.line)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        for each in (self.listener, *self.clients):
            each.close()


def test_the_balancer_follows_live_servers(podman, haproxy, tmp_path):
    """Servers come and go while it runs; it reads a socket in a folder that is mounted read-only."""
    (tmp_path / "haproxy.cfg").write_text(CONFIGURATION)
    folder = Path(tempfile.mkdtemp())  # a socket's path is short, pytest's are long
    folder.chmod(0o755)
    endpoints = Endpoints(folder)
    name = f"{podman.prefix}-follows"
    bounds = ulimits(limits())
    try:
        addresses = []
        for number in (1, 2):
            web = f"{podman.prefix}-web{number}"
            script = f"mkdir /tmp/w; cd /tmp/w; echo web{number} >who; exec python3 -m http.server 9100"
            podman.podman(
                "run", "--detach", "--name", web, *bounds, "--entrypoint", "sh", haproxy, "-c", script
            )
            addresses.append(podman.podman("inspect", web, "--format", "{{.NetworkSettings.IPAddress}}"))
        port = free_port()
        podman.podman(
            "run", "--detach", "--name", name, *bounds, "--read-only", "--cap-drop", "all",
            "--volume", f"{tmp_path / 'haproxy.cfg'}:/etc/haproxy/haproxy.cfg:ro",
            "--volume", f"{folder}:/run/kirsch:ro", "--env", "KIRSCH_ENDPOINTS=/run/kirsch/endpoints.sock",
            "--publish", f"{port}:8080", haproxy, "--config", "haproxy.cfg", "--backend", "notes=web:http",
        )  # fmt: skip

        def who() -> str:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            try:
                connection.request("GET", "/who")
                answer = connection.getresponse()
                return answer.read().decode().strip() if answer.status == 200 else str(answer.status)
            except (OSError, http.client.HTTPException):
                return ""
            finally:
                connection.close()

        def all_who() -> set[str]:
            return {who() for _ in range(6)}

        eventually(lambda: who() == "503", 60, "HAProxy")
        endpoints.set(addresses[0])
        eventually(lambda: all_who() == {"web1"}, 60, "the first server")
        endpoints.set(*addresses)
        eventually(lambda: all_who() == {"web1", "web2"}, 60, "both servers")
        endpoints.set(addresses[1])
        eventually(lambda: all_who() == {"web2"}, 60, "the second alone")
    finally:
        endpoints.close()
        podman.clean()
        shutil.rmtree(folder)


def test_the_notes_run_in_containers_with_a_database_in_another(podman, postgres, web):
    """What the articles' second one does by hand."""
    podman.kirsch("image", "build", EXAMPLES / "notes", "-t", podman.prefix)
    database = podman.run(
        postgres, "--env", "POSTGRES_USER=notes", "--env", "POSTGRES_PASSWORD=x", "--env", "POSTGRES_DB=notes"
    )
    ready(podman, database)
    at = podman.podman("inspect", database, "--format", "{{.NetworkSettings.IPAddress}}")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    notes = podman.run(
        podman.prefix, "--publish", f"{port}:8080", "--read-only", "--cap-drop", "all",
        "--env", f"DATABASE_URL=postgresql://notes:x@{at}:5432/notes",
    )  # fmt: skip

    def asked(method: str, path: str, body: str = "") -> tuple[int, str]:
        connection = http.client.HTTPConnection("localhost", port, timeout=5)
        try:
            connection.request(method, path, body or None, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""

    eventually(
        lambda: asked("GET", "/readyz")[0] == 200, 60, f"the notes: {podman._run(['podman', 'logs', notes])}"
    )
    assert asked("POST", "/api/notes", '{"text": "Buy cherries"}')[0] == 201
    assert "Buy cherries" in asked("GET", "/api/notes")[1]
    podman.podman("healthcheck", "run", notes)
    podman.podman("stop", notes)
    assert podman.podman("inspect", notes, "--format", "{{.State.ExitCode}}") == "0"
