"""What the acceptance tests share: the notes, run whole."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kirsch.robot.application import Application

NOTES = Path(__file__).parents[2] / "examples" / "notes"


@pytest.fixture(scope="module")
def application() -> Iterator[Application]:
    """A copy of the notes on free ports, up; at the end nothing of it may be left."""
    application = Application.copy(NOTES, free_ports=True)
    try:
        application.start(timeout=90)
        yield application
        application.stop()
        assert application.left() == set()
    finally:
        application.stop()
        application.remove()
