"""The check that never two members of a database took writes at a time."""

from tests.machines.database_writer import Accepted, by_no_leader

FIRST = [Accepted(f"a{at}", "webdb@1", 1, at, at + 0.5) for at in range(3)]
SECOND = [Accepted(f"b{at}", "webdb@2", 2, at, at + 0.5) for at in range(10, 13)]


def test_one_leader_after_another_is_well():
    assert by_no_leader([]) == []
    assert by_no_leader([*SECOND, *FIRST]) == []


def test_a_commit_that_waited_while_another_began_to_lead_is_well():
    assert by_no_leader([*FIRST, *SECOND, Accepted("waited", "webdb@1", 1, 9.0, 10.7)]) == []


def test_an_old_leader_that_goes_on_is_found():
    late = Accepted("late", "webdb@1", 1, 10.6, 10.7)
    assert by_no_leader([*FIRST, *SECOND, late]) == [late]
    # Whoever led in between took none.
    assert by_no_leader([*FIRST, late, SECOND[0]._replace(timeline=3)]) == [late]


def test_two_that_lead_on_one_timeline_are_found():
    other = Accepted("other", "webdb@3", 2, 11.2, 11.3)
    assert by_no_leader([*FIRST, *SECOND, other]) == [other]
