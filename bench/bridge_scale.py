"""How a Bridge grows with processes: `python bench/bridge_scale.py [--rooms] [--quick] [--json FILE]`.

From 1 to 4 processes of kirsch.amqp's Bridge on asyncio share a broker and a room; 400 readers are spread
over them, and one reader of the first sends messages of 1 KiB. Each process reads the stream once and hears
every message, so what grows is how many readers are served. The figure is deliveries a second, of all
together; ratios are to one process. All run on whichever core is free: for this to grow there have to be as
many cores as processes, and one or two more for the broker and the clients. On fewer it is the cores that
are measured, and the row says how many there were.

- paced: 100 messages a second, which is 40,000 deliveries: p99 of the delay
- full: 32 messages on their way at any time

With --rooms another program publishes messages of 1 KiB to 50 or 5,000 rooms in turn, and what grows is the
work of reading: each process has all messages, whoever is in their rooms. The figure is processor time of all
processes for each message said, so other work on the machine counts little.

- nobody: no room has a member
- members: each room has one member, at one of the processes; each message is delivered once
- apart: the same, and each process has a stream of its own with the rooms of its members: the best that
  splitting the stream could do, where the balancer sends all people of a room to one process
"""

import argparse
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fanout
import outcome

READERS = 400
ROOMS = (50, 5000)
# Rooms that one connection may be in.
EACH = 50


def name(stream: int) -> str:
    """Name of a stream's Bridges."""
    return f"bench{stream}"


@contextlib.contextmanager
def processes(count: int, streams: int = 1) -> Iterator[tuple[str, list[int], list[int]]]:
    """So many Bridges with one broker and so many streams: its URL, their ports and processes."""
    every = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    with fanout.broker(every) as (url, _, _), contextlib.ExitStack() as stack:
        environment = os.environ | {"AMQP_URL": url, "PYTHONPATH": fanout.PYTHONPATH}
        ports, pids = [], []
        for number in range(count):
            log = stack.enter_context(tempfile.TemporaryFile())
            command = [
                fanout.PYTHON,
                str(fanout.PEERS / "kirsch_bridge.py"),
                "asyncio",
                name(number % streams),
            ]
            process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log)
            stack.callback(_end, process)
            ports.append(fanout._port(process, log.fileno()))
            pids.append(process.pid)
        yield url, ports, pids


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def measure(count: int, rate: float, seconds: float) -> tuple[float, float]:
    """Deliveries a second of all, and the worst p99 in milliseconds."""
    subject = fanout.SUBJECTS["kirsch-asyncio"]
    with processes(count) as (_, ports, _), tempfile.TemporaryDirectory() as folder:
        prologue, message = Path(folder, "prologue"), Path(folder, "message")
        prologue.write_text("\x1e".join(subject.prologue))
        message.write_text(fanout.padded(subject.message))
        clients = []
        for number, port in enumerate(ports):
            command = [str(fanout.CLIENT), str(port), "--prologue", str(prologue), "--message", str(message)]
            command += ["--readers", str(READERS // count), "--limit", "120"]
            # The first one's sends; the others listen for longer than that goes on.
            first = number == 0
            command += ["--rate", str(rate), "--seconds", str(seconds), "--warm", "1"]
            command += [] if first else ["--listen", "1"]
            clients.append(
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            )
        found = []
        for client in clients:
            said, failed = client.communicate(timeout=180)
            if client.returncode:
                raise fanout.Skipped(failed.strip())
            found.append(json.loads(said))
    return sum(each["rate"] for each in found), max(each["p99"] for each in found)


def reading(count: int, rooms: int, messages: int, streams: int = 1) -> tuple[float, float]:
    """Microseconds of all processes for a message: with nobody in the rooms, with members."""
    with processes(count, streams) as (url, ports, pids), contextlib.ExitStack() as stack:
        ends = [stack.enter_context(Visitor(port, ["end"])) for port in ports]

        def spent() -> float:
            before = sum(map(_processor_time, pids))
            publish(url, rooms, messages, streams)
            for end in ends:
                end.until("message")
            return (sum(map(_processor_time, pids)) - before) / messages * 1e6

        nobody = spent()
        for number, port in enumerate(ports):
            mine = [f"room-{room}" for room in range(number, rooms, count)]
            for first in range(0, len(mine), EACH):
                stack.enter_context(Visitor(port, mine[first : first + EACH]))
        return nobody, spent()


def _processor_time(pid: int) -> float:
    """Seconds (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def publish(url: str, rooms: int, messages: int, streams: int) -> None:
    """Publish as a Bridge does, to each room in turn, and one message to the room `end` of each stream."""
    import pika

    from kirsch.amqp import protocol

    sender = f"sender{time.monotonic_ns()}"
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        for number in range(messages + streams):
            room = f"room-{number % rooms}" if number < messages else "end"
            stream = (number % rooms if number < messages else number) % streams
            body = protocol.envelope(room, sender, "Bench", protocol.Send(room, number + 1, "x" * 900), 0)
            known = protocol.message_id(sender, number + 1)
            properties = pika.BasicProperties(type=protocol.MESSAGE, message_id=known)
            channel.basic_publish(f"{name(stream)}.rooms", room, body, properties)


class Visitor:
    """A connection that is in some rooms; all that comes is read by a thread of its own."""

    def __init__(self, port: int, rooms: list[str]) -> None:
        from kirsch.websocket.threaded import connect

        self._socket = connect(f"ws://127.0.0.1:{port}/")
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        self._socket.send(json.dumps({"type": "hello", "name": "Bench"}))
        for room in rooms:
            self._socket.send(json.dumps({"type": "join", "room": room, "presence": False}))
        for _ in rooms:
            self.until("joined")

    def __enter__(self) -> "Visitor":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def until(self, kind: str) -> None:
        while json.loads(self._said.get(timeout=120))["type"] != kind:
            pass

    def _read(self) -> None:
        with contextlib.suppress(Exception):
            while True:
                self._said.put(self._socket.recv())


def told_by_rooms(quick: bool) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    messages = 2_000 if quick else 10_000
    for rooms in ROOMS:
        for count in (1, 2) if quick else (1, 2, 4):
            nobody, members = reading(count, rooms, messages)
            found = {"nobody": nobody, "members": members}
            if count > 1:
                _, found["apart"] = reading(count, rooms, messages, streams=count)
            for what, value in found.items():
                subject = f"{count} process{'es' if count > 1 else ''}"
                name = f"{rooms:,} rooms, {what}"
                rows.append(
                    {"what": name, "subject": subject, "value": round(value, 1), "unit": "us a message"}
                )
                print(f"{name:28}{subject:14}{value:12,.1f} us of all processes a message", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1 and 2 processes, short")
    parser.add_argument("--rooms", action="store_true", help="cost of reading, with 50 and 5,000 rooms")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    fanout.prepare()
    rows: list[dict[str, object]] = []
    cores = len(os.sched_getaffinity(0))
    alone: dict[str, float] = {}
    if options.rooms:
        rows = told_by_rooms(options.quick)
    for count in () if options.rooms else (1, 2) if options.quick else (1, 2, 3, 4):
        for what, rate in (("full", 0.0), ("paced at 100/s", 100.0)):
            try:
                total, delay = measure(count, rate, 2.0 if options.quick else 6.0)
            except fanout.Skipped as reason:
                print(f"{count} processes, {what}: skipped: {reason}", file=sys.stderr)
                continue
            name = f"{what}, {cores} cores"
            subject = f"{count} process{'es' if count > 1 else ''}"
            ratio = total / alone.setdefault(what, total)
            rows.append(
                {"what": name, "subject": subject, "value": round(total), "unit": "deliveries/s"}
                | {"ratio_to": "1 process", "ratio": round(ratio, 3)}
            )
            rows.append({"what": name, "subject": subject, "value": round(delay, 2), "unit": "ms p99"})
            print(f"{name:28}{subject:14}{total:12,.0f} deliveries/s {ratio:6.2f}   p99 {delay:,.1f} ms")
    if options.json:
        outcome.write(options.json, rows, **fanout.versions())


if __name__ == "__main__":
    main()
