"""What the tests of a cluster share with those of the command line."""

from tests.cli.conftest import application

__all__ = ["application"]
