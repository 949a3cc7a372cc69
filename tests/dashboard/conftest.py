"""An application that is up, and its dashboard: `kirsch dashboard`, as a person runs it."""

import http.client
import json
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect
from tests.cli.application import DEADLINE, KIRSCH, Application

# On a machine that does other things too.
expect.set_options(timeout=20_000)
TILL = r"""[Service]
ExecStart=sh -c 'printf "\\033[32mopened\\033[0m\\n"; echo "WARNING: few coins"; \
 echo "ERROR: no coins" >&2; exec sleep 1000'
[X-Kirsch]
Link=shop
CPU=0.1
Memory=64M
"""


@dataclass
class Answer:
    """A response, read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Dashboard:
    """A running dashboard, asked without a browser; `enter` gets the session's cookie."""

    def __init__(self, address: str) -> None:
        self.address = address
        parts = urlsplit(address)
        self.host, self.path, self.query = parts.netloc, parts.path, parts.query
        self.cookie = ""

    def enter(self) -> Answer:
        answer = self("GET", f"?{self.query}")
        self.cookie = (answer.headers["Set-Cookie"] or "").partition(";")[0]
        return answer

    def __call__(self, method: str, below: str, body: Any = None, **fields: str) -> Answer:
        """Send a request to a path below the dashboard's; `Sec_Fetch_Site="…"` is that field."""
        sent = {name.replace("_", "-"): value for name, value in fields.items()}
        if self.cookie:
            sent.setdefault("Cookie", self.cookie)
        if body is not None:
            body = json.dumps(body)
            sent.setdefault("Content-Type", "application/json")
        host, port = self.host.split(":")
        with closing(http.client.HTTPConnection(host, int(port), timeout=DEADLINE)) as connection:
            connection.request(method, self.path + below, body, sent)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())


@contextmanager
def opened(folder: Path, environment: dict[str, str] | None = None) -> Iterator[Dashboard]:
    """Run `kirsch dashboard` in a folder; it ends by SIGTERM without a word."""
    command = [*KIRSCH, "dashboard", "--no-browser"]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("Open http://127.0.0.1:"), line + process.stdout.read()
        yield Dashboard(line.split()[1])
    finally:
        process.terminate()
        said = process.stdout.read()
        status = process.wait(DEADLINE)
        process.stdout.close()
    assert (said, status) == ("Ctrl-C ends it.\n", 0)


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """Two instances of a server, one of which a third unit uses, and a unit that nobody starts."""
    made = Application(tmp_path_factory.mktemp("dashboard"))
    (made.directory / "kirsch.toml").write_text('name = "shop"\nstart = ["shop@1", "shop@2", "till"]\n')
    made.server("shop@.service", "# How many a machine has does not matter.", "Sticky=no")
    made.unit("till.service", TILL)
    try:
        made.ok("up", "-d")
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def dashboard(application: Application) -> Iterator[Dashboard]:
    with opened(application.directory) as running:
        yield running
