"""Kubernetes objects of applications, held against the schemas of three versions of Kubernetes."""

import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kirsch.cluster.application import Application, load
from kirsch.cluster.convert.calendar import cron
from kirsch.cluster.convert.kubernetes import export

EXAMPLES = Path(__file__).parents[2] / "examples"
KIRSCH = str(Path(sys.executable).with_name("kirsch"))
GOLDEN = Path(__file__).with_name("golden")
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
    claims = found["StatefulSet", "webdb"]["spec"]["volumeClaimTemplates"]
    assert [claim["metadata"]["name"] for claim in claims] == ["notes-webdb"]
    notes = found["Deployment", "notes"]["spec"]
    assert notes["replicas"] == 2
    assert found["CronJob", "backup"]["spec"]["schedule"] == "0 3 * * *"
    variables = {
        each["name"]: each.get("value") for each in notes["template"]["spec"]["containers"][0]["env"]
    }
    assert variables["POSTGRES_PORT_5432_TCP_ADDR"] == "webdb"
    assert variables["POSTGRES_ENV_POSTGRES_DB"] == "notes"
    assert any("haproxy.cfg" in remark for remark in made.remarks)


@pytest.mark.parametrize("name", ["notes", "chat", "location"])
def test_output_is_what_it_was(name):
    """Where a change is meant: kirsch export kubernetes examples/NAME > tests/convert/golden/NAME.yaml"""
    made = export(load(EXAMPLES / name, cluster=True))
    assert "---\n".join(made.files.values()) == (GOLDEN / f"{name}.yaml").read_text()


def lines(name, values):
    return st.sampled_from(values).map(lambda value: f"{name}={value}")


CONTAINER = st.lists(
    st.one_of(
        lines("Environment", ["A=1", '"B=two words" C=3', "D=$(HOME)"]),
        lines("PublishPort", ["80:8080", "127.0.0.1:81:8081", "53:53/udp"]),
        lines("Volume", ["data:/data", "other.volume:/o:ro", "/srv:/srv", "/dev/log:/dev/log"]),
        lines("ReadOnly", ["true", "false"]),
        lines("DropCapability", ["all", "CAP_CHOWN net_raw"]),
        lines("User", ["1000", "web"]),
        lines("HealthCmd", ["pg_isready", "none"]),
        lines("HealthInterval", ["5s", "500ms"]),
        lines("StopTimeout", ["5", "infinity"]),
        lines("Memory", ["512m", "1G"]),
        lines("Tmpfs", ["/scratch", "/scratch:size=1M"]),
    ),
    max_size=8,
)
OPTIONS = st.lists(
    st.one_of(
        lines("Expose", ["8080 http", "9000/udp", "9100 a-very-long-name-of-a-port"]),
        lines("Health", ["tcp://:8080", "http://:8080/readyz?x=1"]),
        lines("Link", ["other", "other:alias", "nobody"]),
        lines("Secret", ["tls", "Pass_Word:PASSWORD"]),
        lines("CPU", ["1.5", "50%"]),
        lines("Memory", ["1G"]),
        lines("Conflicts", ["web@*", "other.container"]),
        lines("MachineMetadata", ["zone=a", '"disk=ssd" "disk=nvme"']),
        lines("Metrics", ["http://:8080/metrics"]),
        lines("AtATime", ["2"]),
        lines("Sticky", ["yes"]),
    ),
    max_size=8,
    unique_by=lambda line: line.partition("=")[0],
)
RULES = st.lists(
    st.one_of(
        lines("MemoryMax", ["1G", "50%", "infinity"]),
        lines("CPUQuota", ["150%"]),
        lines("TimeoutStopSec", ["90", "infinity"]),
        lines("Type", ["oneshot"]),
        lines("Restart", ["no", "always"]),
        lines("ExecStartPre", ["/bin/true"]),
    ),
    max_size=4,
)


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(CONTAINER, OPTIONS, RULES, st.integers(1, 3))
def test_every_container_becomes_valid_objects_and_the_same_ones_each_time(
    container, options, rules, instances
):
    text = "\n".join(
        ["[Container]", "Image=localhost/web", *container, "[X-Kirsch]", *options, "[Service]", *rules, ""]
    )
    units = {"web@.container": text, "other.container": "[Container]\nImage=x\nVolume=data:/d\n"}
    start = ("other.container", *(f"web@{number}.container" for number in range(1, instances + 1)))
    made = export(Application("app", Path(), units, {name: name for name in units}, start))
    assert made == export(Application("app", Path(), units, {name: name for name in units}, start))
    for each in objects(made):
        kubernetes_validate.validate(each, VERSIONS[-1], strict=True)
    names = [(each["kind"], each["metadata"]["name"]) for each in objects(made)]
    assert len(names) == len(set(names))


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
    ]
    assert pod["nodeSelector"] == {"topology.kubernetes.io/zone": "a"}
    assert pod["topologySpreadConstraints"][0]["topologyKey"] == "topology.kubernetes.io/zone"
    assert container(found)["resources"]["requests"] == {"cpu": "1500m", "memory": "1073741824"}
    assert "DaemonSet" in one("", "Global=true")[0]
    assert "StatefulSet" in one("", "Sticky=yes")[0]


def test_limits_are_those_of_systemd_and_quadlet():
    found, remarks = one("Memory=512m", "Memory=256M", "[Service]\nCPUQuota=150%\n")
    assert container(found)["resources"] == {
        "requests": {"memory": "268435456"},
        "limits": {"cpu": "1500m", "memory": "536870912"},
    }
    assert remarks == ()
    _, remarks = one("", "", "[Service]\nMemoryMax=50%\nExecStartPre=/bin/true\n")
    assert remarks == (
        "web: ExecStartPre=/bin/true of [Service] is not carried over",
        "web: MemoryMax=50% of [Service] is no amount that Kubernetes has",
    )


def test_a_release_is_a_rollout():
    text = "[Container]\nImage=web\n[X-Kirsch]\nAtATime=2\n"
    units, release = {"web.container": text}, {"healthy_for": "10s", "deadline": 50, "canary": 1}
    made = export(Application("app", Path(), units, units, ("web.container",), release=release))
    spec = objects(made)[0]["spec"]
    assert (spec["minReadySeconds"], spec["progressDeadlineSeconds"]) == (10, 61)
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 2, "maxSurge": 0}
    assert made.remarks == ("web: Kubernetes has no canaries: every pod is replaced",)


def test_what_never_ends_ends_after_a_day():
    found, _ = one("", "", "[Service]\nTimeoutStopSec=infinity\n")
    assert found["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 86403


def test_kubernetes_fills_in_no_variable_of_its_own():
    found, _ = one("Environment=A=$(HOME)\nExec=echo $(A)")
    assert {"name": "A", "value": "$$(HOME)"} in container(found)["env"]
    assert container(found)["args"] == ["echo", "$$(A)"]


def test_the_last_value_of_a_variable_and_a_mount_is_the_one():
    """Server-side apply refuses what comes twice."""
    found, _ = one("Environment=A=1 KIRSCH_ADDRESS=::\nEnvironment=A=2\nReadOnly=yes\nTmpfs=/tmp\nTmpfs=/tmp")
    names = [each["name"] for each in container(found)["env"]]
    assert len(names) == len(set(names))
    assert {"name": "A", "value": "2"} in container(found)["env"]
    paths = [each["mountPath"] for each in container(found)["volumeMounts"]]
    assert len(paths) == len(set(paths))


def test_a_volume_of_several_services_has_one_claim():
    texts = {
        "web.container": "[Container]\nImage=web\nVolume=data:/data\n",
        "copy.container": "[Container]\nImage=copy\nVolume=data:/data:ro\n[Service]\nType=oneshot\n",
        "copy.timer": "[Timer]\nOnCalendar=daily\nOnCalendar=Mon 10:00\nPersistent=true\n",
    }
    made = export(Application("app", Path(), texts, {name: name for name in texts}, tuple(texts)))
    # The timer's file is not written over the container's.
    assert [*made.files] == ["web.yaml", "copy.yaml"]
    found = objects(made)
    assert [each["kind"] for each in found] == ["PersistentVolumeClaim", "StatefulSet", "CronJob"]
    assert "volumeClaimTemplates" not in found[1]["spec"]
    assert found[2]["spec"]["schedule"] == "0 0 * * *"
    assert [remark for remark in made.remarks if "copy" in remark and "schedule" in remark] == [
        "copy: a CronJob has one schedule: 0 10 * * 1 needs one of its own"
    ]
    assert "copy: Persistent=true of [Timer] is not carried over" in made.remarks


def test_a_port_of_this_machine_alone_is_no_load_balancers():
    found, remarks = one("PublishPort=127.0.0.1:80:8080")
    assert "type" not in found["Service"]["spec"]
    assert remarks == (
        "web: port 8080 is published on this machine only: kubectl port-forward service/web 80 does that",
    )


def test_metrics_and_a_description_are_annotations():
    found, _ = one("", "Metrics=http://:9000/metrics", "[Unit]\nDescription=The page\n")
    assert found["Deployment"]["metadata"]["annotations"] == {"kubernetes.io/description": "The page"}
    assert found["Deployment"]["spec"]["template"]["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "9000",
        "prometheus.io/path": "/metrics",
    }


def test_haproxy_runs_where_it_is_asked_for():
    configuration = (EXAMPLES / "chat/balancer/haproxy.cfg").read_text()
    balancers = {"balancer/haproxy.cfg": configuration}
    made = export(load(EXAMPLES / "chat", cluster=True), balancers=balancers)
    found = {(each["kind"], each["metadata"]["name"]): each for each in objects(made)}
    assert ("Ingress", "lb") not in found
    assert "chat-pods:8080" in found["ConfigMap", "lb"]["data"]["haproxy.cfg"]
    assert found["Service", "chat-pods"]["spec"]["clusterIP"] == "None"
    pod = found["DaemonSet", "lb"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["command"] == ["haproxy"]
    assert found["Service", "lb"]["spec"]["type"] == "LoadBalancer"
    for each in objects(made):
        kubernetes_validate.validate(each, VERSIONS[0], strict=True)


def test_values_of_secrets_are_written_where_they_are_given():
    text = "[Container]\nImage=web\n[X-Kirsch]\nSecret=Pass_Word:PASSWORD\nSecret=tls\n"
    units = {"web.container": text}
    made = export(
        Application("app", Path(), units, units, ("web.container",)), secrets={"Pass_Word": b"\x00x"}
    )
    found = {each["kind"]: each for each in objects(made)}
    assert found["Secret"]["metadata"]["name"] == "pass-word"
    assert found["Secret"]["data"] == {"value": "AHg="}
    reference = container(found)["env"][-2]["valueFrom"]["secretKeyRef"]
    assert reference == {"name": "pass-word", "key": "value"}
    assert made.remarks == ("create the secret: kubectl create secret generic tls --from-file=value=FILE",)


def test_published_ports_are_a_load_balancers():
    found, _ = one("PublishPort=80:8080", "Expose=8080 http")
    assert found["Service"]["spec"]["type"] == "LoadBalancer"
    assert found["Service"]["spec"]["ports"] == [
        {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}
    ]


def services(unit, options=""):
    """The ports of each Service of a container, by the Service's name: its type, number and target."""
    text = f"[Container]\nImage=localhost/web\n{unit}\n[X-Kirsch]\n{options}\n"
    made = export(Application("app", Path(), {"web.container": text}, {}, ("web.container",)))
    found = [each for each in made.objects if each["kind"] == "Service"]
    for each in made.objects:
        kubernetes_validate.validate(each, VERSIONS[-1], strict=True)
    return {
        each["metadata"]["name"]: (
            each["spec"].get("type"),
            [(port["name"], port["port"], port["targetPort"]) for port in each["spec"]["ports"]],
        )
        for each in found
    }


def test_a_link_finds_the_exposed_port_where_another_is_published():
    assert services("PublishPort=80:8080", "Expose=8080 http") == {
        "web": (None, [("http", 8080, 8080)]),
        "web-public": ("LoadBalancer", [("http", 80, 8080)]),
    }


def test_a_port_that_is_exposed_and_published_as_it_is_has_one_service():
    assert services("PublishPort=8080:8080\nPublishPort=443:8443", "Expose=8080 http") == {
        "web": ("LoadBalancer", [("http", 8080, 8080), ("tcp-443", 443, 8443)]),
    }


def test_an_exposed_port_that_is_not_published_is_no_load_balancers():
    assert services("PublishPort=8080:8080", "Expose=8080 http\nExpose=9000") == {
        "web": (None, [("http", 8080, 8080), ("tcp-9000", 9000, 9000)]),
        "web-public": ("LoadBalancer", [("http", 8080, 8080)]),
    }


def test_a_name_that_would_come_twice_is_one_ports():
    """Kubernetes refuses a name that comes twice, and knows no upper case."""
    options = "Expose=53/udp dns\nExpose=53 DNS\nExpose=8081 8081\nExpose=9000/udp\nExpose=9000"
    found, _ = one("", options)
    assert container(found)["ports"] == [
        {"containerPort": 53, "protocol": "UDP", "name": "dns"},
        {"containerPort": 53, "protocol": "TCP"},
        # A name that has no letter is refused.
        {"containerPort": 8081, "protocol": "TCP"},
        {"containerPort": 9000, "protocol": "UDP"},
        {"containerPort": 9000, "protocol": "TCP"},
    ]
    names = [port["name"] for port in found["Service"]["spec"]["ports"]]
    assert names == ["dns", "tcp-53", "tcp-8081", "udp-9000", "tcp-9000"]


def test_names_of_ports_that_are_too_long_stay_apart():
    found, _ = one("", "Expose=8080 a-name-so-long-one\nExpose=8081 a-name-so-long-other")
    names = [port["name"] for port in found["Service"]["spec"]["ports"]]
    assert names == ["a-name-so-long", "tcp-8081"] or len(set(names)) == 2
    assert all(len(name) <= 15 and not name.endswith("-") for name in names)


def test_a_user_may_come_with_its_group():
    found, remarks = one("User=1000:2000")
    assert (container(found)["securityContext"]["runAsUser"], remarks) == (1000, ())
    assert container(found)["securityContext"]["runAsGroup"] == 2000


def test_a_volume_without_a_name_is_empty_with_each_pod():
    found, remarks = one("Volume=/cache")
    pod = found["Deployment"]["spec"]["template"]["spec"]
    assert pod["volumes"] == [{"name": "volume-cache", "emptyDir": {}}]
    assert container(found)["volumeMounts"] == [{"name": "volume-cache", "mountPath": "/cache"}]
    assert remarks == ()


def test_a_dollar_sign_of_a_command_is_one():
    """Quadlet gives Exec= to systemd, where two dollar signs are one."""
    found, _ = one('Exec=sh -c "echo $$HOME"')
    assert container(found)["args"] == ["sh", "-c", "echo $HOME"]


def test_a_secret_without_a_variable_is_a_file():
    found, _ = one("", "Secret=tls")
    made = container(found)
    assert made["volumeMounts"][0]["mountPath"] == "/run/secrets/tls"
    # The same path as under kirsch: an image may have it written down.
    assert {"name": "CREDENTIALS_DIRECTORY", "value": "/run/secrets"} in made["env"]


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
        ("Sat..Sun 9:05", "5 9 * * 6,0"),
        ("Monday..Sunday 9:05", "5 9 * * 1,2,3,4,5,6,0"),
        ("Tue..Tue 9:05", "5 9 * * 2"),
        ("*-*-31 00:10", "10 0 31 * *"),
        # systemd refuses them too.
        ("Sun..Tue 9:05", None),
        ("*-*-00 00:10", None),
        ("*-*-32 00:10", None),
        ("Monstrous 9:05", None),
        # cron would run on every Monday, and on every first.
        ("Mon *-*-01 00:10", None),
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

    def test_a_kustomization_names_the_files(self, tmp_path):
        words = ("kubernetes", "--kustomize", EXAMPLES / "notes", "--registry", "registry.example:5000/team")
        done = self.run(*words, "--tag", "v1", "-o", tmp_path)
        assert done.returncode == 0, done.stderr
        made = yaml.safe_load((tmp_path / "kustomization.yaml").read_text())
        there = sorted(path.name for path in tmp_path.iterdir())
        assert sorted([*made["resources"], "kustomization.yaml"]) == there
        assert {"name": "registry.example:5000/team/notes", "newTag": "v1"} in made["images"]
        done = self.run("kubernetes", "--kustomize", EXAMPLES / "notes")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)

    def test_on_standard_output(self, tmp_path):
        done = self.run("kubernetes", EXAMPLES / "location")
        assert [each["kind"] for each in yaml.safe_load_all(done.stdout)] == ["Deployment", "Service"]

    def test_secrets_that_up_made(self, tmp_path):
        shutil.copytree(EXAMPLES / "chat", tmp_path / "chat", ignore=shutil.ignore_patterns(".kirsch"))
        done = self.run("kubernetes", "--with-secrets", tmp_path / "chat")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        (tmp_path / "chat/.kirsch/secrets").mkdir(parents=True)
        (tmp_path / "chat/.kirsch/secrets/chat-broker").write_text("secret")
        done = self.run("kubernetes", "--with-secrets", "--haproxy", tmp_path / "chat")
        found = {each["kind"]: each for each in yaml.safe_load_all(done.stdout)}
        assert found["Secret"]["data"] == {"value": "c2VjcmV0"}
        assert "ConfigMap" in found
        done = self.run("kubernetes", "--with-secrets", tmp_path / "chat", "-o", tmp_path / "made")
        assert done.returncode == 0, done.stderr
        assert {path.stat().st_mode & 0o777 for path in (tmp_path / "made").iterdir()} == {0o600}

    def test_a_folder_that_is_no_application(self, tmp_path):
        done = self.run("kubernetes", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.count("\n") == 1
        (tmp_path / "file").touch()
        done = self.run("kubernetes", EXAMPLES / "location", "-o", tmp_path / "file")
        assert done.returncode == 1
        assert done.stderr == f"kirsch: {tmp_path / 'file'}: File exists\n"
