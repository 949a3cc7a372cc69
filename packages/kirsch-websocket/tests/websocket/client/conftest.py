"""What clients are tested with: every driver, and servers for them."""

import gc
import socket
from collections.abc import Iterator

import pytest
from tests.certificate import Certificate
from tests.websocket.client.network import echo, listen
from tests.websocket.client.talk import DRIVERS, Talk


@pytest.fixture(params=DRIVERS.values(), ids=DRIVERS)
def talk(request: pytest.FixtureRequest) -> Talk:
    """Each driver: opens, sends, and reads what comes back."""
    driver: Talk = request.param
    return driver


@pytest.fixture(scope="module", autouse=True)
def _collect() -> Iterator[None]:
    """What is left open only in a cycle warns too."""
    yield
    gc.collect()


@pytest.fixture
def server() -> Iterator[int]:
    with listen(echo) as listener:
        yield listener.port


@pytest.fixture
def tls_server(certificate: Certificate) -> Iterator[int]:
    with listen(echo, certificate.server) as listener:
        yield listener.port


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy", "wss_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port that nothing listens on, and nothing will while the test runs."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]
