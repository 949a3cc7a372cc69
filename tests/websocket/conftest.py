"""What several tests of the wire are given: both cores, and a server's certificate."""

import pytest
from tests.websocket.client.network import certify
from tests.websocket.implementations import NAMES, implementation


@pytest.fixture(params=NAMES)
def core(request):
    return implementation(request.param)


@pytest.fixture(scope="session")
def both():
    return implementation("python"), implementation("cython")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    return certify(tmp_path_factory.mktemp("certificate"), "localhost", "IP:127.0.0.1")
