"""What a balancer costs and how fast it follows.

Here, by `kirsch up`: requests a second (wrk, 32 connections kept alive) to one instance of a small CherryPy
service directly, through HAProxy to that one and another, and through a HAProxy whose two servers stand in
its file, all sharing this computer's cores; and the time from an endpoint's change to HAProxy's.

On three machines (containers on this computer; made and destroyed, or --cluster, one that publishes a port to
8091): the time from an endpoint's change, seen on the unit's machine, to HAProxy's on another; and, with a
balancer on every machine, after a machine with an instance is killed, the time to the first good answer at
the published port, and the longest that any answer took. --here leaves the machines out.
"""

import argparse
import contextlib
import http.client
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import outcome

from kirsch.cluster.api.client import Client, ClientError
from kirsch.cluster.provision.endpoint import Where, transport_to
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord

KIRSCH = str(Path(sys.executable).with_name("kirsch"))
PARTS = Path(__file__).with_name("balancer_parts")
PATIENCE = 120.0
CONNECTIONS = 32
DIRECT = "one instance, directly"
OURS = "kirsch balancer, two instances"
BY_HAND = "HAProxy by hand, two instances"
RATE, CHANGE = "requests/s", "endpoint's change to HAProxy's"
AFAR, KILLED, LONGEST = (
    f"{CHANGE}, another machine",
    "kill to the first good answer",
    "longest answer after it",
)
PORT, STATISTICS, STATIC = 8191, 8192, 8193

WEB = f"""\
[Service]
Type=notify
ExecStart={sys.executable} {PARTS / "web.py"}
[X-Kirsch]
Expose=8080 http
Health=http://:8080/
"""
HAPROXY = """\
global
    maxconn 4000
defaults
    mode http
    timeout connect 1s
    timeout client 30s
    timeout server 30s
    retries 3
    retry-on conn-failure empty-response response-timeout
    option redispatch 1
frontend entry
    bind {address}:{port}
    default_backend web
backend web
    balance roundrobin
{servers}
"""
LB = """\
[Service]
Type=notify
{more}ExecStart={kirsch} balancer --config {config} --backend web=web:http
[X-Kirsch]
Endpoints=yes
Expose={port}
Health=tcp://:{port}
"""
# On a machine: nothing but what it has.
FAR_WEB = """\
[Service]
RuntimeDirectory=web%i
ExecStart=/usr/bin/python3 -m http.server --directory /run/web%i 8080
[X-Kirsch]
Expose=8080 http
Health=tcp://:8080
Conflicts=web@*.service
"""


def main() -> int:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cluster", metavar="NAME", help="a cluster of three machines that is there")
    parser.add_argument("--here", action="store_true", help="no machines")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("the load comes from wrk: apt-get install wrk")
    rounds: dict[tuple[str, str], list[float]] = defaultdict(list)

    def note(what: str, subject: str, value: float) -> None:
        print(f"{what:<50} {subject:<32} {value:10.3f}", flush=True)
        rounds[what, subject].append(value)

    with tempfile.TemporaryDirectory() as folder:
        here(Path(folder), note, 2 if options.quick else 5, 1 if options.quick else 4)
    if not options.here:
        with cluster(options.cluster) as name, tempfile.TemporaryDirectory() as folder:
            Machines(name, Path(folder)).measure(note, 1 if options.quick else 3)
    rows = [row(what, subject, rounds) for what, subject in rounds]
    print()
    for entry in rows:
        ratio = f"{entry['ratio']:6.2f} x {entry['ratio_to']}" if entry["ratio_to"] else ""
        print(f"{entry['what']:<50} {entry['subject']:<32} {entry['value']:10.3f} {entry['unit']:<4} {ratio}")
    if options.json:
        outcome.write(options.json, rows, haproxy=version())
    return 0


def row(what: str, subject: str, rounds: dict[tuple[str, str], list[float]]) -> dict[str, object]:
    """A median; requests a second beside those of one instance directly."""
    value = statistics.median(rounds[what, subject])
    peer = DIRECT if what == RATE and subject != DIRECT else ""
    return {
        "what": what,
        "subject": subject,
        "value": round(value, 4),
        "unit": "/s" if what == RATE else "s",
        "ratio_to": peer,
        "ratio": round(value / statistics.median(rounds[what, peer]), 3) if peer else 0.0,
    }


def version() -> str:
    """HAProxy's."""
    path = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin") or "haproxy"
    said = subprocess.run([path, "-v"], capture_output=True, text=True).stdout
    return (re.findall(r"version (\S+)", said) or ["?"])[0]


def here(folder: Path, note: Callable[[str, str, float], None], rounds: int, seconds: int) -> None:
    """By `kirsch up`, on this computer."""
    config = folder / "haproxy.cfg"
    config.write_text(HAPROXY.format(address="127.0.0.1", port=PORT, servers=""))
    (folder / "units").mkdir()
    (folder / "units/web@.service").write_text(WEB)
    more = "RuntimeDirectory=lb\n"
    lb = LB.format(kirsch=KIRSCH, config=config, port=PORT, more=more).replace(f"tcp://:{PORT}", "tcp://:1")
    # It listens on 127.0.0.1, which is not its own address: Type=notify says when it is ready.
    (folder / "units/lb.service").write_text(re.sub("Health=.*\n", "", lb))
    (folder / "kirsch.toml").write_text('name = "bench"\nstart = ["web@1", "web@2", "lb"]\n')
    up = [KIRSCH, "up", "-d", str(folder)]
    subprocess.run(up, check=True, stdout=subprocess.DEVNULL)
    try:
        client = Client(folder / ".kirsch/kirsch.sock")
        addresses = [
            line["address"]
            for line in client.get("/kirsch/v1/units")["units"]
            if line["name"].startswith("web@") and line["address"]
        ]
        with by_hand(folder, addresses):
            for _ in range(rounds):
                note(RATE, DIRECT, wrk(f"http://{addresses[0]}:8080/", seconds))
                note(RATE, OURS, wrk(f"http://127.0.0.1:{PORT}/", seconds))
                note(RATE, BY_HAND, wrk(f"http://127.0.0.1:{STATIC}/", seconds))
        [stats] = folder.glob(".kirsch/**/haproxy.sock")
        for _ in range(max(rounds, 3)):
            watch = [sys.executable, str(PARTS / "watch.py"), str(folder / ".kirsch/endpoints.sock")]
            with watched([*watch, str(stats), "web@3.service"]) as found:
                verb("start", "web@3", folder=folder)
            # Who watches may be told later than the balancer was.
            note(CHANGE, OURS, max(found["haproxy"] - found["endpoint"], 0.0))
            verb("destroy", "web@3", folder=folder)
    finally:
        subprocess.run([KIRSCH, "down", str(folder)], check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def by_hand(folder: Path, addresses: list[str]) -> Iterator[None]:
    """A HAProxy with the same servers in its file."""
    servers = "\n".join(f"    server s{n} {at}:8080 check inter 500ms" for n, at in enumerate(addresses))
    config = folder / "static.cfg"
    config.write_text(HAPROXY.format(address="127.0.0.1", port=STATIC, servers=servers))
    path = shutil.which("haproxy") or "/usr/sbin/haproxy"
    process = subprocess.Popen([path, "-db", "-f", str(config)], stderr=subprocess.DEVNULL)
    try:
        until(lambda: answer("127.0.0.1", STATIC) > 0)
        yield
    finally:
        process.terminate()
        process.wait()


def wrk(url: str, seconds: int) -> float:
    """Requests a second."""
    argv = ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds}s", url]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said:
        raise SystemExit(f"{url} answered errors: {said}")
    return float(re.findall(r"Requests/sec:\s*([\d.]+)", said)[0])


def answer(host: str, port: int) -> float:
    """The seconds that one good answer takes, a connection for it; 0 if there was none."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request("GET", "/")
        good = connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        good = False
    finally:
        connection.close()
    return time.perf_counter() - began if good else 0.0


@contextlib.contextmanager
def watched(*commands: list[str]) -> Iterator[dict[str, float]]:
    """Watchers (watch.py) around a change: what they have seen is there afterwards."""
    found: dict[str, float] = {}
    processes = [subprocess.Popen(c, stdout=subprocess.PIPE, text=True) for c in commands]
    try:
        for process in processes:
            assert process.stdout
            if process.stdout.readline() != "READY\n":
                raise SystemExit(f"{process.args} does not watch")
        yield found
        for process in processes:
            found |= json.loads(process.communicate(timeout=PATIENCE)[0])
    finally:
        for process in processes:
            process.kill()


def verb(*arguments: str, folder: Path | None = None) -> None:
    """A verb that must succeed."""
    subprocess.run([KIRSCH, *arguments], check=True, stdout=subprocess.DEVNULL, cwd=folder)


def until(condition: Callable[[], object]) -> None:
    """Wait for it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(ClientError):
            if condition():
                return
        if time.monotonic() > deadline:
            raise SystemExit(f"it did not come about in {PATIENCE:.0f} s")
        time.sleep(0.02)


@contextlib.contextmanager
def cluster(name: str | None) -> Iterator[str]:
    """A cluster's name: one that is there, or one for us alone."""
    if name:
        yield name
        return
    made = f"bench-{os.getpid()}"
    verb("cluster", "create", made, "--machines", "3", "--publish", "7991:8091")
    try:
        yield made
    finally:
        verb("cluster", "destroy", made)


class Machines:
    """A cluster under measurement: two instances and a balancer on each of three machines."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.record = ClusterRecord.load(name)
        self.client = Client(transport_to(Where(cluster=name)))
        ports = [text.split(":") for text in self.record.published if text.endswith(":8091")]
        if not ports:
            raise SystemExit(
                f"cluster {name} publishes no port to 8091: `cluster create --publish 7991:8091`"
            )
        self.port = int(ports[0][1])

    def measure(self, note: Callable[[str, str, float], None], rounds: int) -> None:
        """All figures; what was started is destroyed."""
        config = HAPROXY.format(address="*", port=8091, servers="    option tcp-check")
        for machine in self.record.machines:
            self.shell(machine, "cat >/etc/kirsch-bench.cfg", config)
        more = "RuntimeDirectory=benchlb\n"
        lb = LB.format(kirsch="/opt/kirsch/bin/kirsch", config="/etc/kirsch-bench.cfg", port=8091, more=more)
        (self.folder / "web@.service").write_text(FAR_WEB)
        (self.folder / "benchlb.service").write_text(f"{lb}Global=true\n")
        try:
            self.verb("submit", str(self.folder / "web@.service"))
            self.verb("start", "web@1", "web@2", str(self.folder / "benchlb.service"))
            until(lambda: all(answer(machine.address, 8091) for machine in self.record.machines))
            for _ in range(max(rounds, 3)):
                note(AFAR, OURS, self.change())
            for _ in range(rounds):
                first, longest = self.kill()
                note(KILLED, "ingress", first)
                note(LONGEST, "ingress", longest)
        finally:
            self.verb("destroy", "benchlb", "web@1", "web@2", "web@")

    def change(self) -> float:
        """The seconds from an endpoint's change, on its unit's machine, to HAProxy's on another."""
        endpoints = "/run/kirsch/endpoints/shared/endpoints.sock"
        script = (PARTS / "watch.py").read_text()
        commands = []
        for machine in self.record.machines:
            self.shell(machine, "cat >/run/watch.py", script)
            argv = ["podman", "--runtime", "runc", "exec", machine.container, "python3", "/run/watch.py"]
            commands.append([*argv, endpoints, "/run/benchlb/haproxy.sock", "web@3.service"])
        with contextlib.ExitStack() as stack:
            seen = [stack.enter_context(watched(command)) for command in commands]
            self.verb("start", "web@3")
        [own] = [
            n for n, machine in enumerate(self.record.machines) if machine.id == self.lines()["web@3.service"]
        ]
        self.verb("destroy", "web@3")
        return statistics.median(
            max(found["haproxy"] - seen[own]["endpoint"], 0.0) for n, found in enumerate(seen) if n != own
        )

    def kill(self) -> tuple[float, float]:
        """A machine with an instance is killed under load: the seconds to the first good answer of a request
        that began afterwards, and the longest that one took in the ten seconds that follow."""
        lost = next(m for m in self.record.machines if m.id == self.lines()["web@1.service"])
        good: list[tuple[float, float]] = []
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                began = time.perf_counter()
                if taken := answer("127.0.0.1", self.port):
                    good.append((began, taken))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: len(good) > 50)
        podman("kill", "--signal", "KILL", lost.container)
        killed = time.perf_counter()
        time.sleep(10)
        done.set()
        for thread in threads:
            thread.join()
        after = [(began, taken) for began, taken in good if began >= killed]
        first = min(began + taken for began, taken in after) - killed
        podman("start", lost.container)
        until(lambda: lost.id in {m["id"] for m in self.client.get("/kirsch/v1/machines")["machines"]})
        until(lambda: all(answer(machine.address, 8091) for machine in self.record.machines))
        return first, max(taken for _, taken in after)

    def lines(self) -> dict[str, str]:
        """The machine of each unit."""
        return {line["name"]: line["machine"] for line in self.client.get("/kirsch/v1/units")["units"]}

    def verb(self, *arguments: str) -> None:
        """A verb on the cluster."""
        verb("--cluster", self.name, *arguments)

    def shell(self, machine: MachineRecord, script: str, given: str = "") -> None:
        """A script on a machine."""
        argv = ["podman", "--runtime", "runc", "exec", "-i", machine.container, "sh", "-c", script]
        subprocess.run(argv, input=given, text=True, check=True)


def podman(*arguments: str) -> None:
    """One call of podman."""
    subprocess.run(["podman", "--runtime", "runc", *arguments], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
