"""The application as a process: how it starts, what it does when the database goes away, how it stops."""

import http.client
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import URL, create_engine
from tests.deadline import eventually

from kirsch.sql import migrate

pytestmark = pytest.mark.services
NOTES = Path(__file__).parents[2] / "examples" / "notes"
PATIENCE = 30


def url_of(link: dict[str, str]) -> URL:
    return URL.create(
        "postgresql+psycopg",
        username="notes",
        password=link["POSTGRES_PASSWORD"],
        host=link["POSTGRES_PORT_5432_TCP_ADDR"],
        database=link["POSTGRES_ENV_POSTGRES_DB"],
    )


def ended(process: subprocess.Popen[Any]) -> tuple[int, str]:
    """Its exit code and what it said."""
    _, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, errors


class TestStart:
    def launch(self, instances: Any, environment: dict[str, str]) -> subprocess.Popen[str]:
        return instances.launch(environment, stderr=subprocess.PIPE, text=True)

    @pytest.mark.parametrize("missing", ["POSTGRES_PORT_5432_TCP_ADDR", "POSTGRES_PASSWORD"])
    def test_a_missing_variable_is_one_line_and_2(self, database, instances, missing):
        variables = {name: value for name, value in database.link.items() if name != missing}
        code, errors = ended(self.launch(instances, variables))
        assert code == 2
        assert errors.count("\n") == 1
        assert errors.startswith(f"notes: {missing} is not set")

    @pytest.mark.slow
    def test_a_wrong_password_is_one_line_and_1(self, database, instances):
        code, errors = ended(self.launch(instances, database.link | {"POSTGRES_PASSWORD": "guess"}))
        assert code == 1
        assert "password authentication failed" in errors
        assert "Traceback" not in errors
        assert "guess" not in errors

    @pytest.mark.slow
    def test_a_port_in_use_is_one_line_and_1(self, application, database, instances):
        code, errors = ended(self.launch(instances, database.link | {"KIRSCH_ADDRESS": application.address}))
        assert code == 1
        assert f"{application.address}:8080" in errors.splitlines()[-1]
        assert "Traceback" not in errors

    def test_a_newer_database_is_one_line_and_1(self, new_database, database, instances):
        with database.connect(new_database["POSTGRES_ENV_POSTGRES_DB"]) as connection:
            connection.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
            connection.execute("INSERT INTO alembic_version VALUES ('9999')")
        code, errors = ended(self.launch(instances, new_database))
        assert code == 1
        assert "9999" in errors
        assert "Traceback" not in errors

    @pytest.mark.slow
    def test_instances_that_start_together_migrate_once(self, new_database, instances):
        started: list[Any] = []
        starts = [
            threading.Thread(target=lambda name=name: started.append(instances.start(new_database, name)))
            for name in ("1", "2", "3")
        ]
        for start in starts:
            start.start()
        for start in starts:
            start.join()
        assert len(started) == 3
        note = started[0].write("seen by all")
        for client in started:
            assert client("GET", f"/api/notes/{note['id']}").json() == note
        assert {client("GET", "/").headers["X-Kirsch-Instance"] for client in started} == {
            "notes@1",
            "notes@2",
            "notes@3",
        }

    @pytest.mark.slow
    def test_it_waits_for_the_database(self, database, instances, free_address):
        database.stop()
        try:
            process = self.launch(instances, database.link | {"KIRSCH_ADDRESS": free_address(8080)})
            assert process.stderr is not None
            assert "waiting for the database" in process.stderr.readline()
        finally:
            database.start()
        lines = iter(process.stderr.readline, "")
        assert any("Bus STARTED" in line for line in lines)
        process.terminate()
        assert ended(process)[0] == 0

    def test_the_migrations_make_the_model(self, new_database):
        url = url_of(new_database)
        migrate(url, NOTES / "webapp" / "migrations")
        sys.path.insert(0, str(NOTES))
        try:
            from webapp.model import Base
        finally:
            sys.path.remove(str(NOTES))
        engine = create_engine(url)
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_server_default": True})
            assert compare_metadata(context, Base.metadata) == []
        engine.dispose()


class TestDatabaseAway:
    def test_503_while_it_is_away_and_no_longer(self, client, database, instances):
        note = client.write("kept")
        path = f"/api/notes/{note['id']}"
        database.stop()
        try:
            for method, body in (("GET", None), ("PUT", {"text": "lost"}), ("DELETE", None)):
                answer = client(method, path, body, If_Match="*")
                assert answer.status == 503
                assert answer.headers["Content-Type"] == "application/problem+json"
                assert int(answer.headers["Retry-After"]) > 0
                assert answer.headers["X-Kirsch-Instance"] == "notes@1"
                assert answer.json()["status"] == 503
            assert "the database does not answer" in instances.log.read_text()
            assert client("GET", "/readyz").status == 503
            assert client("GET", "/healthz").status == 200
            assert client("GET", "/").status == 200
        finally:
            database.start()
        assert client("GET", path).json() == note
        eventually(client.answers, what="the application to be ready again")

    def test_a_connection_that_was_cut_is_replaced(self, client, database):
        note = client.write("kept")
        for _ in range(3):
            with database.connect() as connection:
                others = "pg_stat_activity WHERE usename = 'notes' AND pid <> pg_backend_pid()"
                # Waits until they are gone.
                connection.execute(f"SELECT pg_terminate_backend(pid, 9000) FROM {others}")
            assert client("GET", f"/api/notes/{note['id']}").json() == note

    def test_a_fault_of_ours_is_500_without_its_traceback(self, client, database, instances):
        with database.connect() as connection:
            connection.execute("ALTER TABLE notes RENAME TO hidden")
            try:
                answer = client("GET", "/api/notes")
            finally:
                connection.execute("ALTER TABLE hidden RENAME TO notes")
        assert answer.status == 500
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert b"hidden" not in answer.body
        assert b"SELECT" not in answer.body
        assert 'relation "notes" does not exist' in instances.log.read_text()


class TestStop:
    def test_sigterm_drains_then_ends(self, database, instances):
        client = instances.start(database.link | {"NOTES_DRAIN": "60"})
        process = instances.processes[-1]
        note = client.write("until the end")
        process.send_signal(signal.SIGTERM)
        eventually(lambda: client("GET", "/readyz").status == 503, what="the drain to begin")
        assert client("GET", "/healthz").status == 200
        assert client("GET", f"/api/notes/{note['id']}").json() == note
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0

    def test_a_request_in_flight_is_answered(self, database, instances):
        client = instances.start(database.link | {"NOTES_DRAIN": "0"})
        process = instances.processes[-1]
        body = b'{"text": "slowly sent"}'
        with socket.create_connection((client.address, client.port), timeout=PATIENCE) as connection:
            head = f"POST /api/notes HTTP/1.1\r\nHost: {client.address}\r\nContent-Type: application/json\r\n"
            connection.sendall(f"{head}Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 100")
            process.send_signal(signal.SIGTERM)
            eventually(lambda: not client.answers(), what="the application to stop listening")
            connection.sendall(body)
            assert connection.recv(100).startswith(b"HTTP/1.1 201")
        assert process.wait(PATIENCE) == 0


class TestConnections:
    @pytest.mark.parametrize("path", ["/api/notes", "/api/notes/1", "/nowhere", "/"])
    @pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
    def test_no_body_is_left_for_the_next_request(self, client, method, path):
        connection = http.client.HTTPConnection(client.address, client.port, timeout=PATIENCE)
        hidden = b"POST /api/notes HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        for chunked in (True, False):
            body: Any = iter([hidden]) if chunked else hidden
            headers = {"Content-Type": "text/plain"} | (
                {} if chunked else {"Content-Length": str(len(hidden))}
            )
            connection.request(method, path, body, headers, encode_chunked=chunked)
            connection.getresponse().read()
            connection.request("GET", "/healthz")
            response = connection.getresponse()
            assert response.status == 200
            assert b"live" in response.read()
        connection.close()

    def test_a_request_that_cherrypy_refuses_itself(self, client):
        with socket.create_connection((client.address, client.port), timeout=PATIENCE) as connection:
            connection.sendall(b"GET /api/notes HTTP/1.1\r\n\r\n")
            answer = connection.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"application/problem+json" in answer
        assert b"X-Kirsch-Instance: notes@1" in answer
        assert b"CherryPy" not in answer
        assert b"Traceback" not in answer

    def test_malformed_chunks_are_400_and_the_end(self, client):
        with socket.create_connection((client.address, client.port), timeout=PATIENCE) as connection:
            head = f"POST /api/notes HTTP/1.1\r\nHost: {client.address}\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head.encode() + b"zz\r\n\r\n")
            answer = connection.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"Connection: close" in answer

    def test_a_chunk_that_claims_gigabytes_is_413(self, client):
        with socket.create_connection((client.address, client.port), timeout=PATIENCE) as connection:
            head = f"POST /api/notes HTTP/1.1\r\nHost: {client.address}\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head.encode() + b"ffffffff\r\n")
            assert connection.recv(10_000).startswith(b"HTTP/1.1 413")
