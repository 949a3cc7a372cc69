"""What holds for every test, and what tests of several packages are given."""

import gc

import pytest
from hypothesis import settings
from tests.certificate import Certificate, certify

# How long an example takes says more of the machine than of the code.
settings.register_profile("kirsch", deadline=None)
settings.load_profile("kirsch")


def pytest_collection_finish():
    """Have the garbage collector, which many tests call, pass over what is there for all of them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A server's on this machine, called localhost, 127.0.0.1 and server.example."""
    names = ("localhost", "IP:127.0.0.1", "server.example")
    return certify(tmp_path_factory.mktemp("certificate"), *names)
