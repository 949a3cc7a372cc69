"""The OpenAPI document of /kirsch/v1 is true: schemathesis asks a real kirschd all that it describes."""

import contextlib
import os
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
import urllib3
from hypothesis import HealthCheck, Phase, settings
from tests.openapi import CHECKS

from kirsch.cluster.api.client import Client, ClientError, unit_path
from kirsch.cluster.api.openapi import document
from kirsch.cluster.application import load
from kirsch.cluster.application.embedded import launch

pytestmark = [pytest.mark.services, pytest.mark.slow]

PREFIX = "/kirsch/v1"

schema = schemathesis.openapi.from_dict(document())
# That ends everything.
schema = schema.exclude(path="/down")


class UnixConnection(urllib3.connection.HTTPConnection):
    """To a Unix socket, whatever the URL says."""

    def __init__(self, path: Path, **options: Any) -> None:
        super().__init__(**options)
        self.path = path

    def _new_conn(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(30)
        made.connect(str(self.path))
        return made


class UnixAdapter(requests.adapters.HTTPAdapter):
    """A session's every request goes to one Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.pool = urllib3.HTTPConnectionPool("localhost")
        self.pool.ConnectionCls = partial(UnixConnection, path)  # type: ignore[assignment]

    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
        return self.pool


def keep_unit(client: Client) -> None:
    """The unit of the document's examples is there and runs, also if it was destroyed, and is not moving.

    A move that an example before has ordered has nowhere to go, and a rebalance would wait for its end.
    """
    text = "[Container]\nImage=x\n[X-Kirsch-Process]\nExecStart=sleep 1000\n"
    name = "notes@1.container"
    client.put(unit_path(name), {"text": text, "desiredState": "launched"})
    (machine,) = client.get(f"{PREFIX}/machines")["machines"]
    with contextlib.suppress(ClientError):  # it is there already
        client.post(unit_path(name, "/move"), {"machine": machine["id"]})


@pytest.fixture(scope="module")
def kirschd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A kirschd with a unit that runs."""
    directory = tmp_path_factory.mktemp("application")
    (directory / "unused.service").write_text("[Service]\nExecStart=sleep 1000\n")
    embedded = launch(load(directory), attached=True)
    client = embedded.client
    keep_unit(client)
    yield client
    client.post(f"{PREFIX}/down")
    assert embedded.wait(60) == 0
    embedded.tether.close()
    assert "Traceback" not in (directory / ".kirsch/kirschd.log").read_text()


@pytest.fixture(scope="module")
def session(kirschd: Client) -> Iterator[requests.Session]:
    with requests.Session() as made:
        made.mount("http://", UnixAdapter(kirschd.transport.path))
        yield made


@schema.parametrize()
@settings(
    max_examples=100 if os.environ.get("KIRSCH_SOAK") else 8,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
def test_every_answer_is_documented(case: schemathesis.Case, kirschd: Client, session: requests.Session):
    keep_unit(kirschd)
    case.call_and_validate(base_url=f"http://localhost{PREFIX}", session=session, checks=CHECKS, timeout=60)


def test_the_document_is_served(kirschd: Client):
    assert kirschd.get(f"{PREFIX}/openapi.json") == document()


JSON = {"Content-Type": "application/json"}
UNIT = "/units/a.service"


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "says"),
    [
        ("PATCH", UNIT, b"", {}, 405, "method"),
        ("GET", "/nothing", b"", {}, 404, "/kirsch/v1/nothing"),
        ("GET", "/units/a.service/more/of/it", b"", {}, 404, ""),
        (
            "GET",
            "/units?name=a.service",
            b"",
            {},
            400,
            "name is no parameter of this resource; it has unit",
        ),
        (
            "GET",
            "/journal?lines=1&line=2",
            b"",
            {},
            400,
            "line is no parameter of this resource; it has unit",
        ),
        ("GET", "/journal?lines=10001", b"", {}, 400, "from 0 to 10000"),
        ("GET", "/journal?lines=-1", b"", {}, 400, "from 0 to 10000"),
        ("GET", "/journal?lines=1&lines=2", b"", {}, 400, "more than once"),
        ("GET", "/journal?unit=../../etc", b"", {}, 400, "unit type"),
        ("GET", "/journal?here=maybe", b"", {}, 400, "yes or no"),
        ("GET", "/environment?link=:x", b"", {}, 400, "a link names a service or a unit"),
        ("GET", "/environment?unit=none.service", b"", {}, 404, "there is no unit none.service"),
        ("GET", "/units/none.service/environment", b"", {}, 404, "there is no unit none.service"),
        ("PUT", UNIT, b"{}", {"Content-Type": "text/plain"}, 415, "application/json"),
        ("PUT", UNIT, b"{}", {}, 415, "application/json"),
        ("PUT", UNIT, b"[]", JSON, 400, "object"),
        ("PUT", UNIT, b"{", JSON, 400, "not JSON"),
        ("PUT", UNIT, b"[" * 100_000, JSON, 400, "nested"),
        ("PUT", UNIT, b'{"text": "\\ud800"}', JSON, 400, "not JSON"),
        ("PUT", UNIT, b'{"text": "\xff"}', JSON, 400, "not JSON"),
        ("PUT", UNIT, b'{"text": 1}', JSON, 400, "text"),
        ("PUT", UNIT, b'{"colour": "red"}', JSON, 400, "colour"),
        ("PUT", UNIT, b'{"text": "' + b"#" * (2 << 20) + b'"}', JSON, 413, "1 MiB"),
        ("PUT", UNIT, b'{"text": "' + b"#" * (5 << 20) + b'"}', JSON, 413, "MiB"),
        ("PATCH", "/units", b'{"change": [{"text": ""}]}', JSON, 400, "an object with a name"),
        ("PATCH", "/units", b'{"change": [{"name": "a"}]}', JSON, 400, "has no type"),
        ("PATCH", "/units", b'{"destroy": ["no.service"]}', JSON, 404, "there is no unit no.service"),
        ("PATCH", "/units", b'{"destroy": ["no.service", "no.service"]}', JSON, 400, "is named twice"),
        ("PATCH", "/units", b'{"destroy": [1]}', JSON, 400, "list of names"),
        ("PATCH", "/machines/nowhere", b"{}", JSON, 404, "there is no machine nowhere"),
        ("PATCH", "/machines/x", b'{"metadata": {"a b": "c"}}', JSON, 400, "a key of letters"),
        ("PATCH", "/machines/x", b'{"drained": 1}', JSON, 400, "drained"),
        ("POST", "/units/no.service/move", b"{}", JSON, 404, "there is no unit no.service"),
        ("PUT", "/applications/x", b'{"units": {"a.service": 1}, "start": []}', JSON, 400, "strings"),
        ("PUT", "/applications/x", b'{"units": {}, "start": [[]]}', JSON, 400, "strings"),
        ("POST", "/verify", b'{"name": "a.service"}', JSON, 400, "needed"),
        ("POST", "/verify", b'{"name": "a.service", "text": "x"}', JSON, 400, "a.service:1:1"),
        ("POST", "/trial", b'{"units": {"a.service": 1}}', JSON, 400, "strings"),
    ],
)
def test_an_error_is_a_problem(
    session: requests.Session,
    method: str,
    path: str,
    body: bytes,
    headers: dict[str, str],
    status: int,
    says: str,
):
    answer = session.request(
        method, f"http://localhost{PREFIX}{path}", data=body, headers=headers, timeout=30
    )
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["type"]) == (status, "about:blank")
    assert says in problem["detail"]
    assert ("Allow" in answer.headers) or status != 405


def test_a_stream_is_for_websockets(session: requests.Session):
    answer = session.get(f"http://localhost{PREFIX}/events", timeout=30)
    assert answer.status_code == 426
    assert answer.headers["Upgrade"] == "websocket"
    assert "WebSocket" in answer.json()["detail"]


def test_a_request_without_host_is_a_problem_too(kirschd: Client):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(kirschd.transport.path))
        connection.sendall(b"GET /kirsch/v1/units HTTP/1.1\r\n\r\n")
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"application/problem+json" in answer


def test_a_unit_of_1_mib_and_every_legal_character(kirschd: Client, session: requests.Session):
    name = r"A:_.-\x2d@9.service"
    text = "[Service]\nExecStart=sleep 1000\n" + '#"\\ü\n' * 170_000
    assert len(text.encode()) <= 1 << 20
    assert kirschd.put(unit_path(name), {"text": text})["created"]
    assert kirschd.get(unit_path(name))["text"] == text
    kirschd.delete(unit_path(name))


def test_secrets_are_not_to_be_kept(kirschd: Client, session: requests.Session):
    keep_unit(kirschd)
    address = f"http://localhost{PREFIX}/environment?unit=notes@1.container"
    assert session.get(address, timeout=30).headers["Cache-Control"] == "no-store"
