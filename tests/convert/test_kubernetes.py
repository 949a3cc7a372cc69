"""Kubernetes objects of applications, held against the schemas of three versions of Kubernetes."""

import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kirsch.cluster.application import Application, load
from kirsch.cluster.convert.kubernetes import cron, export

EXAMPLES = Path(__file__).parents[2] / "examples"
KIRSCH = str(Path(sys.executable).with_name("kirsch"))
VERSIONS = ("1.32", "1.35", "1.37")


def application(**units):
    texts = {name.replace("_AT_", "@").replace("_DOT_", "."): text for name, text in units.items()}
    start = tuple(name.replace("@.", "@1.") for name in texts)
    return Application("app", Path(), texts, {name: name for name in texts}, start)


def objects(made):
    return [each for text in made.files.values() for each in yaml.safe_load_all(text)]


def one(unit, options="", section="", name="web.container"):
    """The objects by kind, and the remarks, of an application of one container."""
    text = f"[Container]\nImage=localhost/web\n{unit}\n[X-Kirsch]\n{options}\n{section}"
    made = export(Application("app", Path(), {name: text}, {name: name}, (name,)))
    return {each["kind"]: each for each in objects(made)}, made.remarks


def container(found, kind="Deployment"):
    return found[kind]["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["notes", "chat", "location"])
def test_every_object_of_the_examples_is_valid(name, version):
    made = export(load(EXAMPLES / name, cluster=True), namespace="demo", registry="registry.example/team")
    for each in objects(made):
        kubernetes_validate.validate(each, version, strict=True)
    assert "&id" not in "".join(made.files.values())


def test_the_notes_keep_their_shape():
    made = export(load(EXAMPLES / "notes", cluster=True))
    kinds = {(each["kind"], each["metadata"]["name"]) for each in objects(made)}
    assert kinds == {
        ("PersistentVolumeClaim", "notes-webdb"),
        ("StatefulSet", "webdb"),
        ("Service", "webdb"),
        ("Service", "postgres"),
        ("Deployment", "notes"),
        ("Service", "notes"),
        ("Ingress", "lb"),
        ("PersistentVolumeClaim", "notes-backups"),
        ("CronJob", "backup"),
    }
    # What is used stands before what uses it.
    assert list(made.files)[:2] == ["webdb.yaml", "notes.yaml"]
    found = {(each["kind"], each["metadata"]["name"]): each for each in objects(made)}
    notes = found["Deployment", "notes"]["spec"]
    assert notes["replicas"] == 2
    assert found["CronJob", "backup"]["spec"]["schedule"] == "0 3 * * *"
    variables = {
        each["name"]: each.get("value") for each in notes["template"]["spec"]["containers"][0]["env"]
    }
    assert variables["POSTGRES_PORT_5432_TCP_ADDR"] == "webdb"
    assert variables["POSTGRES_ENV_POSTGRES_DB"] == "notes"
    assert any("haproxy.cfg" in remark for remark in made.remarks)


def test_output_is_the_same_each_time():
    folder = EXAMPLES / "notes"
    assert export(load(folder, cluster=True)) == export(load(folder, cluster=True))


def test_a_secrets_value_is_never_written():
    made = export(load(EXAMPLES / "notes", cluster=True), namespace="demo")
    assert any(
        remark.endswith("create secret generic notes-database --namespace demo --from-file=value=FILE")
        for remark in made.remarks
    )
    assert "kind: Secret" not in "".join(made.files.values())


def test_what_is_not_carried_over_is_told_where_it_stands_and_to_the_person():
    found, remarks = one("PodmanArgs=--cgroups=split\nUser=web", "Replaces=x\nOnPartition=stop")
    assert container(found)["securityContext"].get("runAsUser") is None
    assert [remark.partition(" ")[2][:20] for remark in remarks] == [
        "PodmanArgs=--cgroups",
        "User=web is a name: ",
        "Replaces= has no cou",
        "OnPartition=stop: no",
    ]


def test_probes_follow_health():
    found, _ = one("HealthCmd=pg_isready\nHealthInterval=5s\nHealthRetries=4")
    ready = container(found)["readinessProbe"]
    assert ready["exec"]["command"] == ["/bin/sh", "-c", "pg_isready"]
    assert (ready["periodSeconds"], ready["failureThreshold"]) == (5, 4)
    found, _ = one("", "Health=tcp://:5432")
    assert container(found)["startupProbe"]["tcpSocket"] == {"port": 5432}


def test_where_a_unit_may_run():
    found, _ = one("", 'MachineMetadata="disk=ssd" "disk=nvme" "zone=a"\nSpread=zone\nCPU=1.5\nMemory=1G')
    pod = found["Deployment"]["spec"]["template"]["spec"]
    terms = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert terms["nodeSelectorTerms"][0]["matchExpressions"] == [
        {"key": "disk", "operator": "In", "values": ["nvme", "ssd"]},
        {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a"]},
    ]
    assert pod["topologySpreadConstraints"][0]["topologyKey"] == "topology.kubernetes.io/zone"
    assert container(found)["resources"]["requests"] == {"cpu": "1500m", "memory": "1073741824"}
    assert "DaemonSet" in one("", "Global=true")[0]
    assert "StatefulSet" in one("", "Sticky=yes")[0]


def test_published_ports_are_a_load_balancers():
    found, _ = one("PublishPort=80:8080", "Expose=8080 http")
    assert found["Service"]["spec"]["type"] == "LoadBalancer"
    assert found["Service"]["spec"]["ports"] == [
        {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}
    ]


def test_a_secret_without_a_variable_is_a_file():
    found, _ = one("", "Secret=tls")
    made = container(found)
    assert made["volumeMounts"][0]["mountPath"] == "/run/credentials/kirsch/tls"
    assert {"name": "CREDENTIALS_DIRECTORY", "value": "/run/credentials/kirsch"} in made["env"]


def test_a_plain_process_is_told():
    made = export(application(clock_DOT_service="[Service]\nExecStart=date\n"))
    assert objects(made) == [None] or objects(made) == []
    assert made.remarks == ("clock: a .service unit has no counterpart: Kubernetes runs containers",)


@pytest.mark.parametrize(
    ("calendar", "schedule"),
    [
        ("daily", "0 0 * * *"),
        ("*-*-* 03:00:00", "0 3 * * *"),
        ("Mon..Fri 07:30", "30 7 * * 1-5"),
        ("Sat,Sun 9:05:00", "5 9 * * 6,0"),
        ("*-*-01 00:10", "10 0 1 * *"),
        ("quarterly", None),
        ("Foo 10:00", None),
        ("*:0/15", None),
        ("25:00", None),
    ],
)
def test_a_timers_calendar_is_crons_where_cron_has_it(calendar, schedule):
    assert cron(calendar) == schedule


@given(st.text(max_size=30))
def test_no_calendar_breaks_it(text):
    assert cron(text) is None or len(cron(text).split()) == 5


class TestCommand:
    def run(self, *arguments, cwd=None):
        return subprocess.run(
            [KIRSCH, "export", *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=60
        )

    def test_a_folder_of_files(self, tmp_path):
        done = self.run("kubernetes", EXAMPLES / "chat", "-o", tmp_path / "deploy")
        assert done.returncode == 0
        assert sorted(path.name for path in (tmp_path / "deploy").iterdir()) == [
            "chat.yaml",
            "lb.yaml",
            "rabbitmq.yaml",
        ]
        assert "note: lb: an Ingress takes HAProxy's place" in done.stderr

    def test_on_standard_output(self, tmp_path):
        done = self.run("kubernetes", EXAMPLES / "location")
        assert [each["kind"] for each in yaml.safe_load_all(done.stdout)] == ["Deployment", "Service"]

    def test_a_folder_that_is_no_application(self, tmp_path):
        done = self.run("kubernetes", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.count("\n") == 1
        (tmp_path / "file").touch()
        done = self.run("kubernetes", EXAMPLES / "location", "-o", tmp_path / "file")
        assert done.returncode == 1
        assert done.stderr == f"kirsch: {tmp_path / 'file'}: File exists\n"
