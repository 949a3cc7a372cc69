"""Figures of a real kirschd: GET /figures, and the stream that sends them."""

from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from typing import Any

import pytest
from tests.cli.application import wait_for
from tests.cluster.live import Connection, Kirschd, kirschd_in, options, unit_path

from kirsch.cluster.api.client import Client

pytestmark = pytest.mark.services

# A shell, a child that works, and one that its parent has left to the shim.
BUSY = """[Service]
ExecStart=sh -c '(sleep 1000 &) ; while :; do :; done'
"""


@pytest.fixture(scope="module")
def kirschd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kirschd]:
    with kirschd_in(tmp_path_factory.mktemp("figures")) as running:
        body = {"desiredState": "launched", "options": options(BUSY)}
        assert running.fleet("PUT", unit_path("busy.service"), body).status == 201
        yield running


def figures(kirschd: Kirschd, query: str = "") -> dict[str, Any]:
    answer = kirschd.ask("GET", f"/kirsch/v1/figures{query}")
    assert answer.status == 200, answer.body
    assert answer.json["missing"] == []
    [machine] = answer.json["machines"]
    assert isinstance(machine, dict)
    return machine


# A sample is taken every five seconds, and a rate needs two.
@pytest.mark.slow
def test_a_unit_that_works_has_cpu_memory_and_processes(kirschd: Kirschd) -> None:
    def busy() -> bool:
        units = {unit["name"]: unit for unit in figures(kirschd)["units"]}
        return bool("busy.service" in units and (units["busy.service"]["cpu"][0] or 0) > 0.05)

    wait_for(busy, "a sample of the busy unit")
    machine = figures(kirschd, "?since=0&unit=busy.service")
    [unit] = machine["units"]
    assert unit["processes"][-1] == 2
    assert unit["peak"] >= unit["memory"][-1] > 100_000
    assert unit["restarts"] == 0
    assert len(unit["cpu"]) == len(machine["times"]) == len(machine["cpu"]) >= 2
    assert machine["cpu"][-1] > 0.05
    assert 0 < machine["memory"][-1] < machine["memorySize"]
    assert 0 < machine["diskFree"] < machine["diskSize"]
    assert figures(kirschd, "?unit=other.service")["units"] == []


@pytest.mark.slow
def test_events_send_figures_among_changes_of_units(kirschd: Kirschd) -> None:
    client = Client(kirschd.socket)
    machines, units = [], []
    for message in client.stream("/kirsch/v1/events", figures="yes", timeout=30):
        machines += [message["figures"]] if "figures" in message else []
        units += message["units"]
        if len(machines) == 2 and units:
            break
    first, second = machines
    assert first["times"] < second["times"]
    assert [len(each["times"]) for each in machines] == [1, 1]
    assert [unit["name"] for unit in second["units"]] == ["busy.service"]


def test_events_have_no_figures_unless_they_are_asked_for(kirschd: Kirschd) -> None:
    for message in Client(kirschd.socket).stream("/kirsch/v1/events", timeout=10):
        assert sorted(message) == ["left", "releases", "units"]
        break


HAPROXY = """defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend web
    bind unix@{socket}
    default_backend web
backend web
    http-request return status 500 if {{ path /fails }}
"""
LB = """[Service]
Type=notify
ExecStart=kirsch balancer --config {config} --backend web=web:http
[X-Kirsch]
Endpoints=yes
"""
WEB = """[Service]
ExecStart=python -m http.server --bind ${KIRSCH_ADDRESS} 8080
[X-Kirsch]
Expose=8080 http
Health=http://:8080/
"""


@pytest.mark.slow
def test_a_balancer_reports_what_its_backends_do(kirschd: Kirschd) -> None:
    config, socket = kirschd.directory / "haproxy.cfg", kirschd.directory / "web.sock"
    config.write_text(HAPROXY.format(socket=socket))
    for name, text in {"web.service": WEB, "lb.service": LB.format(config=config)}.items():
        body = {"desiredState": "launched", "options": options(text)}
        assert kirschd.fleet("PUT", unit_path(name), body).status == 201

    def asked() -> bool:
        with suppress(OSError, HTTPException):
            return Connection(socket).ask("GET", "/").status == 200
        return False

    wait_for(asked, "the service answers through the balancer")

    def counted() -> bool:
        Connection(socket).ask("GET", "/fails")
        backends = figures(kirschd, "?unit=lb.service")["backends"]
        found = {each["server"]: each for each in backends if each["backend"] == "web"}
        whole = found.get("")
        return bool(len(found) == 2 and whole and whole["requests"][0] and whole["errors"][0])

    wait_for(counted, "a report with requests and errors")


def test_what_is_wrong_with_a_request_is_said(kirschd: Kirschd) -> None:
    answer = kirschd.ask("GET", "/kirsch/v1/figures?since=yesterday")
    assert (answer.status, answer.json["detail"]) == (400, "since is to be a number of seconds")
    answer = kirschd.ask("GET", "/kirsch/v1/figures?machine=nowhere")
    assert (answer.status, answer.json["detail"]) == (404, "there is no machine nowhere")


EXPORTS = """[Service]
ExecStart=python {program}
[X-Kirsch]
Expose=8080 http
Health=http://:8080/
Metrics=http://:8080/metrics
"""
PROGRAM = """
import os
from prometheus_client import Counter, start_http_server

turns = Counter("turns", "Turns of the loop")
_, thread = start_http_server(8080, os.environ["KIRSCH_ADDRESS"])
while thread.is_alive():
    turns.inc()
    thread.join(0.01)
"""


@pytest.mark.slow
def test_a_unit_exports_metrics_of_its_own(kirschd: Kirschd) -> None:
    program = kirschd.directory / "exports.py"
    program.write_text(PROGRAM)
    body = {"desiredState": "launched", "options": options(EXPORTS.format(program=program))}
    assert kirschd.fleet("PUT", unit_path("exports.service"), body).status == 201

    def exported() -> bool:
        units = figures(kirschd, "?unit=exports.service")["units"]
        return any((unit["exported"].get("turns_total") or [None])[0] for unit in units)

    wait_for(exported, "a rate of what the unit counts")
