"""Shells on machines: root's by podman or ssh, and a person's by ssh. See ssh(1), ssh_config(5), sshd(8)."""

import shlex
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kirsch.cluster.provision.command import Command, CommandError, Runner
from kirsch.cluster.provision.podman import SLOW, execute
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord, ProvisionError

# ssh's own exit status for what went wrong before the command ran.
SSH_FAILED = 255
LOGIN_TIMEOUT = 10


class Shell(Protocol):
    """A way to run scripts as root."""

    def command(self, script: str, given: bytes = b"") -> Command:
        """A script for sh(1), with its standard input."""


@dataclass(frozen=True, slots=True)
class ContainerShell:
    """Shell in a container, by podman."""

    container: str

    def command(self, script: str, given: bytes = b"") -> Command:
        """Return podman's command for a script."""
        return execute(self.container, "sh", "-c", script, input=given)


@dataclass(frozen=True, slots=True)
class HostShell:
    """Shell on a host over ssh: a name, or USER@HOST, with a person's own settings and keys or those of
    `config`.

    Commands run by sudo unless the user is root.
    """

    destination: str
    port: int | None = None
    identity: Path | None = None
    config: Path | None = None
    sudo: bool = False

    def arguments(self) -> list[str]:
        """Return ssh's arguments before the destination; ssh must not ask, for nobody would see it."""
        words = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={LOGIN_TIMEOUT}", "-T"]
        words += ["-F", str(self.config)] if self.config else []
        words += ["-p", str(self.port)] if self.port else []
        words += ["-i", str(self.identity)] if self.identity else []
        return words

    def command(self, script: str, given: bytes = b"") -> Command:
        """Return ssh's command for a script."""
        words = ["sudo", "-n", "sh", "-c", script] if self.sudo else ["sh", "-c", script]
        return Command(("ssh", *self.arguments(), "--", self.destination, shlex.join(words)), given, SLOW)


def shell_of(record: ClusterRecord, machine: MachineRecord) -> Shell:
    """Return the shell on a machine of a cluster, with the cluster's own key."""
    if machine.container:
        return ContainerShell(machine.container)
    return HostShell(machine.name, config=record.folder / "ssh/config", sudo=machine.user != "root")


def act(runner: Runner, shell: Shell, name: str, script: str, given: bytes = b"") -> str:
    """Run a script on a machine: what it prints. Raises ProvisionError, which names the machine and says what
    can be done about a login that fails."""
    try:
        return runner.run(shell.command(script, given))
    except CommandError as error:
        if isinstance(shell, HostShell) and error.status == SSH_FAILED:
            raise ProvisionError(f"{name}: {_login(shell, error.words)}") from None
        raise ProvisionError(f"{name}: {error.words}") from None


def _login(shell: HostShell, words: str) -> str:
    at = shell.destination
    if "Host key verification failed" in words:
        return f"its host key is not known here: see whether `ssh {at}` shows the right one, and accept it"
    if "Permission denied" in words:
        return f"{words} Log in with a key that needs no typing: `ssh-copy-id {at}`, or give --identity"
    return words


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
        # A machine that is gone says nothing: what waits for it ends after 20 s, and not never.
        "    ConnectTimeout 10\n"
        "    ServerAliveInterval 5\n"
        "    ServerAliveCountMax 4\n"
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
