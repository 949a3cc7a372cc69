"""The OpenAPI document of /kirsch/v1 is true: schemathesis asks a real kirschd all that it describes."""

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
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from kirsch.cluster.api.openapi import document
from kirsch.cluster.application import load
from kirsch.cluster.client import Client
from kirsch.cluster.embedded import launch

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.xdist_group("openapi")]

# Not that valid data is accepted: no schema can say which texts are unit files.
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
    checks.allow_header_conformance,
]
PREFIX = "/kirsch/v1"

schema = schemathesis.openapi.from_dict(document())
# One does not end, the other ends everything.
schema = schema.exclude(path=["/events", "/down"])


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


@pytest.fixture(scope="module")
def kirschd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A kirschd with a unit that runs."""
    directory = tmp_path_factory.mktemp("application")
    (directory / "notes@1.container").write_text(
        "[Container]\nImage=x\n[X-Kirsch-Process]\nExecStart=sleep 1000\n"
    )
    embedded = launch(load(directory), attached=True)
    client = embedded.client
    client.put(
        f"{PREFIX}/units/notes@1.container",
        {"text": (directory / "notes@1.container").read_text(), "desiredState": "launched"},
    )
    yield client
    client.post(f"{PREFIX}/down")
    assert embedded.wait(60) == 0
    embedded.tether.close()
    assert "Traceback" not in (directory / ".kirsch/kirschd.log").read_text()


@pytest.fixture(scope="module")
def session(kirschd: Client) -> Iterator[requests.Session]:
    with requests.Session() as made:
        made.mount("http://", UnixAdapter(kirschd.path))
        yield made


@schema.parametrize()
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
def test_every_answer_is_documented(case: schemathesis.Case, session: requests.Session):
    if "yes" in str(case.query.get("follow")):
        case.query["follow"] = "no"  # that would not end
    case.call_and_validate(base_url=f"http://localhost{PREFIX}", session=session, checks=CHECKS)


def test_the_document_is_served(kirschd: Client):
    assert kirschd.get(f"{PREFIX}/openapi.json") == document()
