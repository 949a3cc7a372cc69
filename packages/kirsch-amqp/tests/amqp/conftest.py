"""A real RabbitMQ for all tests of this folder, and one of its own for who kills it."""

import pytest
from tests.amqp.rabbit import Rabbit


@pytest.fixture(scope="session")
def rabbit(tmp_path_factory):
    """One that nobody may harm."""
    with Rabbit(tmp_path_factory.mktemp("rabbit") / "data") as rabbit:
        yield rabbit


@pytest.fixture
def mortal(tmp_path):
    """One of its own, to be killed and started again."""
    with Rabbit(tmp_path / "data") as rabbit:
        yield rabbit
