"""Whether a machine's sshd answers (RFC 4253, 4.2: it speaks first)."""

import socket
import time

from kirsch.cluster.provision.command import Runner
from kirsch.cluster.provision.record import MachineRecord, ProvisionError

# Seconds until a machine that was started must answer.
READY = 90.0


# How OpenSSH's begins; and what it says to an address that came too often without logging in, or was refused
# (sshd_config(5), PerSourcePenalties): it is there all the same.
GREETING, PENALTY = b"SSH-", b"Not allowed"


def greets(host: str, port: int, timeout: float = 5.0) -> bool:
    """Whether it greets now."""
    try:
        with socket.create_connection((host, port), timeout) as connection:
            return connection.recv(64).startswith((GREETING, PENALTY))
    except OSError:
        return False


def answers(machine: MachineRecord, runner: Runner) -> None:
    """Wait until it greets. Raises ProvisionError."""
    deadline = time.monotonic() + READY
    while not greets(machine.host, machine.ssh_port):
        runner.check()
        if time.monotonic() > deadline:
            raise ProvisionError(f"{machine.name}: sshd does not answer after {READY:.0f} s")
        time.sleep(0.05)
