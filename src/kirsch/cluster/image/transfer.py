"""Transfer of images: to a registry, from a registry, and to every machine of a cluster."""

import shlex
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from urllib.request import getproxies, proxy_bypass

from kirsch.cluster.image import podman
from kirsch.cluster.image.build import inspected
from kirsch.cluster.image.reference import LOCAL, ImageError, Reference, content_tag, is_content_tag
from kirsch.cluster.image.registry import Registry, explain
from kirsch.cluster.image.store import known
from kirsch.cluster.provision.command import Command, CommandError, Runner
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord
from kirsch.cluster.provision.shell import shell_of
from kirsch.cluster.provision.steps import Show

# Seconds; podman alone would try for a minute.
REACHABLE = 5.0
# What podman says of a registry that ended the connection while it was spoken to: as those do that refuse a
# certificate, and then why is known only to who was quick enough to hear it.
HUNG_UP, TRIES = "reset by peer", 5


def push(image: str, name: Reference, registry: Registry, runner: Runner, show: Show) -> list[Reference]:
    """Send an image to a registry under a name, and under the tag by its content. Raises ProvisionError."""
    source = known(image, runner)
    if source.startswith(image) and name.path == image:
        raise ImageError(f"{image} is an image's id: say after it by which name the image is to go")
    content = content_tag(inspected(source, runner))
    sent = [name, name.tagged(content)]
    with certificate_folder(registry) as folder:
        for each in dict.fromkeys(sent):
            transfer(registry.push(source, each, folder), f"push {each}", registry, each, runner, show)
    return sent


def pull(name: Reference, registry: Registry, runner: Runner, show: Show) -> Reference:
    """Fetch an image from a registry; it gets the tag by its content too. Raises ProvisionError."""
    with certificate_folder(registry) as folder:
        transfer(registry.pull(name, folder), f"pull {name}", registry, name, runner, show)
    content = content_tag(inspected(str(name), runner))
    runner.run(podman.tag(str(name), str(name.tagged(content))))
    return name


def transfer(
    command: Command, step: str, registry: Registry, name: Reference, runner: Runner, show: Show
) -> None:
    show.begun(step)
    clock = time.monotonic()
    for left in reversed(range(TRIES)):
        lines: list[str] = []
        try:
            runner.stream(command, lines.append)
            break
        except CommandError as error:
            said = " ".join(line.strip() for line in lines if "rror" in line) or error.words
            if not left or HUNG_UP not in said:
                raise ImageError(explain(said, registry.address, name)) from None
    show.done(step, time.monotonic() - clock)


@contextmanager
def certificate_folder(registry: Registry) -> Iterator[Path]:
    """A folder with the certificates for a registry that answers. Raises ImageError."""
    _reach(registry)
    with tempfile.TemporaryDirectory(prefix="kirsch-registry-") as temporary:
        for link, file in registry.linked().items():
            (Path(temporary) / link).symlink_to(file)
        yield Path(temporary)


def _reach(registry: Registry) -> None:
    """Find out at once that a registry is away."""
    places = registry.places
    if by_proxy(places[0][0]):
        return  # it alone may reach it
    reasons = []
    for place in places:
        try:
            socket.create_connection(place, REACHABLE).close()
        except (OSError, UnicodeError) as error:
            reasons.append(f"at port {place[1]}: {getattr(error, 'strerror', None) or error}")
        else:
            return
    raise ImageError(registry.unreachable(", ".join(reasons)))


def by_proxy(host: str) -> bool:
    """Return True if podman asks a proxy for a host, by HTTPS_PROXY and NO_PROXY."""
    if not getproxies().keys() & {"http", "https"} or proxy_bypass(host):
        return False
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def fetch_script(names: Sequence[Reference]) -> str:
    """The script by which a machine takes images from its cluster's registry; one without podman takes none.
    Units find them as localhost/NAME too, when the registry is away. Pure."""
    images = shlex.join(map(str, names))
    script = f"command -v podman >/dev/null || exit 0; podman pull --quiet {images}"
    # A tag by content is named with the registry always: see kirsch.cluster.application.
    called = [name for name in names if not is_content_tag(name.tag)]
    return script + "".join(
        f" && podman tag {shlex.quote(str(n))} {shlex.quote(str(n.at(LOCAL)))}" for n in called
    )


def distribute(cluster: ClusterRecord, names: Sequence[Reference], runner: Runner) -> dict[str, str]:
    """Have all machines fetch images from the cluster's registry, at once: those that could not, by name,
    with the reason. They fetch them when a unit starts there, if they can then."""
    left: dict[str, str] = {}

    def one(machine: MachineRecord) -> None:
        try:
            runner.run(shell_of(cluster, machine).command(fetch_script(names)))
        except CommandError as error:
            left[machine.name] = error.words

    runner.together(cluster.machines, one)
    return dict(sorted(left.items()))
