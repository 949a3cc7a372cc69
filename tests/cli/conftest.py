"""What the tests of the command line share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.application import Application


@pytest.fixture
def application(tmp_path: Path) -> Iterator[Application]:
    """An application without units."""
    made = Application(tmp_path)
    yield made
    made.close()
