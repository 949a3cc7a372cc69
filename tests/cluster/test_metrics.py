"""/metrics of a real kirschd, on its Unix socket."""

import time
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.cli.application import wait_for
from tests.cluster.live import Kirschd, kirschd_in, options, unit_path

pytestmark = pytest.mark.services

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
