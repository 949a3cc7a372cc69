"""A real control plane of Kubernetes on 127.0.0.1, with nodes that only seem to run pods (kwok)."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.deadline import eventually
from tests.port import free_port

from kirsch.cluster.provision.record import cache_folder

VERSION = "1.37.2"
KWOK = "0.8.0"
# Debian's etcd is older than what keeps the API server's caches up to date.
PROGRAMS = {
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "etcd": "go.etcd.io/etcd/server/v3",
}
STAGES = ("node/fast", "node/heartbeat", "pod/fast")
# What each pod "writes".
LOG = (
    b"2026-12-02T09:59:59.123456789Z stdout F caf\xe9 is no UTF-8\n"
    b"2026-12-02T10:00:00.123456789Z stdout F it runs\n"
)
VOLUMES = 6
READY = 90.0
CONTEXT = "test"


def binaries() -> Path:
    """Return the folder of the programs; where it has none they are built: 20 minutes on one core."""
    folder = cache_folder() / f"kubernetes-{VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all((folder / name).exists() for name in (*PROGRAMS, "kwok")):
            _build(folder)
    return folder


def _build(folder: Path) -> None:
    """Build by Go's own modules. Those that Kubernetes has beside it are releases of their own."""
    module = f"k8s.io/kubernetes@v{VERSION}"
    file = Path(_go(folder, "mod", "download", "-json", module, told="GoMod")).read_text()
    staging = re.findall(r"^\s*(\S+) => \./staging/src/", file, re.M)
    language = re.findall(r"^go \S+", file, re.M)[0]
    replaced = "\n".join(f"\t{name} => {name} v0{VERSION[1:]}" for name in staging)
    source = folder / "source"
    source.mkdir(exist_ok=True)
    (source / "go.mod").write_text(
        f"module x\n\n{language}\n\nrequire k8s.io/kubernetes v{VERSION}\n\nreplace (\n{replaced}\n)\n"
    )
    imports = "\n".join(f'\t_ "{package}"' for package in PROGRAMS.values())
    (source / "tools.go").write_text(f"//go:build tools\n\npackage x\n\nimport (\n{imports}\n)\n")
    _go(source, "mod", "tidy", "-e")
    for name, package in PROGRAMS.items():
        made = folder / f".{name}"
        _go(source, "build", "-ldflags=-s -w", "-o", str(made), package)
        made.rename(folder / name)
    _go(source, "install", "-ldflags=-s -w", f"sigs.k8s.io/kwok/cmd/kwok@v{KWOK}", GOBIN=str(folder))
    shutil.rmtree(source)


def _go(folder: Path, *arguments: str, told: str = "", **environment: str) -> str:
    done = subprocess.run(
        ["go", *arguments],
        cwd=folder,
        env={**os.environ, "GOFLAGS": "-mod=mod -p=1", **environment},
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return str(json.loads(done.stdout)[told]) if told else done.stdout


@contextmanager
def control_plane(folder: Path, nodes: int = 3) -> Iterator[Path]:
    """Run a control plane with nodes that are ready; gives the path of its kubeconfig."""
    programs = binaries()
    port, client, peer, manager, scheduler, kubelet = (free_port() for _ in range(6))
    server, store = f"https://127.0.0.1:{port}", f"http://127.0.0.1:{client}"
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (folder / "sa.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    (folder / "tokens.csv").write_text("token,admin,1,system:masters\n")
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [
                    {
                        "name": "test",
                        "cluster": {
                            "server": server,
                            # It signs its own.
                            "certificate-authority": str(folder / "certificates/apiserver.crt"),
                        },
                    }
                ],
                "users": [{"name": "admin", "user": {"token": "token"}}],
                "contexts": [{"name": CONTEXT, "context": {"cluster": "test", "user": "admin"}}],
                "current-context": CONTEXT,
            }
        )
    )
    etcd = [str(programs / "etcd"), f"--data-dir={folder / 'etcd'}", f"--listen-client-urls={store}"]
    etcd += [f"--advertise-client-urls={store}", f"--listen-peer-urls=http://127.0.0.1:{peer}"]
    etcd += [f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}", "--log-level=error"]
    etcd += [f"--initial-cluster=default=http://127.0.0.1:{peer}"]
    api = [f"--etcd-servers={store}", f"--secure-port={port}", "--bind-address=127.0.0.1"]
    api += [f"--cert-dir={folder / 'certificates'}", f"--token-auth-file={folder / 'tokens.csv'}"]
    api += [f"--service-account-{name}={folder / 'sa.key'}" for name in ("key-file", "signing-key-file")]
    api += [f"--service-account-issuer={server}", "--authorization-mode=RBAC"]
    api += ["--service-cluster-ip-range=10.0.0.0/24", "--endpoint-reconciler-type=none"]
    common = [f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--bind-address=127.0.0.1"]
    with ExitStack() as running:

        def run(*command: str) -> None:
            name = Path(command[0]).name
            with (folder / f"{name}.log").open("wb") as log:
                process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            running.callback(process.wait, READY)
            running.callback(process.terminate)

        run(*etcd)
        run(str(programs / "kube-apiserver"), *api)
        eventually(lambda: _answers(f"{server}/readyz", folder / "certificates"), READY, "the API server")
        account = f"--service-account-private-key-file={folder / 'sa.key'}"
        run(str(programs / "kube-controller-manager"), *common, account, f"--secure-port={manager}")
        run(str(programs / "kube-scheduler"), *common, f"--secure-port={scheduler}")
        stages = [f"--config={path}" for path in _stages(folder)]
        kwok = [str(programs / "kwok"), f"--kubeconfig={kubeconfig}", "--manage-all-nodes=true"]
        kwok += ["--node-ip=127.0.0.1", f"--node-port={kubelet}", f"--config={_logs(folder)}"]
        kwok += [f"--tls-cert-file={folder / 'certificates/apiserver.crt'}"]
        kwok += [f"--tls-private-key-file={folder / 'certificates/apiserver.key'}"]
        run(*kwok, *stages)
        _add_nodes(kubeconfig, nodes)
        yield kubeconfig


def _answers(url: str, certificates: Path) -> bool:
    import ssl

    try:
        context = ssl.create_default_context(cafile=str(certificates / "apiserver.crt"))
        request = urllib.request.Request(url, headers={"Authorization": "Bearer token"})
        with urllib.request.urlopen(request, context=context, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _stages(folder: Path) -> list[Path]:
    """The files that say how kwok's nodes, pods and volumes become ready; of its module."""
    told = _go(folder, "mod", "download", "-json", f"sigs.k8s.io/kwok@v{KWOK}", told="Dir")
    found = []
    for stage in STAGES:
        for path in sorted((Path(told) / "kustomize/stage" / stage).glob("*.yaml")):
            if "kind: Stage" in path.read_text():
                found.append(path)
    return found


def _logs(folder: Path) -> Path:
    """The file that says what kwok shows as the log of every pod."""
    log, file = folder / "pods.log", folder / "logs.yaml"
    log.write_bytes(LOG)
    file.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "kwok.x-k8s.io/v1alpha1",
                "kind": "ClusterLogs",
                "metadata": {"name": "every-pod"},
                "spec": {"logs": [{"logsFile": str(log), "follow": False}]},
            }
        )
    )
    return file


def _add_nodes(kubeconfig: Path, count: int) -> None:
    from kubernetes import client, config

    with config.new_client_from_config(str(kubeconfig)) as api:
        core, storage = client.CoreV1Api(api), client.StorageV1Api(api)
        room = {"cpu": "8", "memory": "16Gi", "pods": "100"}
        for number in range(1, count + 1):
            name = f"n{number}"
            labels = {"kubernetes.io/hostname": name, "type": "kwok"}
            core.create_node(
                {
                    "metadata": {"name": name, "labels": labels},
                    "status": {"allocatable": room, "capacity": room},
                }
            )
        annotations = {"storageclass.kubernetes.io/is-default-class": "true"}
        storage.create_storage_class(
            {
                "metadata": {"name": "there", "annotations": annotations},
                "provisioner": "kubernetes.io/no-provisioner",
            }
        )
        for number in range(VOLUMES):
            spec = {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "there",
                "hostPath": {"path": f"/nowhere/{number}"},
            }
            core.create_persistent_volume({"metadata": {"name": f"volume-{number}"}, "spec": spec})
        eventually(lambda: all(map(_ready, core.list_node().items)), READY, "the nodes")


def _ready(node: object) -> bool:
    conditions = getattr(node, "status").conditions or []  # noqa: B009
    return any(each.type == "Ready" and each.status == "True" for each in conditions)
