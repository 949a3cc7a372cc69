"""Applications on a real control plane of Kubernetes, whose nodes only seem to run pods (kwok)."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
import uuid
from pathlib import Path

import pytest
import yaml
from tests.convert.control_plane import CONTEXT, control_plane
from tests.deadline import eventually
from tests.image.conftest import Podman, Registry

pytestmark = pytest.mark.soak

KIRSCH = str(Path(sys.executable).with_name("kirsch"))
EXAMPLES = Path(__file__).parents[2] / "examples"
ON = f"kubernetes:{CONTEXT}"
STORE = """
[Container]
Image=registry.example/store:1
Volume=data:/data
[X-Kirsch]
Expose=5432
Secret=store:PASSWORD
Sticky=yes
"""
WEB = """
[Container]
Image=registry.example/web:1
PublishPort=80:8080
[X-Kirsch]
Link=store
Expose=8080 http
Expose=53 dns
Expose=53/udp DNS
Secret=store:PASSWORD
HealthyFor=1s
"""


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory):
    if not shutil.which("go"):
        pytest.skip("needs go")
    with control_plane(tmp_path_factory.mktemp("control-plane")) as path:
        yield path


@pytest.fixture
def space(kubeconfig, tmp_path, request):
    """A namespace of the test's own: a kubeconfig, and what is asked of the API there."""
    from kubernetes import client, config

    name = request.node.name.split("[")[0].replace("_", "-")[:50]
    text = yaml.safe_load(kubeconfig.read_text())
    text["contexts"][0]["context"]["namespace"] = name
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(text))
    with config.new_client_from_config(str(kubeconfig)) as api:
        client.CoreV1Api(api).create_namespace({"metadata": {"name": name}})
        yield Space(path, name, api)


class Space:
    def __init__(self, kubeconfig, name, api):
        from kubernetes import client

        self.kubeconfig, self.name, self.api = kubeconfig, name, api
        self.apps, self.core = client.AppsV1Api(api), client.CoreV1Api(api)

    def kirsch(self, *arguments, status=0):
        done = subprocess.run(
            [KIRSCH, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=280,
            env=os.environ | {"KUBECONFIG": str(self.kubeconfig)},
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout if status == 0 else done.stderr

    def images(self, service):
        pods = self.core.list_namespaced_pod(
            self.name, label_selector=f"app.kubernetes.io/name={service}"
        ).items
        return sorted(pod.spec.containers[0].image for pod in pods if not pod.metadata.deletion_timestamp)


@pytest.fixture
def application(tmp_path):
    folder = tmp_path / "demo"
    (folder / "units").mkdir(parents=True)
    (folder / "kirsch.toml").write_text('name = "demo"\nstart = ["store", "web@1", "web@2"]\n')
    (folder / "units/store.container").write_text(STORE)
    (folder / "units/web@.container").write_text(WEB)
    return folder


@pytest.mark.timeout(3600)  # the first one builds the control plane
@pytest.mark.parametrize("name", ["notes", "chat", "location"])
def test_an_example_is_accepted_field_by_field_and_its_pods_run(kubeconfig, name):
    from kubernetes import client, config

    from kirsch.cluster.application import load
    from kirsch.cluster.application.kubernetes import Kubernetes
    from kirsch.cluster.convert.kubernetes import export

    made = export(load(EXAMPLES / name, cluster=True), registry="registry.example/team", secrets=Values())
    with config.new_client_from_config(str(kubeconfig)) as api:
        client.CoreV1Api(api).create_namespace({"metadata": {"name": name}})
        target = Kubernetes(CONTEXT, name, api)
        target.apply(made.objects)
        shown = {}
        target.await_ready(made.objects, 240, shown.__setitem__)
        assert set(shown.values()) <= {"1 of 1 ready", "2 of 2 ready"}
        # A second time nothing is in conflict with itself.
        target.apply(made.objects)
        assert target.remove(name)
        target.await_gone(name, 120)


class Values(dict):
    def __contains__(self, name):
        return True

    def __missing__(self, name):
        return b"secret"


@pytest.mark.timeout(600)
def test_an_application_goes_up_changes_scales_comes_back_and_goes_down(space, application):
    told = space.kirsch("up", application, "--on", ON)
    assert "web    2 of 2 ready" in told
    assert f"demo is up on {ON}" in told
    value = space.core.read_namespaced_secret("store", space.name).data["value"]
    assert "Nothing has changed." in space.kirsch("up", application, "--on", ON)

    space.kirsch("--cluster", ON, "scale", "web=3")
    assert space.images("web") == ["registry.example/web:1"] * 3

    (application / "units/web@.container").write_text(WEB.replace("web:1", "web:2"))
    assert space.kirsch("up", application, "--on", ON, "--dry-run") == "change   Deployment web\n"
    space.kirsch("up", application, "--on", ON, "-m", "the second")
    # The number that a person asked for stays.
    assert space.images("web") == ["registry.example/web:2"] * 3

    told = space.kirsch("--cluster", ON, "rollback", "demo")
    assert "release 3 of demo is done: rollback to 1" in told
    assert space.images("web") == ["registry.example/web:1"] * 3

    told = space.kirsch("--cluster", ON, "status", "web@1", "store")
    assert "web  Deployment  3 of 3 ready" in told
    assert "store-0  Running  on n" in told
    told = space.kirsch("--cluster", ON, "journal", "-n", "1", "store")
    assert told == "Dec 02 10:00:00 it runs\n"
    assert "caf\ufffd is no UTF-8" in space.kirsch("--cluster", ON, "journal", "store")

    (application / "kirsch.toml").write_text('name = "demo"\nstart = ["store"]\n')
    assert "remove   Deployment web" in space.kirsch("up", application, "--on", ON)
    space.kirsch("down", application, "--on", ON)
    assert space.images("store") == []
    assert "create   StatefulSet store" in space.kirsch("up", application, "--on", ON)
    assert space.images("store") == ["registry.example/store:1"]
    space.kirsch("down", application, "--on", ON)
    # Data and secrets stay.
    claims = space.core.list_namespaced_persistent_volume_claim(space.name).items
    assert [claim.metadata.name for claim in claims] == ["data-store-0"]
    assert space.core.read_namespaced_secret("store", space.name).data["value"] == value
    assert "is not up" in space.kirsch("down", application, "--on", ON)


@pytest.mark.timeout(600)
def test_what_nobody_waited_for_is_done_once_it_is_ready(space, tmp_path):
    folder = tmp_path / "demo"
    (folder / "units").mkdir(parents=True)
    (folder / "kirsch.toml").write_text('start = ["web_app"]\n')
    unit = folder / "units/web_app.container"
    unit.write_text("[Container]\nImage=registry.example/web:1\n")
    up = ("up", folder, "--on", ON)
    told = json.loads(space.kirsch(*up, "-d", "--json"))
    assert (told["release"], told["steps"]) == (1, ["create   Deployment web-app"])
    status = ("--cluster", ON, "status", "web_app.container")
    eventually(lambda: "1 of 1 ready" in space.kirsch(*status), 60, "the pod")
    unit.write_text("[Container]\nImage=registry.example/web:2\n")
    space.kirsch(*up)
    assert "rollback to 1" in space.kirsch("--cluster", ON, "rollback", "demo")
    assert "has 2 instances" in space.kirsch("--cluster", ON, "scale", "web_app=2")
    assert space.images("web-app") == ["registry.example/web:1"] * 2


def test_what_only_runs_by_a_timer_is_there_as_well(space, tmp_path):
    folder = tmp_path / "demo"
    (folder / "units").mkdir(parents=True)
    (folder / "kirsch.toml").write_text('start = ["copy.container", "copy.timer"]\n')
    (folder / "units/copy.container").write_text("[Container]\nImage=x\n[Service]\nType=oneshot\n")
    (folder / "units/copy.timer").write_text("[Timer]\nOnCalendar=Sat..Sun 9:00\n")
    assert "create   CronJob copy" in space.kirsch("up", folder, "--on", ON)
    assert "Nothing has changed." in space.kirsch("up", folder, "--on", ON)
    space.kirsch("down", folder, "--on", ON)
    assert "create   CronJob copy" in space.kirsch("up", folder, "--on", ON)


@pytest.mark.timeout(600)
@pytest.mark.root
def test_images_are_built_pushed_and_known_by_content(space, tmp_path):
    if not shutil.which("docker-registry") or not shutil.which("podman"):
        pytest.skip("needs docker-registry and podman")
    podman, registry = Podman(f"kirsch-test-{uuid.uuid4().hex[:6]}"), Registry(tmp_path)
    folder = tmp_path / "demo"
    (folder / "units").mkdir(parents=True)
    name = podman.prefix
    (folder / "kirsch.toml").write_text(f'start = ["web"]\n[images.{name}]\nbuild = "."\n')
    (folder / "Containerfile").write_text("FROM scratch\nCOPY hello /hello\n")
    (folder / "units/web.container").write_text(f"[Container]\nImage=localhost/{name}\n")
    up = ("up", folder, "--on", ON, "--registry", f"{registry.address}/team")
    try:
        seen = []
        for text in ("hello", "hello again"):
            (folder / "hello").write_text(text)
            space.kirsch(*up)
            (image,) = space.images("web")
            there, _, tag = image.rpartition(":")
            assert there == f"{registry.address}/team/{name}"
            with urllib.request.urlopen(f"http://{registry.address}/v2/team/{name}/tags/list") as answer:
                assert tag in json.load(answer)["tags"]
            seen.append(image)
        assert len(set(seen)) == 2
        assert "Nothing has changed." in space.kirsch(*up)
    finally:
        podman.clean()
        registry.close()


def test_what_cannot_run_is_told_with_its_reason(space, application):
    (application / "units/web@.container").write_text(WEB + "MachineMetadata=disk=none\n")
    told = space.kirsch("up", application, "--on", ON, "--timeout", "10", status=1)
    assert told.splitlines()[-1].startswith(
        "kirsch: not ready after 10 s: web (cannot be scheduled: 0/3 nodes"
    )
    # One pod that has not started takes nothing from the others.
    assert "it runs" in space.kirsch("--cluster", ON, "journal")
    # A deadline that was missed once is not missed again: somebody has mended the cluster.
    settings = (application / "kirsch.toml").read_text()
    (application / "kirsch.toml").write_text(settings + '[release]\ndeadline = "2s"\n')
    told = space.kirsch("up", application, "--on", ON, "--timeout", "100", status=1)
    assert "web cannot be scheduled" in told
    space.core.patch_node("n1", {"metadata": {"labels": {"disk": "none"}}})
    assert f"demo is up on {ON}" in space.kirsch("up", application, "--on", ON)
    # What is mended goes on from there.
    (application / "units/web@.container").write_text(WEB)
    assert f"demo is up on {ON}" in space.kirsch("up", application, "--on", ON)


def test_mistakes_are_one_line(space, application, tmp_path):
    told = space.kirsch("up", application, "--on", "kubernetes:nowhere", status=1)
    assert told == f"kirsch: the kubeconfig has no context 'nowhere'; there are: {CONTEXT}\n"
    told = space.kirsch("--cluster", ON, "list-units", status=1)
    assert told.startswith("kirsch: that is not for Kubernetes: ")
    assert "name the application" in space.kirsch("--cluster", ON, "rollback", status=1)
    told = space.kirsch("--cluster", ON, "scale", "nobody=3", status=1)
    assert told.startswith("kirsch: there is no service nobody")
    told = space.kirsch("up", EXAMPLES / "location", "--on", ON, status=1)
    assert told.startswith("kirsch: give --registry HOST/PATH")
    text = space.kubeconfig.read_text()
    space.kubeconfig.write_text(text.replace(f"namespace: {space.name}", "namespace: absent"))
    told = space.kirsch("up", application, "--on", ON, status=1)
    assert (
        told == f"kirsch: there is no namespace absent: kubectl --context {CONTEXT} create namespace absent\n"
    )
