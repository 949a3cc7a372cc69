"""What several tests of the wire are given: both cores."""

import pytest
from tests.websocket.implementations import NAMES, implementation


@pytest.fixture(params=NAMES)
def core(request):
    return implementation(request.param)


@pytest.fixture(scope="session")
def both():
    return implementation("python"), implementation("cython")
