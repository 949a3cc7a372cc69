"""Ports of this computer that lead to whichever machines answer: one dies, one leaves, and people go on."""

import http.client
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.machines.computer import Computer, podman
from tests.machines.trial import eventually
from tests.port import free_port

pytestmark = [pytest.mark.machines, pytest.mark.slow]

WEB = """\
[Service]
ExecStart=/usr/bin/python3 -m http.server --directory /etc/kirsch-web 8091
ExecStartPre=/bin/mkdir -p /etc/kirsch-web
ExecStartPre=/bin/sh -c 'hostname >/etc/kirsch-web/name'
[X-Kirsch]
Global=true
Expose=8091
Health=tcp://:8091
"""
CLIENTS = 4


class Ingress:
    """A cluster of two machines, with a web server on each, and a port that leads there."""

    def __init__(self, computer: Computer) -> None:
        self.computer = computer
        self.port = free_port()
        self.name = computer.create("door", "--machines", "2", "--publish", f"{self.port}:8091")
        (computer.folder / "web.service").write_text(WEB)
        self.kirsch("start", str(computer.folder / "web.service"))
        self.leads_to("n1", "n2")

    def kirsch(self, *arguments: str) -> str:
        """A verb that must succeed."""
        done = self.computer.kirsch("--cluster", self.name, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def leads_to(self, *machines: str) -> None:
        """Wait until the port leads to these machines and no others."""

        def ports() -> list[list[str]]:
            shown = self.computer.kirsch("cluster", "status", self.name, "--json").stdout
            return [port["machines"] for port in json.loads(shown)["ports"]]

        eventually(lambda: ports() == [list(machines)])

    def ask(self) -> str:
        """Who answers one request; in angle brackets what went wrong."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", "/name")
            answer = connection.getresponse()
            return answer.read().decode().strip() if answer.status == 200 else f"<{answer.status}>"
        except (OSError, http.client.HTTPException) as error:
            return f"<{error!r}>"
        finally:
            connection.close()


@pytest.fixture(scope="module")
def ingress(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ingress]:
    computer = Computer(tmp_path_factory.mktemp("computer"), f"tests-{os.getpid()}")
    try:
        yield Ingress(computer)
    finally:
        computer.close()


@contextmanager
def requests(ingress: Ingress) -> Iterator[list[str]]:
    """Requests one after another by some clients while the block runs: all answers."""
    answers: list[str] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            answers.append(ingress.ask())

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        done.set()
        for thread in threads:
            thread.join()


def failed(answers: list[str]) -> list[str]:
    return [answer for answer in answers if answer.startswith("<")]


def test_machines_answer_in_turn(ingress: Ingress):
    assert {ingress.ask() for _ in range(20)} == {"n1", "n2"}
    assert f"port 127.0.0.1:{ingress.port}: leads to port 8091 of n1 n2\n" in ingress.kirsch(
        "cluster", "status"
    )
    listed = json.loads(ingress.kirsch("cluster", "list", "--json"))
    assert [(c["machines"], c["running"]) for c in listed if c["name"] == ingress.name] == [(2, 2)]


def test_a_machine_that_dies_takes_along_what_is_in_flight_at_most(ingress: Ingress):
    with requests(ingress) as answers:
        podman("kill", "--signal", "KILL", f"kirsch-{ingress.name}-n2")
        ingress.leads_to("n1")
        before = len(answers)
        eventually(lambda: len(answers) > before + 50)
    assert len(failed(answers)) <= CLIENTS, failed(answers)
    assert set(answers[before + CLIENTS :]) == {"n1"}
    with requests(ingress) as answers:
        podman("start", f"kirsch-{ingress.name}-n2")
        ingress.leads_to("n1", "n2")
        eventually(lambda: "n2" in answers)
    assert failed(answers) == []


def test_a_drained_machine_loses_nothing(ingress: Ingress):
    with requests(ingress) as answers:
        ingress.kirsch("drain", "n1")
        before = len(answers)
        eventually(lambda: len(answers) > before + 50)
        ingress.kirsch("uncordon", "n1")
    assert failed(answers) == []


@pytest.mark.soak
def test_it_is_switched_off_and_on_with_the_machines(ingress: Ingress):
    ingress.kirsch("cluster", "stop")
    assert ingress.ask().startswith("<")
    ingress.kirsch("cluster", "start")
    ingress.leads_to("n1", "n2")
    assert ingress.ask() in ("n1", "n2")


def test_one_that_ends_by_itself_is_started_again(ingress: Ingress):
    # From outside: a command in the container would end with it.
    pid = podman("inspect", "--format", "{{.State.Pid}}", f"kirsch-{ingress.name}-ingress")
    os.kill(int(pid), signal.SIGKILL)
    eventually(lambda: ingress.ask() in ("n1", "n2"))
    ingress.leads_to("n1", "n2")


@pytest.mark.soak
def test_a_machine_that_leaves_loses_nothing(ingress: Ingress):
    with requests(ingress) as answers:
        ingress.kirsch("cluster", "remove", "n2")
        before = len(answers)
        eventually(lambda: len(answers) > before + 50)
    assert failed(answers) == []
    assert set(answers[before + CLIENTS :]) == {"n1"}
    ingress.leads_to("n1")
