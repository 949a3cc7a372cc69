"""Figures: samples in, rates out; what /proc and control groups say; reports of balancers."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kirsch.cluster.balancer.haproxy import BackendCounts, backend_counts
from kirsch.cluster.balancer.report import read_report, report_interval, write_report
from kirsch.cluster.node.exported import MOST_NAMES, Exported, parse_exposition
from kirsch.cluster.node.figures import Figures, Sample, UnitSample
from kirsch.cluster.runtime.base import ProcessGroup
from kirsch.cluster.runtime.process.notify_socket import descends_from
from kirsch.cluster.runtime.usage import Process, Usage, UsageReader, descendants, parse_io, parse_process

STAT = b"42 (a) b (c) S 7 42 42 0 -1 4194560 1 0 0 0 150 50 30 20 20 0 1 0 9 1000 25 1844 1"


def sample(number: int, unit: UnitSample | None, backends: dict[str, BackendCounts] | None = None) -> Sample:
    """One sample every five seconds; the machine uses a core and a half."""
    reported = {("lb.service", name, ""): (5.0 * number, counts) for name, counts in (backends or {}).items()}
    units = {"a.service": unit} if unit else {}
    machine = Usage(cpu=7.5 * number, memory=1 << 30, processes=100)
    return Sample(1000.0 + 5 * number, 5.0 * number, machine, units, reported, 100, 40)


def using(cpu: float, memory: int = 1000, pid: int = 7) -> UnitSample:
    return UnitSample(Usage(cpu, memory, read=int(cpu * 100), processes=2), pid, since=900.0)


def test_rates_are_differences_of_totals() -> None:
    figures = Figures()
    figures.add(sample(0, using(1.0)))
    figures.add(sample(1, using(3.5, memory=500)))
    found = figures.read(since=0)
    assert found["times"] == [1000.0, 1005.0]
    assert found["cpu"] == [None, 1.5]
    [unit] = found["units"]
    assert (unit["cpu"], unit["read"], unit["memory"]) == ([None, 0.5], [None, 50], [1000, 500])
    assert unit["peak"] == 1000
    assert figures.read()["times"] == [1005.0]
    assert figures.read(since=1000.0)["units"][0]["cpu"] == [0.5]


def test_a_unit_that_was_started_anew_begins_anew() -> None:
    figures = Figures()
    figures.add(sample(0, using(9.0, memory=5000)))
    figures.add(sample(1, using(0.5, pid=8)))
    [unit] = figures.read()["units"]
    assert (unit["cpu"], unit["peak"]) == ([None], 1000)


def test_a_unit_that_ended_has_no_numbers_and_one_that_left_is_forgotten() -> None:
    figures = Figures()
    figures.add(sample(0, using(1.0)))
    figures.add(sample(1, UnitSample(None)))
    [unit] = figures.read(since=0)["units"]
    assert (unit["memory"], unit["peak"]) == ([1000, None], None)
    figures.add(sample(2, None))
    figures.add(sample(3, using(1.0)))
    assert figures.read(since=0)["units"][0]["memory"] == [None, None, None, 1000]


def test_totals_do_not_shrink_when_a_process_takes_its_part_away() -> None:
    figures = Figures()
    for number, cpu in enumerate((10.0, 12.0, 3.0, 4.0)):
        figures.add(sample(number, using(cpu)))
    totals = figures.totals("a.service")
    assert totals is not None
    assert (totals.cpu, totals.read) == (13.0, 1300)
    figures.add(sample(4, using(0.5, pid=8)))
    totals = figures.totals("a.service")
    assert totals is not None
    assert totals.cpu == 0.5


@pytest.mark.parametrize("number", [1, 4, 5, 6, 10, 13])
def test_the_ring_keeps_the_last_samples(number: int) -> None:
    figures = Figures(kept=5)
    for each in range(number):
        figures.add(sample(each, using(float(each))))
    found = figures.read(since=0)
    there = range(max(number - 5, 0), number)
    assert found["times"] == [1000.0 + 5 * each for each in there]
    assert found["units"][0]["cpu"] == [None if each == 0 else 0.2 for each in there]


def test_a_unit_is_ready_since_it_was_seen_so() -> None:
    figures = Figures()
    figures.add(sample(0, replace(using(1.0), ready=True)))
    figures.add(sample(1, using(2.0)))
    assert figures.read()["units"][0]["readySince"] is None
    figures.add(sample(2, replace(using(3.0), ready=True)))
    figures.add(sample(3, replace(using(4.0), ready=True)))
    assert figures.read()["units"][0]["readySince"] == 1010.0


def test_a_unit_that_was_ready_before_kirschd_is_so_since_it_became_active() -> None:
    figures = Figures()
    figures.add(sample(0, replace(using(1.0), ready=True)))
    assert figures.read()["units"][0]["readySince"] == 900.0


def test_backends_have_rates_of_their_own_clock() -> None:
    figures = Figures()
    figures.add(sample(0, None, {"notes": BackendCounts(100, 2, 0.0042, 0)}))
    figures.add(sample(1, None, {"notes": BackendCounts(150, 3, 0.005, 7)}))
    figures.add(sample(2, None, {"notes": BackendCounts(5, 0, 0.005, 0)}))  # HAProxy was started anew
    [backend] = figures.read(since=0)["backends"]
    assert backend == {
        "unit": "lb.service",
        "backend": "notes",
        "server": "",
        "requests": [None, 10.0, None],
        "errors": [None, 0.2, None],
        "latency": [0.0042, 0.005, 0.005],
        "queue": [0, 7, 0],
    }


def test_a_process_whose_name_has_brackets_is_read() -> None:
    assert parse_process(STAT) == Process(parent=7, cpu=200, children_cpu=50, pages=25)


def test_descendants_are_found_through_processes_of_others() -> None:
    def child(parent: int) -> Process:
        return Process(parent, 0, 0, 0)

    processes = {1: child(0), 10: child(1), 11: child(10), 12: child(11), 20: child(1), 21: child(20)}
    found = descendants(processes, {10: "a", 20: "b", 30: "gone"})
    assert {key: sorted(pids) for key, pids in found.items()} == {"a": [11, 12], "b": [21], "gone": []}


def test_bytes_of_all_devices_are_added_up() -> None:
    text = (
        b"254:0 rbytes=10 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n254:16 rbytes=5 wbytes=1 rios=1 wios=1\n"
    )
    assert parse_io(text) == (15, 21)


def test_this_process_is_read_from_proc() -> None:
    read = UsageReader()
    [(_, usage)] = read.units({"here": ProcessGroup(ancestors=(os.getppid(),))}).items()
    assert usage.processes >= 1
    assert usage.memory > 1 << 20
    assert usage.cpu > 0
    # Memory that processes share counts for each, so the sum may be more than the machine's.
    assert read.machine().memory > 1 << 20


GROUP = {
    "proc/42/cgroup": "0::/system.slice/a.service/libpod-payload-1\n",
    "proc/42/stat": STAT.decode(),
    "proc/42/io": "rchar: 1\nread_bytes: 300\nwrite_bytes: 400\n",
    "sys/fs/cgroup/system.slice/a.service/cgroup.procs": "",
    "sys/fs/cgroup/system.slice/a.service/libpod-payload-1/cgroup.procs": "42\n",
    "sys/fs/cgroup/system.slice/a.service/cpu.stat": "usage_usec 2500000\nuser_usec 1\n",
}
COUNTED = {
    "sys/fs/cgroup/system.slice/a.service/memory.current": "5000\n",
    "sys/fs/cgroup/system.slice/a.service/memory.peak": "9000\n",
    "sys/fs/cgroup/system.slice/a.service/io.stat": "254:0 rbytes=1 wbytes=2\n",
}


def test_a_process_may_have_any_name() -> None:
    renamed = "open('/proc/self/comm', 'wb').write(b'\\xff) S 1'); print('renamed', flush=True); input()"
    command = [sys.executable, "-c", renamed]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"renamed\n"
        assert descends_from(process.pid, {os.getpid()})
        process.stdin.write(b"\n")


@pytest.mark.parametrize(
    ("files", "usage"),
    [
        (GROUP | COUNTED, Usage(2.5, 5000, 1, 2, 1, 9000)),
        # Without controllers the kernel counts CPU alone.
        (GROUP, Usage(2.5, 25 * os.sysconf("SC_PAGE_SIZE"), 300, 400, 1, 0)),
    ],
    ids=["counted", "summed"],
)
def test_a_control_group_is_read_with_those_below_it(
    tmp_path: Path, files: dict[str, str], usage: Usage
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    read = UsageReader(tmp_path)
    group = {"a": ProcessGroup("a.service", 42), "gone": ProcessGroup("b.service", 43)}
    assert read.units(group) == {"a": usage}


def test_a_report_comes_back_as_it_went() -> None:
    counts = {
        ("notes", ""): BackendCounts(3, 1, 0.25, 2),
        ("notes", "notes:1.container"): BackendCounts(3, 0, 0.0, 0),
    }
    assert read_report(write_report("lb.container", counts)) == ("lb.container", counts)


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"{",
        b'{"unit": 1, "backends": [[1]]}',
        b'{"unit": 1, "backends": 2}',
        b'{"unit": "a", "backends": [["b", "", 1, 1, NaN, 1]]}',
        b'{"unit": "a", "backends": [["b", "", 1, 1, Infinity, 1]]}',
        b'{"unit": "a", "backends": [["b", "", 1, 1, 0.1, 1e300]]}',
        b'{"unit": "a", "backends": [["b", "", 1, 1, 0.1, -1]]}',
        b'{"unit": "a", "backends": [["b", "", 1%s, 1, 0.1, 1]]}' % (400 * b"0"),
    ],
)
def test_what_is_no_report_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a balancer's report"):
        read_report(line)


@pytest.mark.parametrize(
    ("line", "interval"),
    [(b'{"figures": 5, "endpoints": []}', 5.0), (b'{"endpoints": []}', 0.0), (b"[", 0.0)],
)
def test_a_kirschd_that_wants_no_reports_gets_none(line: bytes, interval: float) -> None:
    assert report_interval(line) == interval


def test_errors_of_a_server_are_also_those_that_haproxy_answers_for_it() -> None:
    text = (
        "# pxname,svname,qcur,stot,econ,eresp,hrsp_5xx,rtime,ttime,\n"
        "notes,notes-1,0,10,2,1,4,12,20,\n"
        "notes,BACKEND,3,10,2,1,6,12,20,\n"
        "tcp,BACKEND,0,5,1,0,,,7,\n"
    )
    assert backend_counts(text) == {
        ("notes", "notes-1"): BackendCounts(10, 7, 0.012, 0),
        ("notes", ""): BackendCounts(10, 6, 0.012, 3),
        ("tcp", ""): BackendCounts(5, 1, 0.007, 0),
    }


EXPOSITION = """\
# TYPE rooms gauge
rooms{kind="open"} 2
rooms{kind="closed"} 1
# TYPE messages_total counter
messages_total{code="a"} 10
messages_total{code="b"} 5
# TYPE delay_seconds histogram
delay_seconds_bucket{le="1"} 3
delay_seconds_bucket{le="+Inf"} 4
delay_seconds_sum 2.5
delay_seconds_count 4
# TYPE process_open_fds gauge
process_open_fds 9
"""


class TestExported:
    def test_names_are_totalled_over_their_labels(self):
        values, counters = parse_exposition(EXPOSITION)
        assert values == {"rooms": 3, "messages_total": 15, "delay_seconds_count": 4}
        assert counters == {"messages_total", "delay_seconds_count"}

    def test_names_are_bounded(self):
        values, _ = parse_exposition("".join(f"# TYPE g{n} gauge\ng{n} 1\n" for n in range(100)))
        assert len(values) == MOST_NAMES

    @pytest.mark.parametrize("text", ["<html>", "a{b 1", "a one"])
    def test_what_is_no_exposition_is_refused(self, text: str):
        with pytest.raises(ValueError, match=r"."):
            parse_exposition(text)

    def test_counters_are_rates_and_a_restart_is_a_gap(self):
        figures = Figures(4)
        for number, (total, rooms) in enumerate([(10, 1), (20, 2), (5, math.inf), (15, 4)]):
            exported = Exported(5.0 * number, {"m_total": total, "rooms": rooms}, frozenset({"m_total"}))
            figures.add(
                Sample(5.0 * number, 5.0 * number, Usage(), {"a": UnitSample(None)}, exported={"a": exported})
            )
        [unit] = figures.read(-1.0)["units"]
        assert unit["exported"] == {"m_total": [None, 2, None, 2], "rooms": [1, 2, None, 4]}

    def test_a_unit_that_exports_no_more_is_forgotten(self):
        figures = Figures(4)
        exported = Exported(0.0, {"rooms": 1}, frozenset())
        figures.add(Sample(0.0, 0.0, Usage(), {"a": UnitSample(None)}, exported={"a": exported}))
        figures.add(Sample(5.0, 5.0, Usage(), {"a": UnitSample(None)}))
        [unit] = figures.read()["units"]
        assert unit["exported"] == {}
