"""Roles of instances: which of them a link and the status mean, before and after another leads."""

import textwrap
from typing import Any

import pytest
from tests.cli.application import Application, wait_for

from kirsch.cluster.api.client import Client

# Its role is the word in a file, which /primary and /replica answer by their status.
SERVER = """
    import http.server, os, pathlib
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            role = pathlib.Path(f"role-{os.environ['KIRSCH_INSTANCE']}").read_text()
            self.send_response(200 if self.path in ("/", f"/{role}") else 503)
            self.send_header("Content-Length", "0")
            self.end_headers()
        def log_message(self, *args):
            pass
    http.server.ThreadingHTTPServer((os.environ["KIRSCH_ADDRESS"], 8080), Handler).serve_forever()
"""


@pytest.fixture
def pair(application: Application) -> Application:
    """Two instances of db, of which the first is primary."""
    (application.directory / "server.py").write_text(textwrap.dedent(SERVER))
    for number, role in ((1, "primary"), (2, "replica")):
        (application.directory / f"role-{number}").write_text(role)
        application.unit(
            f"db@{number}.service",
            """
            [Service]
            ExecStart=python server.py
            [X-Kirsch]
            Expose=8080
            Health=http://:8080/
            HealthRole=primary http://:8080/primary
            HealthRole=replica http://:8080/replica
            """,
        )
    return application


@pytest.mark.slow
def test_the_role_goes_where_the_check_says(pair: Application):
    pair.unit(
        "user.service",
        """
        [Service]
        ExecStart=sh -c 'env | grep TCP_ADDR=; exec sleep infinity'
        [X-Kirsch]
        Link=db db/replica:reads
        """,
    )
    pair.ok("up", "-d")

    kirschd = Client(pair.directory / ".kirsch/kirsch.sock")

    def units() -> dict[str, Any]:
        return {line["name"]: line for line in kirschd.get("/kirsch/v1/units")["units"]}

    def roles() -> list[str]:
        return [line["role"] for name, line in sorted(units().items()) if name.startswith("db@")]

    def address(number: int) -> str:
        return units()[f"db@{number}.service"]["address"]

    def told() -> dict[str, str]:
        lines = pair.ok("journal", "user").splitlines()
        return dict(line.rpartition(" ")[2].split("=", 1) for line in lines if "_PORT_8080_TCP_ADDR=" in line)

    wait_for(lambda: roles() == ["primary", "replica"], "both have a role")
    said = wait_for(told, "the variables")
    assert isinstance(said, dict)
    assert (said["DB_PORT_8080_TCP_ADDR"], said["READS_PORT_8080_TCP_ADDR"]) == (address(1), address(2))
    assert (said["DB_1_PORT_8080_TCP_ADDR"], said["DB_2_PORT_8080_TCP_ADDR"]) == (address(1), address(2))
    assert "Role: primary" in pair.ok("status", "db@1")

    (pair.directory / "role-1").write_text("none")
    wait_for(lambda: roles() == ["", "replica"], "nobody leads")
    late = pair.unit("late.service", "[Service]\nExecStart=sleep infinity\n[X-Kirsch]\nLink=db\n")
    pair.ok("start", "--no-block", str(late))
    wait_for(lambda: "waits for db to be ready" in units()["late.service"]["message"], "it waits")
    (pair.directory / "role-2").write_text("primary")
    wait_for(lambda: roles() == ["", "primary"], "another leads")
    wait_for(lambda: units()["late.service"]["ready"], "there is a leader")
    (pair.directory / "role-1").write_text("replica")
    wait_for(lambda: roles() == ["replica", "primary"], "the old one follows")
    assert units()["user.service"]["restarts"] == 0
