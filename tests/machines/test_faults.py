"""What breaks on real machines, and what may not: `pytest -m faults`.

Times that were promised are measured and shown with the report, and kept in bench/RESULTS.md; none decides a
test. Each test leaves the machines as it found them.
"""

import random
import time

import pytest
from tests.machines.trial import Trial, eventually, podman

from kirsch.cluster.network.state import PORT
from kirsch.cluster.provision.record import etcd_url

pytestmark = [pytest.mark.machines, pytest.mark.faults, pytest.mark.slow]

SLEEP = "[Service]\nExecStart=/bin/sleep infinity\n"
# Says when it begins and when it has ended, in the journal of its machine.
TELLS = """\
[Service]
ExecStart=/bin/sh -c 'echo began; trap "echo ended; exit 0" TERM; while :; do sleep 0.1; done'
"""
ON_PARTITION = "\n[X-Kirsch]\nOnPartition=stop\n"
KILL = "systemctl kill --kill-whom=main -s KILL"
STICKY = "\n[X-Kirsch]\nSticky=yes\n"


@pytest.fixture
def trial(trial):
    """Nothing runs before, and nothing after."""
    trial.clear()
    yield trial
    trial.clear()


@pytest.fixture
def measured(record_testsuite_property, request, capsys):
    """Says how many seconds something took."""

    def tell(what: str, seconds: float) -> None:
        record_testsuite_property(f"{request.node.name}: {what}", round(seconds, 2))
        with capsys.disabled():
            print(f"\n    {what}: {seconds:.2f} s")

    return tell


def instances(trial: Trial, count: int, text: str = SLEEP, prefix: str = "s") -> list[str]:
    """Units of a template, launched and running."""
    trial.submit(f"{prefix}@.service", text)
    names = [f"{prefix}@{number}.service" for number in range(count)]
    trial.kirsch("start", *names)
    return names


def assert_each_once(trial: Trial, names: list[str], pattern: str) -> None:
    """Each runs on one machine, the one that the cluster says."""
    lines = trial.lines()
    there = trial.everywhere(pattern)
    for name in names:
        on = [machine for machine, units in there.items() if name in units]
        assert on == [trial.by_id(lines[name]["machine"]).name], (name, on)


@pytest.mark.soak
def test_etcd_stopped_everywhere_for_a_minute(trial, measured):
    names = instances(trial, 30)
    before = trial.everywhere("s@*")
    members = [machine for machine in trial.machines if machine.etcd]
    for machine in members:
        trial.shell(machine, "systemctl stop etcd")
    began = time.monotonic()
    try:
        refused = trial.kirsch("start", "s@100.service", check=False)
        assert refused.status == 1
        assert len(refused.err.strip().splitlines()) == 1
        assert "registry" in refused.err or "etcd" in refused.err or "store" in refused.err, refused.err
        while time.monotonic() - began < 60:
            assert trial.everywhere("s@*") == before
    finally:
        for machine in members:
            trial.shell(machine, "systemctl start --no-block etcd")
    for machine in members:
        trial.shell(machine, "systemctl start etcd")
    back = time.monotonic()
    eventually(lambda: trial.kirsch("start", "s@100.service", check=False).status == 0)
    trial.until(lambda lines: all(lines[name]["active"] == "active" for name in [*names, "s@100.service"]))
    measured("the store is back until a new unit runs", time.monotonic() - back)
    for machine, units in trial.everywhere("s@*").items():
        units.pop("s@100.service", None)
        assert units == before[machine]


@pytest.mark.soak
def test_one_member_of_etcd_killed(trial):
    names = instances(trial, 10)
    before = trial.everywhere("s@*")
    for member in [machine for machine in trial.machines if machine.etcd]:
        trial.shell(member, f"{KILL} etcd")
        trial.kirsch("start", "s@100.service")
        trial.kirsch("stop", "s@100.service")
        assert "s@0.service" in trial.kirsch("list-units").out
        trial.shell(member, "systemctl is-active --quiet --wait etcd || systemctl start etcd")
    trial.kirsch("destroy", "s@100.service")
    assert trial.everywhere("s@*") == before
    assert_each_once(trial, names, "s@*")


@pytest.mark.soak
def test_machine_killed_and_back(trial, measured):
    instances(trial, 300)
    trial.submit("holds@.service", SLEEP + STICKY)
    holders = [f"holds@{number}.service" for number in range(3)]
    trial.kirsch("start", *holders)
    lines = trial.lines()
    lost = trial.by_id(lines[holders[0]]["machine"])
    there = {name for name, line in lines.items() if line["machine"] == lost.id}
    sticky = there & set(holders)
    movable = there - sticky
    assert len(movable) > 60
    trial.kill(lost)
    began = time.monotonic()
    try:
        trial.until(
            lambda now: all(
                now[n]["machine"] not in ("", lost.id) and now[n]["active"] == "active" for n in movable
            )
        )
        measured(f"machine killed until its {len(movable)} units run elsewhere", time.monotonic() - began)
        for name in sticky:
            reason = trial.kirsch("why", name).out
            assert lost.id[:8] in reason or lost.name in reason, reason
    finally:
        trial.boot(lost)
    trial.until_present(lost)
    trial.until(
        lambda now: all(now[n]["active"] == "active" and now[n]["machine"] == lost.id for n in sticky)
    )
    assert_each_once(trial, [f"s@{number}.service" for number in range(300)], "s@*")
    assert_each_once(trial, holders, "holds@*")


@pytest.mark.soak
def test_a_machine_with_etcd_s_leader_is_paused_and_the_others_lose_nothing(trial):
    """As it wakes up, its etcd may end leases that live (etcd#15247, #16822)."""
    names = instances(trial, 9)
    urls = {member["url"]: member["role"] for member in trial.client.get("/kirsch/v1/store")["members"]}
    paused = next(m for m in trial.machines if urls.get(etcd_url(m)) == "leader")
    live = [machine for machine in trial.machines if machine is not paused]
    before = {machine.name: trial.running(machine, "s@*") for machine in live}

    def watch(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for machine in live:
                # What the paused one had comes to them meanwhile.
                assert before[machine.name].items() <= trial.running(machine, "s@*").items()

    podman("pause", paused.container)
    try:
        watch(20)
    finally:
        podman("unpause", paused.container)
    watch(5)
    trial.until_present()
    trial.until(lambda lines: all(lines[name]["active"] == "active" for name in names))
    watch(1)
    for machine in live:
        lines = [text for _, text in trial.journal(machine, "kirschd")]
        assert not [line for line in lines if f"ip link set {PORT} down" in line]
        assert sum("the store ended lease" in line for line in lines) <= 1, lines


@pytest.mark.soak
def test_machine_cut_off_and_back(trial, measured):
    keeps = instances(trial, 12, TELLS, "keeps")
    stops = instances(trial, 12, TELLS + ON_PARTITION, "stops")
    lines = trial.lines()
    away = trial.machines[-1]
    gone = {name for name, line in lines.items() if line["machine"] == away.id}
    assert gone & set(keeps)
    assert gone & set(stops)
    with trial.cut_off(away):
        began = time.monotonic()
        trial.until(
            lambda now: all(
                now[n]["machine"] not in ("", away.id) and now[n]["active"] == "active" for n in gone
            )
        )
        measured(f"link down until its {len(gone)} units run elsewhere", time.monotonic() - began)
        assert not trial.running(away, "stops@*")
        assert set(trial.running(away, "keeps@*")) == gone & set(keeps)
        while time.monotonic() - began < 30:
            assert not trial.running(away, "stops@*")
    trial.until_present(away)
    eventually(lambda: not set(trial.running(away, "keeps@*")) & gone)
    for name in gone & set(stops):
        there = max(at for at, _ in trial.journal(away, name))
        target = trial.machine_of(name)
        here = min(at for at, line in trial.journal(target, name) if line == "began")
        assert there < here, f"{name}: still there {there - here:.2f} s after it began elsewhere"
    assert_each_once(trial, keeps, "keeps@*")
    assert_each_once(trial, stops, "stops@*")


@pytest.mark.soak
def test_leading_kirschd_killed_again_and_again(trial, measured):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    trial.submit("s@.service", SLEEP)
    longest = 0.0
    names: list[str] = []
    for turn in range(20):
        fresh = [f"s@{turn * 10 + number}.service" for number in range(10)]
        starts = [trial.started(name) for name in fresh[:2]]
        trial.kirsch("start", "--no-block", *fresh[2:])
        names += fresh
        time.sleep(chance.random() * 0.3)
        # One that was killed may still be called the leader: until it is back there is nothing to kill.
        eventually(lambda: trial.shell(leading(trial), f"{KILL} kirschd && echo killed", check=False))
        began = time.monotonic()
        trial.until(lambda now, names=names: all(n in now and now[n]["active"] == "active" for n in names))
        longest = max(longest, time.monotonic() - began)
        for process in starts:
            process.communicate(timeout=60)
    measured("kirschd killed until all that was asked for runs, at most", longest)
    trial.until_present()
    assert_each_once(trial, names, "s@*")


def leading(trial: Trial):
    """The machine whose engine leads, once there is one."""
    found = []

    def look() -> bool:
        machines = trial.client.get("/kirsch/v1/machines")["machines"]
        found[:] = [machine["id"] for machine in machines if machine["leads"]]
        return bool(found)

    eventually(look)
    return trial.by_id(found[0])


@pytest.mark.soak
def test_adopted_after_kirschd_starts_anew(trial):
    names = instances(trial, 10)
    before = trial.everywhere("s@*")
    for machine in trial.machines:
        trial.shell(machine, f"{KILL} kirschd")
    eventually(lambda: all(trial.shell(m, "systemctl is-active kirschd", check=False).strip() == "active"
                           for m in trial.machines))  # fmt: skip
    trial.until_present()
    trial.kirsch("start", "s@100.service")
    trial.kirsch("destroy", "s@100.service")
    assert trial.everywhere("s@*") == before
    assert_each_once(trial, names, "s@*")


@pytest.mark.soak
def test_what_was_stopped_is_started_again_while_its_kirschd_is_away(trial):
    first = trial.machines[0]
    trial.submit("s@.service", f"{SLEEP}[X-Kirsch]\nMachineID={first.id}\n")
    trial.kirsch("start", "s@1", "s@2")
    trial.kirsch("stop", "s@1")
    before = trial.running(first, "s@*")
    assert before.keys() == {"s@2.service"}
    trial.shell(first, f"{KILL} kirschd; systemctl stop kirschd")
    trial.kirsch("start", "--no-block", "s@1")
    trial.shell(first, "systemctl start kirschd")
    trial.until(lambda lines: lines["s@1.service"]["ready"] and lines["s@2.service"]["ready"])
    after = trial.running(first, "s@*")
    assert after.keys() == {"s@1.service", "s@2.service"}
    assert after["s@2.service"] == before["s@2.service"]


@pytest.mark.soak
def test_a_full_run_on_one_machine(trial):
    full = trial.machines[-1]
    instances(trial, 6)
    # What others give back meanwhile is taken at once.
    fills = "while [ -e /tmp/fills ]; do head -c 1M /dev/zero >> /run/full; sleep 0.02; done 2>/dev/null"
    used = "$(df -k --output=used /run | tail -1)"
    trial.shell(full, f"mount -o remount,size=$(({used} + 64))k /run && touch /tmp/fills")
    podman("exec", "--detach", full.container, "sh", "-c", fills)
    try:
        eventually(lambda: trial.shell(full, "df -k --output=avail /run | tail -1").strip() == "0")
        trial.submit("there.service", SLEEP + f"[X-Kirsch]\nMachineID={full.id}\n")
        refused = trial.kirsch("start", "there.service", check=False)
        assert refused.status == 1
        assert "No space left" in refused.err + refused.out + trial.kirsch("why", "there.service").out
        trial.submit("other.service", SLEEP + f"[X-Kirsch]\nMachineID={trial.machines[0].id}\n")
        trial.kirsch("start", "other.service")
        lines = trial.lines()
        assert all(lines[f"s@{number}.service"]["active"] == "active" for number in range(6))
    finally:
        trial.shell(full, "rm -f /tmp/fills; mount -o remount,size=50% /run; sleep 0.1; rm -f /run/full")
    trial.kirsch("restart", "there.service")
    assert trial.lines()["there.service"]["active"] == "active"
