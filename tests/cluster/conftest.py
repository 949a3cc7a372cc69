"""What the tests of a cluster share with those of the command line, and among each other."""

import os

import pytest
from tests.cli.conftest import application

__all__ = ["application", "machine"]


@pytest.fixture(scope="session")
def machine(tmp_path_factory):
    """A bare machine with systemd, for all tests of a run; each leaves it as it was."""
    from tests.cluster.systemd_machine import PREFIX, SystemdMachine, remove_forgotten, why_not

    from kirsch.cluster.provision.record import ProvisionError

    if reason := why_not():
        pytest.skip(reason)
    machine = SystemdMachine(f"{PREFIX}{os.getpid()}", tmp_path_factory.getbasetemp())
    try:
        try:
            remove_forgotten()
            machine.start()
        except ProvisionError as error:
            pytest.skip(f"no machine can be made here: {error}")
        yield machine
    finally:
        machine.remove()
