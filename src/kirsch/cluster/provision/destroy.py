"""Taking a cluster away: all that bears its label, and its record."""

import shutil
from collections.abc import Callable

from kirsch.cluster.provision import podman
from kirsch.cluster.provision.command import Runner
from kirsch.cluster.provision.record import ProvisionError, checked_name, clusters_folder, memory_file
from kirsch.cluster.provision.steps import Show, Step, perform

PARTS = ("ps", "volume", "network")


def destroy(name: str, show: Show) -> None:
    """Remove a cluster, also one that was made by half. Raises ProvisionError, also if there is none."""
    runner = Runner()
    checked_name(name)
    known = (clusters_folder() / name).exists()
    if not known and not any(runner.run(podman.labelled(part, name)).strip() for part in PARTS):
        names = ", ".join(sorted(path.name for path in clusters_folder().glob("*/")))
        raise ProvisionError(f"there is no cluster {name}" + (f"; there are {names}" if names else ""))
    perform(destroy_steps(name, runner), show)


def destroy_steps(name: str, runner: Runner) -> list[Step]:
    """What removes a cluster, in order. Each can be done again."""

    def containers() -> None:
        if names := runner.run(podman.labelled("ps", name)).split():
            runner.run(podman.remove_machines(names))

    def labelled(part: str) -> Callable[[], None]:
        def remove() -> None:
            if names := runner.run(podman.labelled(part, name)).split():
                runner.run(podman.podman(part, "rm", "--force", *names))

        return remove

    def record() -> None:
        shutil.rmtree(clusters_folder() / name, ignore_errors=True)
        memory_file(name).unlink(missing_ok=True)
        for folder in (clusters_folder(), clusters_folder().parent):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    return [
        Step("machines", containers),
        Step("volumes", labelled("volume")),
        Step("network", labelled("network")),
        Step("keys", record),
    ]
