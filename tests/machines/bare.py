"""A host that nobody has prepared: Debian 12 with systemd, sshd, Python 3.11 and a podman without Quadlet."""

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kirsch.cluster.provision import recipe
from kirsch.cluster.provision.archive import File, archive
from kirsch.cluster.provision.command import Runner
from kirsch.cluster.provision.image import Images, bootstrap, sources
from kirsch.cluster.provision.podman import (
    BOOT,
    copy_in,
    execute,
    hardware_address,
    limits,
    podman,
    remove_machines,
    ulimits,
)
from kirsch.cluster.provision.recipe import FILES

SUITE = "bookworm"
PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "openssh-server",
    "python3",
    "sudo",
    "podman",
    "runc",
    "iproute2",
)
USER = "keeper"


@dataclass
class BareHost:
    """It runs in the network of a cluster, under an address of its own; root and a user who may sudo come in
    with our key. `config` is ssh's settings for it: it is called `bare`, and `bare-user` for the other. It
    begins with `image`, or with the Debian above."""

    name: str
    network: str
    address: str
    folder: Path
    runner: Runner
    image: str = ""

    @property
    def config(self) -> Path:
        """ssh's settings."""
        return self.folder / "config"

    def start(self) -> None:
        """Make it; returns once its sshd answers."""
        image = self.image or base(self.runner)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / "key"], check=True)
        public = (self.folder / "key.pub").read_text()
        self.runner.run(
            podman(
                "create", "--name", self.name, "--hostname", "bare", "--network", self.network,
                "--ip", self.address, "--mac-address", hardware_address(self.address), "--privileged",
                "--pids-limit=-1", "--systemd=false", "--cgroupns=private", *ulimits(limits()),
                "--tmpfs", "/run", "--tmpfs", "/tmp", "--env", "container=podman",
                # Overlayfs does not stand on overlayfs.
                *(("--volume", "/var/lib/containers") if self.image else ()),
                image, "sh", "-c", BOOT,
            )
        )  # fmt: skip
        # A machine's packages want a machine's settings: its podman has no pids controller either.
        settings = [file for file in FILES if file.target or self.image]
        files = [*settings, File("/root/.ssh/authorized_keys", public.encode(), 0o600)]
        self.runner.run(copy_in(self.name, archive(files, ["/root/.ssh"])))
        self.runner.run(podman("start", self.name))
        self.shell(
            f"""
            set -e
            until systemctl is-system-running --wait | grep -E 'running|degraded'; do sleep 0.1; done
            ssh-keygen -A; systemd-machine-id-setup; systemctl restart ssh
            useradd --create-home --shell /bin/sh {USER}
            install -d -m 0700 -o {USER} ~{USER}/.ssh
            install -m 0600 -o {USER} /root/.ssh/authorized_keys ~{USER}/.ssh/
            test ! -d /etc/sudoers.d || echo '{USER} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/{USER}
            """
        )
        key = self.shell("cat /etc/ssh/ssh_host_ed25519_key.pub")
        (self.folder / "known").write_text(f"{self.address} {key}")
        parts = [
            f"Host {name}\n HostName {self.address}\n User {user}\n IdentityFile {self.folder}/key\n"
            f" IdentitiesOnly yes\n IdentityAgent none\n UserKnownHostsFile {self.folder}/known\n"
            for name, user in (("bare", "root"), ("bare-user", USER))
        ]
        self.config.write_text("".join(parts))

    def shell(self, script: str) -> str:
        """What a script prints on it."""
        return self.runner.run(execute(self.name, "sh", "-c", script))

    def reboot(self) -> None:
        """Switch it off without a word, and on again."""
        self.runner.run(podman("kill", "--signal", "KILL", self.name))
        self.runner.run(podman("start", self.name))

    def files(self) -> set[str]:
        """All files that are not systemd's, or logs, or of a boot's lifetime."""
        volatile = ["/proc", "/sys", "/run", "/tmp", "/dev", "/var/log", "/var/lib/systemd"]
        volatile.append("/var/lib/containers")  # podman's, from its first word on
        away = " -o -path ".join(volatile)
        found = self.shell(f"find / -xdev \\( -path {away} \\) -prune -o -print")
        return set(found.splitlines())

    def remove(self) -> None:
        """Nothing of it is left."""
        self.runner.run(remove_machines([self.name]))


def base(runner: Runner, suite: str = SUITE, packages: Sequence[str] = PACKAGES) -> str:
    """Return an image of Debian with some packages, made once on this computer."""
    digest = hashlib.sha256(json.dumps([suite, packages]).encode()).hexdigest()[:16]
    image = f"localhost/kirsch-tests-bare:{digest}"
    if not Images(runner).exists(image):
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            tar = f"{folder}/base.tar"
            runner.run(bootstrap(tar, recipe.mirror_lines(sources(), suite), suite, packages))
            change = f"LABEL {recipe.LABEL}={digest}"
            runner.run(podman("import", "--quiet", "--change", change, tar, image))
    return image
