"""Slow clients of four kinds: others are served as by a server that has none of them."""

import json
import re
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COUNT, SECONDS = 2000, 60
FEW, ROUNDS = 400, 1000
APPLICATION = """
def application(environ, start_response):
    environ["wsgi.input"].read()
    size = 1 << 20 if environ["PATH_INFO"] == "/large" else 5
    start_response("200 OK", [("Content-Length", str(size))])
    return [b"x" * size]
"""


@contextmanager
def serving(folder):
    """`kirsch serve` of that application: its address and its process."""
    (folder / "shop.py").write_text(APPLICATION)
    process = subprocess.Popen(
        [sys.executable, "-m", "kirsch.cli.main", "serve", "shop:application", "--port", "0", "--drain", "0"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stderr:
            if found := re.search(r"Serving on ([0-9.]+):([0-9]+)", line):
                break
        yield found.groups(), process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def memory(process):
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    return int(line) << 10


def program(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.bus.crowd", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.fixture
def many_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def bound(count):
    """Memory for answers that are not read, and room for its connections."""
    return count // 4 * (128 << 10) + (64 << 20)


def amid(folder, count, seconds, rounds):
    """Measure a server with slow clients and one without: what others see, what those see, its growth."""
    folders = [folder / name for name in ("crowded", "quiet")]
    for each in folders:
        each.mkdir()
    with serving(folders[0]) as (crowded, process), serving(folders[1]) as (quiet, _):
        with program("quick", 60, 200, *crowded, *quiet) as warm:
            assert json.loads(warm.stdout.read())["statuses"] == {"200": 400}
        before = memory(process)
        with program("slow", *crowded, count, stdin=subprocess.PIPE) as slow:
            assert slow.stdout.readline() == "ready\n"
            with program("quick", seconds, rounds, *crowded, *quiet) as quick:
                others = json.loads(quick.stdout.read())
            slow.stdin.close()
            found = json.loads(slow.stdout.read())
        grown = memory(process) - before
    print(others, found, f"{grown >> 20} MiB")
    return others, found, grown


@pytest.mark.slow
def test_hundreds_of_slow_clients_keep_nobody_from_being_served(many_descriptors, tmp_path):
    """A thousand requests, one after the other, while 20 times as many clients as there are threads wait."""
    others, found, grown = amid(tmp_path, FEW, 120, ROUNDS)
    assert others["statuses"] == {"200": 2 * ROUNDS}
    assert grown < bound(FEW)
    assert found["reader 200"] >= FEW // 4
    assert found.keys() <= {"silent 408", "head 408", "body 408", "reader 200", "open"}
    assert found["open"] > FEW * 0.9


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_two_thousand_slow_clients_for_a_minute_disturb_nobody(many_descriptors, tmp_path):
    others, found, grown = amid(tmp_path, COUNT, SECONDS, 1_000_000)
    assert others["statuses"].keys() == {"200"}
    assert others["p99"][0] < 2 * others["p99"][1]
    assert grown < bound(COUNT)
    # Slow ones have their time, and are told when it is over; those that read have what they ask for.
    assert found.keys() == {"silent 408", "head 408", "body 408", "reader 200", "open"}
    assert found["open"] > COUNT * 0.9
