"""Verbs on three machines: placement options, moves, drain, why, journals from any machine."""

import pytest
from tests.machines.trial import eventually

pytestmark = [pytest.mark.machines, pytest.mark.slow]

SLEEP = "[Service]\nExecStart=/bin/sleep infinity\n"
# Says when it begins and when it has ended, in the journal of its machine.
TELLS = """\
[Service]
ExecStart=/bin/sh -c 'echo began; trap "echo ended; exit 0" TERM; while :; do sleep 0.1; done'
"""


@pytest.fixture(autouse=True)
def clean(trial):
    """Nothing runs before, and nothing after."""
    trial.clear()
    yield
    trial.clear()


def on(trial, name):
    return trial.lines()[name]["machine"]


def test_machine_of_follows_and_conflicts_keep_apart(trial):
    trial.submit("a.service", SLEEP)
    trial.submit("b.service", SLEEP + "[X-Fleet]\nMachineOf=a.service\n")
    trial.submit("c.service", SLEEP + "[X-Fleet]\nConflicts=a.service\n")
    trial.kirsch("start", "a.service", "b.service", "c.service")
    assert on(trial, "a.service") == on(trial, "b.service") != on(trial, "c.service")
    trial.kirsch("move", "a.service")
    trial.until(
        lambda now: (
            now["a.service"]["active"] == now["b.service"]["active"] == "active"
            and now["a.service"]["machine"] == now["b.service"]["machine"]
        )
    )


def test_global_runs_everywhere_and_spread_spreads(trial):
    trial.submit("all.service", SLEEP + "[X-Kirsch]\nGlobal=true\n")
    trial.kirsch("start", "all.service")
    for machine in trial.machines:
        eventually(lambda machine=machine: "all.service" in trial.running(machine, "all.service"))


def test_metadata_changed_at_run_time_moves_what_asks_for_it(trial):
    first, second = trial.machines[:2]
    trial.kirsch("metadata", first.id, "disk=ssd")
    trial.submit("wants.service", SLEEP + "[X-Kirsch]\nMachineMetadata=disk=ssd\n")
    trial.kirsch("start", "wants.service")
    assert on(trial, "wants.service") == first.id
    trial.kirsch("metadata", second.id, "disk=ssd")
    trial.kirsch("metadata", first.id, "disk=")
    trial.until(
        lambda now: (
            now["wants.service"]["machine"] == second.id and now["wants.service"]["active"] == "active"
        )
    )
    trial.kirsch("metadata", second.id, "disk=")
    eventually(lambda: "disk" in trial.kirsch("why", "wants.service").out)


def test_files_are_verified_against_machines_quadlet_and_registry(trial):
    well = trial.write("well.container", "[Container]\nImage=localhost/nobody/has\n")
    bad = trial.write("bad.container", "[Container]\nExec=true\n")
    far = trial.write("far.service", SLEEP + "[X-Kirsch]\nMachineMetadata=disk=gold\n")
    cluster = trial.record.name
    done = trial.kirsch("verify", "--on", cluster, well, bad, far, check=False)
    assert (done.status, done.out) == (1, f"{well}: ok\n")
    warned, refused, nowhere = done.err.splitlines()
    assert warned.startswith(f"warning: {well}: nobody has sent localhost/nobody/has:latest: kirsch up --on ")
    assert warned.endswith(f" or kirsch image push nobody/has --on {cluster}")
    assert refused.startswith(f"kirsch: {bad}: ")
    assert "Image" in refused
    assert nowhere.startswith(f"kirsch: {far}: no machine can have it: ")
    assert all(f"machine {machine.name}: " in nowhere for machine in trial.machines)
    assert not trial.lines()


def test_spread_puts_instances_in_each_zone(trial):
    trial.submit("spread@.service", SLEEP + "[X-Kirsch]\nSpread=zone\n")
    names = [f"spread@{number}.service" for number in range(3)]
    trial.kirsch("start", *names)
    assert len({on(trial, name) for name in names}) == 3


def test_replaces_takes_the_place_of_another(trial):
    trial.submit("old.service", SLEEP)
    trial.kirsch("start", "old.service")
    trial.submit("new.service", SLEEP + "[X-Fleet]\nReplaces=old.service\n")
    trial.kirsch("start", "new.service")
    place = trial.machine_of("new.service")
    eventually(lambda: "old.service" not in trial.running(place, "*.service"))


def test_what_systemd_rejects_is_shown_in_its_own_words(trial):
    trial.submit("bad.service", "[Service]\nExecStart=relative/path\n")
    refused = trial.kirsch("start", "bad.service", check=False)
    assert refused.status == 1
    told = trial.kirsch("status", "bad.service").out + trial.kirsch("why", "bad.service").out
    assert "absolute" in told or "bad-setting" in told or "bad unit file setting" in told.lower(), told


def test_what_quadlet_rejects_is_shown_in_its_own_words(trial):
    path = trial.write("bad.container", "[Container]\nImage=localhost/none\nNoSuchKey=1\n")
    refused = trial.kirsch("submit", path, check=False)
    assert refused.status == 1
    assert "unsupported key 'NoSuchKey' in group 'Container'" in refused.err
    assert "bad.container" not in trial.lines()


def test_too_much_memory_waits_and_why_says_so(trial):
    trial.submit("big.service", SLEEP + "[X-Kirsch]\nMemory=999G\n")
    trial.kirsch("start", "--no-block", "big.service")
    eventually(lambda: "emory" in trial.kirsch("why", "big.service").out)


def test_a_move_stops_before_it_starts(trial):
    trial.submit("m.service", TELLS)
    trial.kirsch("start", "m.service")
    source = trial.machine_of("m.service")
    target = next(machine for machine in trial.machines if machine.id != source.id)
    trial.kirsch("move", "m.service", target.id)
    trial.until(
        lambda now: now["m.service"]["machine"] == target.id and now["m.service"]["active"] == "active"
    )
    ended = max(at for at, line in trial.journal(source, "m.service") if line == "ended")
    began = min(at for at, line in trial.journal(target, "m.service") if line == "began")
    assert ended < began


def test_drain_moves_all_but_sticky_and_uncordon_takes_back(trial):
    trial.submit("s@.service", SLEEP)
    trial.submit("holds.service", SLEEP + "[X-Kirsch]\nSticky=yes\n")
    names = [f"s@{number}.service" for number in range(9)]
    trial.kirsch("start", *names, "holds.service")
    home = trial.machine_of("holds.service")
    trial.kirsch("drain", home.id)
    now = trial.until(
        lambda now: all(
            now[n]["machine"] not in ("", home.id) and now[n]["active"] == "active" for n in names
        )
    )
    assert now["holds.service"]["machine"] == home.id
    trial.submit("later.service", SLEEP + f"[X-Kirsch]\nMachineID={home.id}\n")
    trial.kirsch("start", "--no-block", "later.service")
    eventually(lambda: "cordon" in trial.kirsch("why", "later.service").out)
    trial.kirsch("uncordon", home.id)
    trial.until(lambda now: now["later.service"]["active"] == "active")


def test_journals_and_status_from_whichever_machine(trial):
    for number, machine in enumerate(trial.machines):
        says = f"[Service]\nExecStart=/bin/sh -c 'echo here is {number}; exec sleep infinity'\n"
        trial.submit(f"says{number}.service", says + f"[X-Kirsch]\nMachineID={machine.id}\n")
    names = [f"says{number}.service" for number in range(len(trial.machines))]
    trial.kirsch("start", *names)
    for number, name in enumerate(names):
        assert f"here is {number}" in trial.kirsch("journal", name).out
        assert f"here is {number}" in trial.kirsch("status", name).out


def test_tables_show_machines_as_fleetctl_does(trial):
    trial.submit("s.service", SLEEP)
    trial.kirsch("start", "s.service")
    machine = trial.machine_of("s.service")
    assert f"{machine.id[:8]}.../{machine.address}" in trial.kirsch("list-units").out
    assert f"{machine.id}/{machine.address}" in trial.kirsch("list-units", "--full").out
    listed = trial.kirsch("list-machines").out
    assert all(f"{machine.id[:8]}..." in listed for machine in trial.machines)
