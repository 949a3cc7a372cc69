import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.bus.process.child import Exit
from kirsch.bus.process.restart import Again, Backoff, Done, Failed, History, Limit, Policy, after_exit

CRASH = Exit(1)
exits = st.builds(Exit, code=st.integers(0, 255)) | st.builds(
    Exit, signal=st.integers(1, 64), lost=st.booleans()
)


def test_delays_grow_up_to_the_most():
    backoff = Backoff(first=0.1, factor=2, most=30)
    assert [backoff.delay(failures) for failures in (0, 1, 2, 8, 9, 10_000)] == [0.1, 0.2, 0.4, 25.6, 30, 30]


def test_a_backoff_that_shrinks_is_refused():
    with pytest.raises(ValueError, match="shrink"):
        Backoff(factor=0.5)


def test_a_restart_of_another_name_is_refused():
    with pytest.raises(ValueError, match="sometimes"):
        Policy("sometimes")


@pytest.mark.parametrize(
    ("restart", "how", "decision"),
    [
        ("no", Exit(0), Done()),
        ("no", Exit(3), Failed("exited with code 3")),
        ("on-failure", Exit(0), Done()),
        ("on-failure", Exit(signal=15), Done()),
        ("on-failure", Exit(3), Again(0.1, History((0.0,), 1))),
        ("on-failure", Exit(signal=11), Again(0.1, History((0.0,), 1))),
        ("on-failure", Exit(signal=9, lost=True), Again(0.1, History((0.0,), 1))),
        ("always", Exit(0), Again(0.1, History((0.0,), 1))),
    ],
)
def test_which_ends_are_followed_by_a_start(restart, how, decision):
    assert after_exit(Policy(restart), History((0.0,)), how, 1.0) == decision


def test_a_run_that_settled_starts_the_backoff_anew():
    policy = Policy(settled=10)
    assert after_exit(policy, History((0.0,), 5), CRASH, 9.0).delay == 3.2
    assert after_exit(policy, History((0.0,), 5), CRASH, 10.0).delay == 0.1


def test_the_limit_is_reached():
    policy = Policy(limit=Limit(3, 10), backoff=Backoff(0, 1, 0))
    decision = after_exit(policy, History((1.0, 2.0, 3.0)), CRASH, 4.0)
    assert decision == Failed("started 3 times within 10 s, last exited with code 1")


def test_starts_long_ago_do_not_count():
    policy = Policy(limit=Limit(3, 10), backoff=Backoff(0, 1, 0))
    assert isinstance(after_exit(policy, History((1.0, 2.0, 3.0)), CRASH, 12.0), Again)


@given(
    st.lists(st.tuples(st.floats(0, 50), exits)),
    st.sampled_from(["always", "on-failure", "no"]),
    st.integers(1, 5),
    st.floats(0.1, 100),
)
def test_no_life_breaks_the_policy(runs, restart, starts, interval):
    policy = Policy(restart, Backoff(0.1, 2, 5), Limit(starts, interval))
    now, history, times = 0.0, History(), []
    for lasted, how in runs:
        history = history.started(now, policy)
        times.append(now)
        now += lasted
        decision = after_exit(policy, history, how, now)
        if not isinstance(decision, Again):
            assert isinstance(decision, Failed) or how.ok or how.signal
            break
        assert restart != "no"
        assert 0.1 <= decision.delay <= 5
        now, history = now + decision.delay, decision.history
    for first, last in zip(times, times[starts:], strict=False):
        assert last - first >= interval * 0.999999
