"""A paused etcd that ends leases of live machines when it wakes up (etcd#15247, #16822), without effect."""

import signal
import time
from pathlib import Path

import pytest
from tests.cli.application import alive
from tests.cluster.etcd_server import needs_etcd
from tests.cluster.members import Members, members
from tests.deadline import eventually

pytestmark = [needs_etcd, pytest.mark.services, pytest.mark.slow, pytest.mark.soak]

SLEEPER = "[Service]\nExecStart=sleep 1000\n"
NAMES = [f"nap@{number}.service" for number in range(6)]
# Seconds: longer than a lease lives, and in which everything that follows has begun.
PAUSE, AFTER = 15.0, 6.0
ENDED = "the store ended lease "


def places(cluster: Members) -> dict[str, tuple[str, int, str]]:
    """Where each unit is, and as which process."""
    lines = cluster.lines()
    return {name: (lines[name]["machine"], lines[name]["pid"], lines[name]["active"]) for name in NAMES}


def told(cluster: Members) -> list[int]:
    """How often each machine has told of a lease that ended."""
    return [machine.log.read_text().count(ENDED) for machine in cluster.machines]


def watch(pids: set[int], seconds: float) -> None:
    """See for so long that no process ends."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert alive(pids) == pids
        time.sleep(0.1)


@pytest.mark.parametrize("voters", [1, 3])
def test_a_leader_of_etcd_that_was_paused_moves_and_stops_nothing(tmp_path: Path, voters: int):
    with members(tmp_path, 3, voters) as cluster:
        cluster.ok("submit", cluster.unit("nap@.service", SLEEPER))
        cluster.ok("start", *NAMES)
        before = places(cluster)
        assert {active for _, _, active in before.values()} == {"active"}
        pids = {pid for _, pid, _ in before.values()}
        for turn in range(1, 4):
            leader = cluster.etcd.leader()
            leader.signal(signal.SIGSTOP)
            watch(pids, PAUSE)
            leader.signal(signal.SIGCONT)
            watch(pids, AFTER)
            eventually(lambda: places(cluster) == before)
            # One line a machine and lease, if it was ended at all.
            assert all(count <= turn for count in told(cluster)), told(cluster)
