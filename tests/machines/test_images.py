"""A cluster's own registry: an image is sent once, and every machine can take it."""

import socket
import ssl
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from kirsch.cluster.image.registry import of_cluster
from kirsch.cluster.provision.command import CommandError, Runner
from kirsch.cluster.provision.record import ClusterRecord
from kirsch.cluster.provision.registry import SERVICE, UNIT, registry_files, settings
from kirsch.cluster.provision.shell import act, shell_of

KIRSCH = str(Path(sys.executable).with_name("kirsch"))


def kirsch(*arguments: object) -> str:
    done = subprocess.run(
        [KIRSCH, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def image(tmp_path: Path) -> Iterator[str]:
    """An image of one file that nobody has."""
    name = f"img-{uuid.uuid4().hex[:8]}"
    (tmp_path / "Containerfile").write_text("FROM scratch\nCOPY name /name\n")
    (tmp_path / "name").write_text(name)
    kirsch("image", "build", tmp_path, "-t", name)
    yield name
    kirsch("image", "rm", name)


def test_the_registrys_settings_let_only_the_cluster_in():
    assert "clientcas" in settings()
    assert "LoadCredential=machine.key:/etc/kirsch/tls/machine.key" in SERVICE


@pytest.mark.machines
@pytest.mark.soak
@pytest.mark.root
def test_each_machine_trusts_the_registry_and_one_is_it(cluster: ClusterRecord):
    home, *others = cluster.machines
    at = of_cluster(cluster).address
    for machine in others:
        files = {file.path: file.content for file in registry_files(cluster, machine)}
        local = files.pop("/etc/containers/registries.conf.d/50-kirsch.conf")
        assert f'location = "{at}"'.encode() in local
        assert files.keys() == {
            f"/etc/containers/certs.d/{at}/{name}" for name in ("ca.crt", "client.cert", "client.key")
        }
    unit = act(Runner(), shell_of(cluster, home), home.name, "systemctl is-active kirsch-registry")
    assert unit.strip() == "active"


@pytest.mark.machines
@pytest.mark.soak
@pytest.mark.root
def test_an_image_is_sent_once_and_every_machine_takes_it(cluster: ClusterRecord, image: str):
    at = of_cluster(cluster).address
    said = kirsch("image", "push", image, "--on", cluster.name)
    assert f"{at}/{image}:latest" in said
    runner = Runner()
    for machine in cluster.machines:
        shell = shell_of(cluster, machine)
        act(runner, shell, machine.name, f"podman pull --quiet {at}/{image}")
        act(runner, shell, machine.name, f"podman image exists {at}/{image}")
    registry, *machines = kirsch("image", "prune", "--on", cluster.name).splitlines()
    assert registry.startswith("registry: ")
    assert [line.partition(":")[0] for line in machines] == [machine.name for machine in cluster.machines]
    for machine in cluster.machines:
        with pytest.raises(CommandError):
            runner.run(shell_of(cluster, machine).command(f"podman image exists {at}/{image}"))
    # What has a name in the registry stays there.
    act(runner, shell_of(cluster, cluster.machines[-1]), "it", f"podman pull --quiet {at}/{image}")


@pytest.mark.machines
@pytest.mark.soak
@pytest.mark.root
def test_what_a_unit_names_by_content_stays_and_what_nobody_names_goes(
    cluster: ClusterRecord, image: str, tmp_path: Path
):
    at = of_cluster(cluster).address
    said = kirsch("image", "push", image, "--on", cluster.name)
    first = said.split()[-1]
    (tmp_path / "name").write_text("changed")
    kirsch("image", "build", tmp_path, "-t", image)
    kirsch("image", "rm", f"{image}:{first.rpartition(':')[2]}")
    kirsch("image", "push", image, "--on", cluster.name)
    unit = tmp_path / f"{image}.container"
    unit.write_text(f"[Container]\nImage={first}\n")
    kirsch("--cluster", cluster.name, "submit", unit)
    runner, shell = Runner(), shell_of(cluster, cluster.machines[-1])
    pull = shell.command(f"podman pull --quiet {first}")
    runner.run(pull)
    kirsch("image", "prune", "--on", cluster.name)
    # On the machine, without asking the registry.
    runner.run(shell.command(f"podman image exists {first}"))
    runner.run(pull)
    kirsch("--cluster", cluster.name, "destroy", unit.name)
    kirsch("image", "prune", "--on", cluster.name)
    with pytest.raises(CommandError):
        runner.run(pull)
    act(runner, shell, "it", f"podman pull --quiet {at}/{image}")


@pytest.mark.machines
@pytest.mark.soak
@pytest.mark.root
def test_layers_go_only_while_nobody_can_send(cluster: ClusterRecord, image: str):
    at = of_cluster(cluster).address
    kirsch("image", "push", image, "--on", cluster.name)
    runner, shell = Runner(), shell_of(cluster, cluster.machines[0])
    # As a push that was given up leaves it: a layer that no image has.
    blobs = "/var/lib/kirsch-registry/docker/registry/v2/blobs/sha256"
    layer = f"{blobs}/ab/{'ab' * 32}"
    act(runner, shell, "it", f"mkdir -p {layer}; touch {layer}/data; chown -R --reference={blobs} {blobs}")
    kirsch("image", "prune", "--on", cluster.name)
    act(runner, shell, "it", f"test ! -e {layer}/data")
    # It was done before the registry served again.
    done = act(runner, shell, "it", f"systemctl show {UNIT} --property ExecStartPreEx")
    assert "garbage-collect" in done
    assert "code=exited ; status=0" in done
    act(runner, shell, "it", f"podman pull --quiet {at}/{image}")


@pytest.mark.machines
@pytest.mark.soak
@pytest.mark.root
def test_an_image_is_everywhere_before_it_is_needed(cluster: ClusterRecord, image: str):
    at = of_cluster(cluster).address
    said = kirsch("image", "push", image, "--on", cluster.name, "--everywhere")
    assert "machines" in said
    for machine in cluster.machines:
        act(Runner(), shell_of(cluster, machine), machine.name, f"podman image exists {at}/{image}")


@pytest.mark.machines
@pytest.mark.soak
@pytest.mark.root
def test_a_stranger_is_not_let_in(cluster: ClusterRecord, image: str):
    kirsch("image", "push", image, "--on", cluster.name)
    host, port = of_cluster(cluster).place
    stranger = ssl.create_default_context(cafile=cluster.certificates.authority)
    with pytest.raises(ssl.SSLError, match=r"(bad certificate|certificate required)"):
        asked(stranger, host, port)
    assert asked(cluster.certificates.client(), host, port).startswith(b"HTTP/1.0 200")


@pytest.fixture
def kept(cluster: ClusterRecord) -> Iterator[ClusterRecord]:
    """The cluster; afterwards its first machine keeps the images again."""
    yield cluster
    kirsch("cluster", "images", cluster.machines[0].name, "--cluster", cluster.name)


@pytest.mark.machines
@pytest.mark.soak
@pytest.mark.root
def test_another_machine_keeps_the_images_when_the_one_that_did_is_gone(kept: ClusterRecord, image: str):
    first, second, _ = kept.machines
    runner, name = Runner(), kept.name
    was = of_cluster(kept).address
    act(runner, shell_of(kept, first), first.name, "systemctl stop kirsch-registry")
    assert refused("image", "push", image, "--on", name) == (
        f"kirsch: registry {was} does not answer at port 5000: Connection refused; n1 keeps the images of "
        f"{name}: `kirsch cluster start {name} n1` switches it on, "
        f"`kirsch cluster images MACHINE --cluster {name}` has another machine keep them\n"
    )

    said = kirsch("cluster", "images", "n2", "--cluster", name)
    assert f"n2 keeps the images of {name}, at {second.address}:5000" in said
    at = of_cluster(ClusterRecord.load(name)).address
    assert at == f"{second.address}:5000"
    assert f"{at}/{image}:latest" in kirsch("image", "push", image, "--on", name)
    for machine in kept.machines:
        shell = shell_of(kept, machine)
        act(runner, shell, machine.name, f"podman pull --quiet {at}/{image}")
        act(runner, shell, machine.name, f"podman rmi {at}/{image}; podman pull --quiet localhost/{image}")
    active = "systemctl is-active kirsch-registry || :"
    states = [act(runner, shell_of(kept, machine), machine.name, active).strip() for machine in kept.machines]
    assert states == ["inactive", "active", "inactive"]
    assert "has no machine nobody" in refused("cluster", "images", "nobody", "--cluster", name)


def refused(*arguments: object) -> str:
    """What a verb says that fails."""
    done = subprocess.run(
        [KIRSCH, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stderr


def asked(context: ssl.SSLContext, host: str, port: int) -> bytes:
    """What a registry answers."""
    with (
        socket.create_connection((host, port), 10) as plain,
        context.wrap_socket(plain, server_hostname=host) as wrapped,
    ):
        wrapped.sendall(b"GET /v2/ HTTP/1.0\r\n\r\n")
        return wrapped.recv(100)
