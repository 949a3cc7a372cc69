"""The notes, run by `podman kube play` from what is exported for Kubernetes."""

import base64
import json
import os
import resource
import shutil
import urllib.request
import uuid
from pathlib import Path

import pytest
import yaml
from tests.deadline import eventually
from tests.image.conftest import Podman
from tests.port import free_port

from kirsch.cluster.application import load
from kirsch.cluster.convert.kubernetes import export

pytestmark = [pytest.mark.soak, pytest.mark.root, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/notes"


@pytest.fixture
def podman(tmp_path):
    if not all(map(shutil.which, ("podman", "runc", "catatonit"))):
        pytest.skip("needs podman, runc and catatonit")
    made = Podman(f"kirsch-test-{uuid.uuid4().hex[:6]}")
    # Pods have no option for it, and podman's own limits may be above ours.
    kinds = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    limits = {name: resource.getrlimit(kind)[1] for name, kind in kinds.items()}
    given = [f"{name}={min(limit, 8192)}:{min(limit, 8192)}" for name, limit in limits.items() if limit > 0]
    (tmp_path / "containers.conf").write_text(f"[containers]\ndefault_ulimits = {json.dumps(given)}\n")
    made.environment["CONTAINERS_CONF"] = str(tmp_path / "containers.conf")
    yield made
    for pod in made.podman("pod", "ps", "--format", "{{.Name}}").split():
        if pod.startswith(made.prefix):
            made.podman("pod", "rm", "--force", pod)
    made.podman("secret", "rm", f"{made.prefix}-database")
    made.podman("volume", "rm", "--force", f"{made.prefix}-data")
    made.clean()


def test_the_page_answers(podman, tmp_path):
    database, page = f"{podman.prefix}/postgres", f"{podman.prefix}/notes"
    podman.kirsch("image", "build", ROOT / "images/postgres", "-t", database)
    podman.kirsch("image", "build", EXAMPLE, "-t", page)
    made = export(load(EXAMPLE), registry="localhost")
    found = {(each["kind"], each["metadata"]["name"]): each for each in made.objects}
    secret = tmp_path / "secret"
    secret.write_text(json.dumps({"value": base64.b64encode(os.urandom(12).hex().encode()).decode()}))
    podman.podman("secret", "create", f"{podman.prefix}-database", secret)

    store = found["StatefulSet", "webdb"]
    # podman plays Deployments, and claims that stand beside them.
    (claim,) = store["spec"].pop("volumeClaimTemplates")
    volumes = store["spec"]["template"]["spec"].setdefault("volumes", [])
    volumes.append(
        {
            "name": claim["metadata"]["name"],
            "persistentVolumeClaim": {"claimName": f"{podman.prefix}-data"},
        }
    )
    play(podman, tmp_path, store, database, free_port())
    pod = f"{podman.prefix}-webdb-pod-0"
    address = eventually(lambda: address_of(podman, pod), 60, "the pod's address")
    notes = found["Deployment", "notes"]
    # In place of the Services: podman has none.
    notes["spec"]["template"]["spec"]["hostAliases"] = [{"ip": address, "hostnames": ["webdb", "postgres"]}]
    port = free_port()
    play(podman, tmp_path, notes, page, port)
    url = f"http://127.0.0.1:{port}"
    eventually(lambda: answers(f"{url}/readyz"), 90, "the page")
    assert "<title>" in answers(url)


def play(podman, folder, workload, image, port):
    """Have podman run a workload under a name of the test's, its one port published."""
    workload["kind"] = "Deployment"
    workload["metadata"]["name"] = f"{podman.prefix}-{workload['metadata']['name']}"
    workload["spec"]["replicas"] = 1
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    container["image"] = f"localhost/{image}:latest"
    container["ports"][0]["hostPort"] = port
    file = folder / f"{workload['metadata']['name']}.yaml"
    file.write_text(yaml.safe_dump(workload).replace("notes-database", f"{podman.prefix}-database"))
    podman.podman("kube", "play", file)


def address_of(podman, pod):
    infra = podman.podman("pod", "inspect", pod, "--format", "{{.InfraContainerID}}")
    networks = json.loads(podman.podman("inspect", infra))[0]["NetworkSettings"]["Networks"]
    return next((each["IPAddress"] for each in networks.values() if each["IPAddress"]), "")


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return ""
