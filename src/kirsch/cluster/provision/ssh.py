"""OpenSSH's files for a cluster, and commands on its machines. Pure; see ssh_config(5), sshd(8)."""

import shlex
from collections.abc import Sequence

from kirsch.cluster.provision.record import ClusterRecord, MachineRecord


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
    """ssh's arguments for a shell on a machine, or for a command."""
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
