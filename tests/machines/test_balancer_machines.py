"""A balancer in a container on every machine: HAProxy's servers follow the units of the whole cluster."""

import csv
import http.client
import io
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.machines.trial import KIRSCH, Trial, eventually, podman

from kirsch.cluster.provision.record import ClusterRecord, MachineRecord

pytestmark = [pytest.mark.machines, pytest.mark.soak, pytest.mark.timeout(1800)]

IMAGES = Path(__file__).parents[2] / "images"
IMAGE = "localhost/kirsch/haproxy"
FOLDER = "/etc/kirsch-trial"
WEB = """\
[Service]
RuntimeDirectory=web%i
ExecStartPre=/bin/sh -c 'echo web%i >/run/web%i/who'
ExecStart=/usr/bin/python3 -m http.server --directory /run/web%i 9100
[X-Kirsch]
Expose=9100 http
Health=http://:9100/who
Conflicts=web@*.service
"""
BASE = """\
global
.if defined(SYSLOG)
    log "${SYSLOG}" local0
.else
    log stdout format raw local0
.endif
defaults
    log global
    option httplog
    mode http
    timeout connect 1s
    timeout client 30s
    timeout server 30s
    retries 3
    retry-on conn-failure empty-response response-timeout
    option redispatch 1
"""
FOLLOWS = (
    BASE
    + """\
frontend entry
    bind "${KIRSCH_ADDRESS}:8091"
    default_backend web
frontend statistics
    bind "${KIRSCH_ADDRESS}:8090"
    stats enable
    stats uri /
backend web
    balance roundrobin
    option httpchk GET /who
"""
)
# The lines of the article's.
LINKED = (
    BASE
    + """\
frontend entry
    bind *:8095
    default_backend web
backend web
    balance roundrobin
    server n1 "${N1_PORT_9100_TCP_ADDR}:${N1_PORT_9100_TCP_PORT}" check
    server n2 "${N2_PORT_9100_TCP_ADDR}:${N2_PORT_9100_TCP_PORT}" check
"""
)
# What the balancer was told last.
READ_ENDPOINTS = """python3 -c '
import socket
s = socket.socket(socket.AF_UNIX)
s.settimeout(5)
s.connect("/run/kirsch/endpoints/shared/endpoints.sock")
print(s.recv(1 << 16).decode())
'"""
LB = f"""\
[Container]
Image={IMAGE}
PublishPort=8091:8091
PublishPort=8090:8090
Volume={FOLDER}/lb.cfg:/etc/haproxy/haproxy.cfg:ro
Volume=/dev/log:/dev/log
Environment=SYSLOG=/dev/log
ReadOnly=true
NoNewPrivileges=true
DropCapability=all
Exec=--config haproxy.cfg --backend web=web:http
[X-Kirsch]
Endpoints=yes
Expose=8091 http
Expose=8090 statistics
Health=http://:8091/who
Global=true
"""


@pytest.fixture(scope="module")
def machines(cluster: ClusterRecord) -> ClusterRecord:
    """Machines that can have the balancer's image."""
    for words in (
        ("image", "build", str(IMAGES / "haproxy"), "-t", "kirsch/haproxy"),
        ("image", "push", "kirsch/haproxy", "--on", cluster.name, "--everywhere"),
    ):
        done = subprocess.run([KIRSCH, *words], capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr
    return cluster


@pytest.fixture
def webs(trial: Trial, machines: ClusterRecord) -> Iterator[Trial]:
    """Two of three web servers run; each machine has configurations for HAProxy."""
    for machine in trial.machines:
        trial.shell(machine, f"mkdir -p {FOLDER}")
        for name, text in (("lb.cfg", FOLLOWS), ("linked.cfg", LINKED)):
            path = trial.write(name, text)
            podman("cp", path, f"{machine.container}:{FOLDER}/{name}")
    trial.submit("web@.service", WEB)
    trial.kirsch("start", "web@1", "web@2")
    trial.until(lambda lines: all(lines.get(f"web@{n}.service", {}).get("ready") for n in (1, 2)))
    yield trial
    trial.clear()


def ask(machine: MachineRecord, port: int, path: str = "/who") -> str:
    """What a machine answers at a port; in angle brackets what went wrong."""
    connection = http.client.HTTPConnection(machine.address, port, timeout=20)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode().strip()
        return body if answer.status == 200 else f"<{answer.status}>"
    except (OSError, http.client.HTTPException) as error:
        return f"<{error!r}>"
    finally:
        connection.close()


def answers(machine: MachineRecord, port: int = 8091) -> set[str]:
    return {ask(machine, port) for _ in range(6)}


def servers(machine: MachineRecord) -> set[str]:
    """Those on the statistics page that are up."""
    rows = csv.DictReader(io.StringIO(ask(machine, 8090, "/;csv").removeprefix("# ")))
    found = (row for row in rows if row["pxname"] == "web" and row["svname"] not in ("FRONTEND", "BACKEND"))
    return {row["svname"] for row in found if row["status"].startswith(("UP", "no check"))}


def haproxy(trial: Trial, machine: MachineRecord) -> str:
    """Its process on a machine."""
    return trial.shell(machine, "podman exec systemd-lb sh -c 'grep -lx haproxy /proc/[0-9]*/comm'")


@contextmanager
def explained(trial: Trial, machine: MachineRecord) -> Iterator[None]:
    """What does not come about is told with all that is known of it."""
    try:
        yield
    except AssertionError as error:
        units = trial.kirsch("list-units").out
        endpoints = trial.shell(machine, READ_ENDPOINTS)
        journal = trial.kirsch("journal", "-n", "40", "lb").out
        page = ask(machine, 8090, "/;csv")
        raise AssertionError("\n".join([str(error), units, endpoints, page, journal])) from None


@contextmanager
def requests(machine: MachineRecord) -> Iterator[list[str]]:
    """Requests one after another by two clients while the block runs: all answers."""
    found: list[str] = []
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            found.append(ask(machine, 8091))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_every_machine_is_an_entrance_to_units_wherever_they_are(webs: Trial):
    trial, first = webs, webs.machines[0]
    trial.submit("lb.container", LB)
    trial.kirsch("start", "lb")
    for machine in trial.machines:
        eventually(lambda machine=machine: answers(machine) == {"web1", "web2"})
        assert servers(machine) == {"web:1.service", "web:2.service"}
    pid = haproxy(trial, first)

    # Of the cluster it sees where units serve, and nothing else.
    inside = trial.shell(first, "podman exec systemd-lb sh -c 'ls -A /run/kirsch; id -un; env'").splitlines()
    assert inside[:2] == ["endpoints.sock", "haproxy"]
    assert "KIRSCH_ENDPOINTS=/run/kirsch/endpoints.sock" in inside
    outside = "runuser -u nobody -- cat /run/kirsch/endpoints/shared/endpoints.sock 2>&1 || :"
    assert "Permission denied" in trial.shell(first, outside)

    # A unit comes, one goes: no request fails, HAProxy goes on.
    with requests(first) as found:
        trial.kirsch("start", "web@3")
        eventually(lambda: "web3" in found)
        trial.kirsch("stop", "web@1")
        eventually(lambda: servers(first) == {"web:2.service", "web:3.service"})
        assert answers(first) == {"web2", "web3"}
    assert [answer for answer in found if answer.startswith("<")] == []
    assert haproxy(trial, first) == pid

    # What HAProxy logs is in journald, by syslog.
    eventually(lambda: '"GET /who HTTP/1.1"' in trial.kirsch("journal", "-n", "300", "lb").out)

    # kirschd ends and begins: the balancer goes on, and follows again.
    running = trial.running(first, "lb.service")
    with requests(first) as found:
        trial.shell(first, "systemctl kill --signal KILL kirschd")
        trial.until_present()
        trial.kirsch("start", "web@1")
        with explained(trial, first):
            eventually(lambda: servers(first) == {f"web:{n}.service" for n in (1, 2, 3)})
    assert [answer for answer in found if answer.startswith("<")] == []
    assert haproxy(trial, first) == pid
    assert trial.running(first, "lb.service") == running

    # HAProxy ends: another one has all servers at once.
    kill = "kill -9 $(grep -lx haproxy /proc/[0-9]*/comm | cut -d/ -f3)"
    trial.shell(first, f"podman exec systemd-lb sh -c '{kill}'")
    eventually(lambda: servers(first) == {f"web:{n}.service" for n in (1, 2, 3)})
    assert haproxy(trial, first) != pid
    assert trial.running(first, "lb.service") == running


def test_a_configuration_with_the_variables_of_links_works_unchanged(webs: Trial):
    """As in the article: HAProxy alone, and nobody who tells it of servers."""
    text = f"[Container]\nImage={IMAGE}\nPublishPort=8095:8095\n"
    text += "Entrypoint=haproxy\nExec=-db -f /etc/haproxy/haproxy.cfg\n"
    text += f"Volume={FOLDER}/linked.cfg:/etc/haproxy/haproxy.cfg:ro\n"
    text += "[X-Kirsch]\nLink=web@1.service:n1 web@2.service:n2\nExpose=8095 http\nHealth=http://:8095/who\n"
    webs.submit("linked.container", text)
    webs.kirsch("start", "linked")
    webs.until(lambda lines: lines.get("linked.container", {}).get("ready"))
    machine = webs.machine_of("linked.container")
    eventually(lambda: answers(machine, 8095) == {"web1", "web2"})
