"""Plans of faults."""

from hypothesis import given
from hypothesis import strategies as st
from tests.faults.plan import Kind, plan, turns

seeds = st.integers(0, 1 << 32)


@given(seeds, st.integers(1, 30), st.sampled_from((3, 5)))
def test_a_seed_has_one_plan_and_more_rounds_change_none(seed, rounds, machines):
    made = plan(seed, rounds, machines)
    assert made == plan(seed, rounds, machines)
    assert made == plan(seed, rounds + 7, machines)[:rounds]


@given(seeds)
def test_each_kind_has_its_turn(seed):
    kinds = len(Kind)
    made = plan(seed, 2 * kinds, 3)
    for deck in (made[:kinds], made[kinds:]):
        assert {each.faults[0].kind for each in deck} == set(Kind)


@given(seeds)
def test_two_faults_are_of_two_machines_and_leave_etcd_a_majority_of_logs(seed):
    for each in plan(seed, 24, 3):
        assert len({fault.machine for fault in each.faults}) == len(each.faults)
        assert sum(fault.kind is Kind.WAL for fault in each.faults) <= 1


def test_faults_meet_at_once_and_during_recovery():
    titles = {each.title.rpartition(", ")[2] for each in plan(1, 50, 3)}
    assert {"at once", "during recovery"} < titles


def test_machines_are_killed_in_turn():
    assert [each.faults[0].machine for each in turns(2, 3)] == [0, 1, 2, 0, 1, 2]
