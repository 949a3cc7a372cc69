"""Images brought to every machine of a cluster before they are needed: so a unit can start there though the
machine of the registry is away."""

import shlex
from collections.abc import Sequence

from kirsch.cluster.image.content import is_content_tag
from kirsch.cluster.image.reference import LOCAL, Reference
from kirsch.cluster.provision.command import CommandError, Runner
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord
from kirsch.cluster.provision.shell import shell_of


def fetch(names: Sequence[Reference]) -> str:
    """The script by which a machine takes images from its cluster's registry; one without podman takes none.
    Units find them as localhost/NAME too, when the registry is away. Pure."""
    images = shlex.join(map(str, names))
    script = f"command -v podman >/dev/null || exit 0; podman pull --quiet {images}"
    # A tag by content is named with the registry always: see kirsch.cluster.rollout.
    called = [name for name in names if not is_content_tag(name.tag)]
    return script + "".join(
        f" && podman tag {shlex.quote(str(n))} {shlex.quote(str(n.at(LOCAL)))}" for n in called
    )


def spread(cluster: ClusterRecord, names: Sequence[Reference], runner: Runner) -> dict[str, str]:
    """Have all machines fetch images from the cluster's registry, at once: those that could not, by name,
    with the reason. They fetch them when a unit starts there, if they can then."""
    left: dict[str, str] = {}

    def one(machine: MachineRecord) -> None:
        try:
            runner.run(shell_of(cluster, machine).command(fetch(names)))
        except CommandError as error:
            left[machine.name] = error.words

    runner.together(cluster.machines, one)
    return dict(sorted(left.items()))
