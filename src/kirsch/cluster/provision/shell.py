"""Root's shell on a machine, as commands: in a container by podman, on a host by ssh. Pure; see ssh(1)."""

import shlex
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
