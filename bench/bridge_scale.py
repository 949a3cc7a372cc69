"""How a Bridge grows with processes: `python bench/bridge_scale.py [--quick] [--json FILE]`.

From 1 to 4 processes of kirsch.amqp's Bridge on asyncio share a broker and a room; 400 readers are spread
over them, and one reader of the first sends messages of 1 KiB. Each process reads the stream once and hears
every message, so what grows is how many readers are served. The figure is deliveries a second, of all
together; ratios are to one process. All run on whichever core is free: for this to grow there have to be as
many cores as processes, and one or two more for the broker and the clients. On fewer it is the cores that
are measured, and the row says how many there were.

- paced: 100 messages a second, which is 40,000 deliveries: p99 of the delay
- full: 32 messages on their way at any time
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import fanout
import outcome

READERS = 400


@contextlib.contextmanager
def processes(count: int) -> Iterator[list[int]]:
    """So many Bridges with one broker: their ports."""
    every = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    with fanout.broker(every) as (url, _, _), contextlib.ExitStack() as stack:
        environment = os.environ | {"AMQP_URL": url, "PYTHONPATH": fanout.PYTHONPATH}
        ports = []
        for _ in range(count):
            log = stack.enter_context(tempfile.TemporaryFile())
            command = [fanout.PYTHON, str(fanout.PEERS / "kirsch_bridge.py"), "asyncio"]
            process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log)
            stack.callback(_end, process)
            ports.append(fanout._port(process, log.fileno()))
        yield ports


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def measure(count: int, rate: float, seconds: float) -> tuple[float, float]:
    """Deliveries a second of all, and the worst p99 in milliseconds."""
    subject = fanout.SUBJECTS["kirsch-asyncio"]
    with processes(count) as ports, tempfile.TemporaryDirectory() as folder:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1 and 2 processes, short")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    fanout.prepare()
    rows: list[dict[str, object]] = []
    cores = len(os.sched_getaffinity(0))
    alone: dict[str, float] = {}
    for count in (1, 2) if options.quick else (1, 2, 3, 4):
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
