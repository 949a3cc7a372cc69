"""The decision when a call that does not end is interrupted: pure, without Java and without a clock."""

from itertools import product

from kirsch.hbase.calls import GRACE, Watched

DEADLINE = 100.0


def test_each_call_is_interrupted_within_a_second_of_its_deadline():
    """Whatever its thread does at each look."""
    for runs in product((True, False), repeat=8):
        watched = Watched(DEADLINE, None)
        looks = iter(runs)
        now = watched.again
        while not watched.look(now, next(looks)):
            assert watched.again > now
            now = watched.again
        assert DEADLINE + GRACE <= now < DEADLINE + 0.9
        assert watched.interrupted


def test_a_thread_that_waits_is_interrupted_at_once():
    watched = Watched(DEADLINE, None)
    assert watched.look(watched.again, runs=False)


def test_a_call_that_goes_on_is_interrupted_again():
    watched = Watched(DEADLINE, None)
    for now in (DEADLINE + 5, DEADLINE + 60):
        assert watched.look(now, runs=True)
        assert now < watched.again < now + 0.2
