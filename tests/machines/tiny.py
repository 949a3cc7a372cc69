"""An image of a shell and little else, made of what a machine has itself."""

from collections.abc import Iterable, Sequence

from tests.machines.trial import Trial

from kirsch.cluster.provision.record import MachineRecord

IMAGE = "localhost/tiny:1"
PROGRAMS = ("sh", "bash", "sleep", "env", "cat", "getent", "ls", "stty", "rm")
_MAKE = """\
set -e
podman image exists {image} && exit 0
cd $(mktemp -d)
mkdir -p bin etc tmp run
for program in {programs}; do cp $(command -v $program || echo /bin/$program) bin/; done
echo 'hosts: files dns' >etc/nsswitch.conf
echo 'root:x:0:0:root:/:/bin/sh' >etc/passwd
libraries=$(ldd bin/* 2>/dev/null | grep -o '/[^ ]*[.]so[^ ]*' | sort -u)
tar -c --dereference bin etc tmp run $libraries 2>/dev/null | podman import --quiet - {image} >/dev/null
"""


def make(trial: Trial, machines: Iterable[MachineRecord], programs: Sequence[str] = PROGRAMS) -> None:
    """Have it on machines; those that have it keep it."""
    for machine in machines:
        trial.shell(machine, _MAKE.format(image=IMAGE, programs=" ".join(programs)))


def remove(trial: Trial, machines: Iterable[MachineRecord]) -> None:
    """Take it off them."""
    for machine in machines:
        trial.shell(machine, f"podman rmi --force {IMAGE} >/dev/null 2>&1 || :")
