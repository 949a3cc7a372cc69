"""One bare machine with systemd, as a container of this computer's podman, and nothing of kirsch's on it."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from kirsch.cluster.provision.archive import archive
from kirsch.cluster.provision.command import Command, Runner
from kirsch.cluster.provision.image import Images
from kirsch.cluster.provision.podman import BOOT, copy_in, limits, podman, remove_machines, ulimits
from kirsch.cluster.provision.recipe import FILES

CAP_SYS_ADMIN = 1 << 21  # capabilities(7), linux/capability.h
# The name of a machine, up to the number of the process whose tests use it.
PREFIX = "kirsch-test-"
# A command is entered into the machine, and goes when the one who asked for it goes.
_ENTER = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "setpriv", "--pdeathsig", "KILL")


def why_not() -> str:
    """Why no machine can be made here; "" if it can."""
    if os.geteuid() != 0:
        return "machines as containers need root"
    effective = Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0]
    if not int(effective, 16) & CAP_SYS_ADMIN:
        return "machines as containers need CAP_SYS_ADMIN"
    missing = [name for name in ("podman", "runc", "nsenter", "setpriv") if shutil.which(name) is None]
    return f"machines as containers need {', '.join(missing)}" if missing else ""


def remove_forgotten() -> None:
    """Remove machines of tests that were killed, and could not do it themselves."""
    names = Runner().run(podman("ps", "--all", "--format={{.Names}}", f"--filter=name=^{PREFIX}")).split()
    dead = [name for name in names if not Path("/proc", name.removeprefix(PREFIX)).exists()]
    if dead:
        Runner().run(remove_machines(dead))


class SystemdMachine:
    """A machine that runs. `root` is its file system as seen from here, `prefix` what goes in front of a
    command that is to run there; `shared` is a folder that has the same path here and there."""

    def __init__(self, name: str, shared: Path) -> None:
        self.name = name
        self.shared = shared
        self.root = Path("/nowhere")
        self.prefix: tuple[str, ...] = ()

    def start(self) -> None:
        """Make it of the image that clusters' machines are made of, without a network.

        Raises ProvisionError."""
        runner = Runner()
        image = Images(runner).base()
        runner.run(
            podman(
                "create", "--name", self.name, "--hostname", self.name, "--network", "none", "--privileged",
                "--pids-limit=-1", "--systemd=false", "--cgroupns=private", *ulimits(limits()),
                "--tmpfs", "/run", "--tmpfs", "/tmp", "--volume", "/var/lib/containers",
                "--volume", f"{self.shared}:{self.shared}", "--env", "container=podman", image,
                "sh", "-c", BOOT,
            )
        )  # fmt: skip
        runner.run(copy_in(self.name, archive(FILES)))
        runner.run(podman("start", self.name))
        pid = runner.run(podman("inspect", "--format={{.State.Pid}}", self.name)).strip()
        self.root = Path(f"/proc/{pid}/root")
        self.prefix = ("nsenter", "--target", pid, *_ENTER)
        # systemd answers once its socket is there; then it says itself when it has come up.
        answers = "until test -S /run/dbus/system_bus_socket; do sleep 0.05; done"
        script = f"{answers}; systemctl is-system-running --wait || :"
        runner.run(Command((*self.prefix, "sh", "-c", script), timeout=60))

    def remove(self) -> None:
        """Nothing of it is left."""
        Runner().run(remove_machines([self.name]))

    def run(self, *argv: str, input: bytes | None = None, check: bool = True) -> str:
        """Run a command there: what it prints."""
        done = subprocess.run(
            [*self.prefix, *argv], input=input, capture_output=True, timeout=60, check=False
        )
        assert not check or done.returncode == 0, f"{argv}: {done.stderr.decode()}"
        return done.stdout.decode("utf-8", "replace")

    def show(self, unit: str, *properties: str) -> Sequence[str]:
        """Properties of a unit of systemd's, by systemctl show."""
        shown = self.run("systemctl", "show", f"--property={','.join(properties)}", unit).splitlines()
        values = dict(line.split("=", 1) for line in shown)
        return [values[name] for name in properties]
