"""/metrics of a real kirschd, on its Unix socket, and what docs/monitoring has of it."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from prometheus_client.parser import text_string_to_metric_families
from tests.cli.application import wait_for
from tests.cluster.etcd_server import Authority, EtcdServer, needs_etcd
from tests.cluster.live import Connection, Kirschd, kirschd_in, options, unit_path
from tests.cluster.members import MemberMachine, Members, running

from kirsch.cluster.model.certificates import KEY, Issued
from kirsch.cluster.node.metrics import last_ends, store_metrics
from kirsch.cluster.registry.health import StoreHealth, StoreMember

pytestmark = pytest.mark.services

DOCS = Path(__file__).parents[2] / "docs"

SLEEPER = "[Service]\nExecStart=sleep 1000\n"
FALLING = "[Service]\nExecStart=false\nRestart=on-failure\nRestartSec=10ms\n[Unit]\nStartLimitBurst=3\n"


@pytest.fixture(scope="module")
def kirschd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kirschd]:
    with kirschd_in(tmp_path_factory.mktemp("metrics")) as running:
        yield running


def submit(kirschd: Kirschd, name: str, desired: str, text: str = SLEEPER) -> None:
    body = {"desiredState": desired, "options": options(text)}
    assert kirschd.fleet("PUT", unit_path(name), body).status == 201


def samples(kirschd: Kirschd) -> dict[tuple[str, ...], float]:
    answer = kirschd.ask("GET", "/metrics")
    assert answer.status == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def until(kirschd: Kirschd, key: tuple[str, ...], value: float) -> dict[tuple[str, ...], float]:
    deadline = time.monotonic() + 30
    while (found := samples(kirschd)).get(key) != value:
        assert time.monotonic() < deadline, found
    return found


def test_units_are_counted_by_state(kirschd: Kirschd) -> None:
    submit(kirschd, "running.service", "launched")
    submit(kirschd, "loaded.service", "loaded")
    submit(kirschd, "known.service", "inactive")
    found = until(kirschd, ("kirsch_units", "active", "running"), 1)
    found = until(kirschd, ("kirsch_units", "inactive", "dead"), 1)
    assert found["kirsch_units", "unloaded", ""] == 1
    assert found["kirsch_reconcile_duration_seconds_count",] >= 2


def test_a_unit_that_serves_is_ready_and_its_machine_has_what_it_reserves(kirschd: Kirschd) -> None:
    text = f"{SLEEPER}[X-Kirsch]\nExpose=8080\nCPU=0.5\nMemory=64M\n"
    submit(kirschd, "serving.service", "launched", text)
    machine = kirschd.ask("GET", "/kirsch/v1/machines").json["machines"][0]["id"]
    found = until(kirschd, ("kirsch_unit_ready", machine, "serving.service"), 1)
    assert found["kirsch_machine_reserved_cpu", machine] == 0.5
    assert found["kirsch_machine_reserved_memory_bytes", machine] == 64 << 20
    assert found["kirsch_machine_cpu", machine] >= 1
    assert found["kirsch_machine_cordoned", machine] == 0


def test_restarts_are_counted_by_unit(kirschd: Kirschd) -> None:
    submit(kirschd, "falling.service", "launched", FALLING)
    until(kirschd, ("kirsch_unit_restarts_total", "falling.service"), 2)


def test_requests_to_the_api_are_counted(kirschd: Kirschd) -> None:
    for _ in range(3):
        kirschd.ask("GET", "/fleet/v1/machines")
    # A request is counted when its answer has gone out: its client can be faster than that.
    key = ("http_request_duration_seconds_count", "GET", "/fleet/v1/machines", "200")
    wait_for(lambda: samples(kirschd).get(key) == 3, "three requests are counted")


@pytest.mark.slow
def test_units_and_the_machine_have_figures(kirschd: Kirschd) -> None:
    text = "[Service]\nExecStart=sh -c 'while :; do :; done'\n"
    submit(kirschd, "working.service", "launched", text)

    def works() -> bool:
        return samples(kirschd).get(("kirsch_unit_cpu_seconds_total", "working.service"), 0) > 0.1

    wait_for(works, "a sample of the unit that works")
    found = samples(kirschd)
    assert found["kirsch_unit_processes", "working.service"] == 1
    memory = found["kirsch_unit_memory_bytes", "working.service"]
    assert found["kirsch_unit_memory_peak_bytes", "working.service"] >= memory > 100_000
    assert found["kirsch_machine_cpu_seconds_total",] > 0
    assert found["kirsch_machine_memory_used_bytes",] > memory
    assert 0 < found["kirsch_machine_disk_free_bytes",] < found["kirsch_machine_disk_size_bytes",]
    assert found["kirsch_store_up",] == 1
    assert ("kirsch_backup_timestamp_seconds",) not in found


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemberMachine]:
    """A machine that keeps etcd and has the authority's key: it makes backups."""
    folder = tmp_path_factory.mktemp("signs")
    authority = Authority(folder / "tls")
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (authority.folder / KEY).write_bytes(
        authority.key.private_bytes(encoding, form, serialization.NoEncryption())
    )
    etcd = EtcdServer(folder / "etcd", 1, authority)
    with running(Members(folder, etcd, authority, 1)) as made:
        yield made.machines[0]


def exported(machine: MemberMachine) -> dict[tuple[str, ...], float]:
    """Every sample of a machine, by name and labels; families that have none are there by name."""
    answer = Connection(machine.socket).ask("GET", "/metrics")
    assert answer.status == 200, answer.body
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(answer.body.decode()):
        found[family.name + ("_total" if family.type == "counter" else ""),] = 0.0
        for sample in family.samples:
            found[sample.name, *sample.labels.values()] = sample.value
    return found


@needs_etcd
def test_a_machine_tells_of_its_store_certificates_and_backups(machine: MemberMachine) -> None:
    began = time.time()

    def there() -> bool:
        found = exported(machine)
        backup = found.get(("kirsch_backup_timestamp_seconds",), 0)
        return (
            backup > began - 60 and ("kirsch_certificate_expiry_timestamp_seconds", "n1", "machine") in found
        )

    wait_for(there, "a backup and a certificate")
    found = exported(machine)
    assert found["kirsch_certificate_expiry_timestamp_seconds", "n1", "machine"] > began
    assert (found["kirsch_store_up",], found["kirsch_store_quorum",], found["kirsch_store_alarms",]) == (
        1,
        1,
        0,
    )
    assert (found["kirsch_store_members",], found["kirsch_store_members_up",]) == (1, 1)


@needs_etcd
def test_docs_rules_and_dashboard_name_what_there_is(machine: MemberMachine) -> None:
    names = {name for name, *_ in exported(machine)}
    rules = yaml.safe_load((DOCS / "monitoring/rules.yml").read_text())["groups"][0]["rules"]
    panels = json.loads((DOCS / "monitoring/dashboard.json").read_text())["panels"]
    expressions = [rule["expr"] for rule in rules]
    expressions += [target["expr"] for panel in panels for target in panel["targets"]]
    used = set(re.findall(r"\bkirsch_\w+", " ".join(expressions)))
    assert len(used) > 20
    assert used <= names
    page = set(re.findall(r"`(kirsch_\w+)`", (DOCS / "monitoring.md").read_text()))
    families = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in names}
    assert page == {name for name in families if name.startswith("kirsch_")}


def test_a_store_without_a_majority_has_no_quorum() -> None:
    health = StoreHealth((StoreMember("a", "follower"), StoreMember("b"), StoreMember("c")))
    found = {sample.name: sample.value for each in store_metrics(False, health) for sample in each.samples}
    assert found == {
        "kirsch_store_up": 0,
        "kirsch_store_quorum": 0,
        "kirsch_store_members": 3,
        "kirsch_store_members_up": 1,
        "kirsch_store_alarms": 0,
        "kirsch_store_size_bytes": 0,
    }


def test_of_a_holders_certificates_the_last_one_counts() -> None:
    issued = [
        Issued("n1", "machine", 100.0, "1"),
        Issued("n1", "machine", 200.0, "1"),
        Issued("n1", "machine", 300.0, "1", revoked=True),
        Issued("ann", "view", 50.0),
    ]
    assert last_ends(issued) == {("n1", "machine"): 200.0, ("ann", "view"): 50.0}
