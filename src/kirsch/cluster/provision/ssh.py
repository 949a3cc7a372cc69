"""OpenSSH for a cluster: files, commands on machines, waiting for sshd. See ssh_config(5), sshd(8)."""

import shlex
import socket
import time
from collections.abc import Sequence

from kirsch.cluster.provision.command import Runner
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord, ProvisionError


def known_host(machine: MachineRecord, public: str) -> str:
    """A machine's line in known_hosts."""
    host = machine.host if machine.ssh_port == 22 else f"[{machine.host}]:{machine.ssh_port}"
    return f"{host} {public}\n"


def ssh_config(record: ClusterRecord) -> str:
    """A configuration for `ssh -F`: machines by their names, alone or with the cluster's before them."""
    folder = record.folder / "ssh"
    parts = [
        f"Host {machine.name} {record.name}-{machine.name}\n"
        f"    HostName {machine.host}\n"
        f"    Port {machine.ssh_port}\n"
        f"    User {machine.user}\n"
        f"    IdentityFile {_path(folder / 'id_ed25519')}\n"
        "    IdentitiesOnly yes\n"
        f"    UserKnownHostsFile {_path(folder / 'known_hosts')}\n"
        "    StrictHostKeyChecking yes\n"
        "    LogLevel ERROR\n"
        for machine in record.machines
    ]
    return "\n".join(parts)


def login(record: ClusterRecord, machine: MachineRecord, command: Sequence[str] = ()) -> tuple[str, ...]:
    """Return ssh's arguments for a shell on a machine, or for a command."""
    config = str(record.folder / "ssh/config")
    return ("ssh", "-F", config, machine.name, *remote(command))


def remote(command: Sequence[str]) -> list[str]:
    """A command as ssh's arguments. A word alone is the far shell's to read, as ssh(1) has it; of several
    each stays the word that it is."""
    if len(command) > 1:
        return ["--", shlex.join(command)]
    return ["--", *command] if command else []


def _path(path: object) -> str:
    return f'"{path}"'


# Seconds until a machine that was started must answer.
READY = 90.0


# How OpenSSH's begins; and what it says to an address that came too often without logging in, or was refused
# (sshd_config(5), PerSourcePenalties): it is there all the same.
GREETING, PENALTY = b"SSH-", b"Not allowed"


def greets(host: str, port: int, timeout: float = 5.0) -> bool:
    """Return True if sshd greets now."""
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
