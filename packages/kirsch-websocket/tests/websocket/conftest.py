"""Both cores; every provider, and the ways to it."""

import pytest
from tests.websocket.contract import Provider
from tests.websocket.implementations import NAMES, implementation
from tests.websocket.serving import SERVERS


@pytest.fixture(params=NAMES)
def core(request):
    return implementation(request.param)


@pytest.fixture(scope="session")
def both():
    return implementation("python"), implementation("cython")


@pytest.fixture(params=SERVERS)
def provider(request):
    return Provider(request.param)


@pytest.fixture(params=["plain", "tls"])
def ssl(request, certificate):
    return (certificate.server, certificate.client) if request.param == "tls" else (None, None)


@pytest.fixture(params=["plain", "tls", "unix"])
def way(request, certificate, tmp_path):
    """Arguments of the server, and of a client of it."""
    if request.param == "tls":
        return {"ssl": certificate.server}, {"ssl": certificate.client}
    if request.param == "unix":
        return {"unix": str(tmp_path / "socket")}, {}
    return {}, {}
