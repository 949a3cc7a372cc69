"""Delays of a client that connects again."""

from itertools import islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.websocket.core.backoff import Backoff, may_succeed_later
from kirsch.websocket.core.errors import HandshakeError
from kirsch.websocket.core.url import BadUrl


class _Most(Random):
    """A random source whose every draw is the largest: it shows what the delays may be."""

    def random(self) -> float:
        return 1.0


def test_grows_to_its_maximum_and_stays_there() -> None:
    backoff = Backoff(1, 2, 10, random=_Most())
    assert list(islice(backoff, 6)) == [1, 2, 4, 8, 10, 10]


def test_begins_again_after_a_connection_that_lasted() -> None:
    backoff = Backoff(1, 3, 100, steady=5, random=_Most())
    assert list(islice(backoff, 3)) == [1, 3, 9]
    backoff.lasted(4.9)
    assert next(backoff) == 27
    backoff.lasted(5)
    assert list(islice(backoff, 2)) == [1, 3]
    backoff.reset()
    assert next(backoff) == 1


def test_ends_after_so_many_attempts_in_a_row() -> None:
    backoff = Backoff(attempts=3)
    assert len(list(backoff)) == 3
    assert list(backoff) == []
    backoff.lasted(3600)
    assert len(list(backoff)) == 3


def test_a_seed_gives_the_same_delays_again() -> None:
    first, second = (list(islice(Backoff(random=Random(7)), 20)) for _ in range(2))
    assert first == second
    assert len(set(first)) == 20


def test_two_clients_do_not_come_back_together() -> None:
    assert list(islice(Backoff(), 5)) != list(islice(Backoff(), 5))


@given(
    st.floats(0, 100),
    st.floats(1, 1e300),
    st.floats(100, 1e9),
    st.integers(),
    st.lists(st.floats(0, 1e9), max_size=30),
)
def test_a_delay_is_between_nothing_and_the_maximum(
    start: float, factor: float, maximum: float, seed: int, lasted: list[float]
) -> None:
    backoff = Backoff(start, factor, maximum, random=Random(seed))
    assert 0 <= next(backoff) <= start
    for seconds in lasted:
        backoff.lasted(seconds)
        assert 0 <= next(backoff) <= maximum


def test_draws_over_the_whole_range() -> None:
    """Full jitter: of 1,000 first delays the mean is near the middle and the ends are reached."""
    backoff = Backoff(1, random=Random(1))
    delays = []
    for _ in range(1000):
        delays.append(next(backoff))
        backoff.reset()
    assert 0.45 < sum(delays) / 1000 < 0.55
    assert min(delays) < 0.01
    assert max(delays) > 0.99


@pytest.mark.parametrize(
    "delays",
    [(-1, 2, 3), (4, 2, 3), (1, 0.5, 3), (1, 2, float("inf")), (float("nan"), 2, 3), (1, float("nan"), 3)],
)
def test_refuses_delays_that_shrink_or_are_no_numbers(delays: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="a backoff has delays"):
        Backoff(*delays)


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (HandshakeError(0, "nothing listens on localhost:1"), True),
        (HandshakeError(429, "slowly"), True),
        (HandshakeError(503, "soon"), True),
        (HandshakeError(101, "the response has no Connection: Upgrade"), False),
        (HandshakeError(302, "redirected more than 5 times"), False),
        (HandshakeError(401, "who are you"), False),
        (HandshakeError(404, "not here"), False),
        (BadUrl("the URL names no host"), False),
    ],
)
def test_some_errors_pass(error: HandshakeError, again: bool) -> None:
    assert may_succeed_later(error) is again
