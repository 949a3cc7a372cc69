"""History as it is promised: what a process does not have in memory is read from the stream, by pages."""

import pytest
from tests.amqp.applications import running
from tests.amqp.visitor import Visitor

from kirsch.amqp import Limits

pytestmark = pytest.mark.services

LIMITS = Limits(rate=10_000, burst=10_000, unconfirmed=10_000)


@pytest.fixture(scope="module")
def application(rabbit):
    """Ten messages of a room are kept in memory; 120 were sent, among others' in another room."""
    options = {"limits": LIMITS, "memory": (64 << 20, 10, 1 << 20)}
    with running("cherrypy", rabbit.url, rabbit.name(), **options) as application:
        with Visitor(application, "Ada") as ada:
            ada.join("lobby", presence=False)
            for number in range(1, 121):
                ada.send("lobby", 2 * number, number)
                ada.send("elsewhere", 2 * number + 1, number)
            assert ada.messages(120) == list(range(1, 121))
        yield application


def test_who_enters_hears_the_last_messages_though_they_are_not_in_memory(application):
    with Visitor(application, "Bob") as bob:
        joined = bob.join("lobby", last=50, presence=False)
        assert joined["complete"]
        assert bob.messages(50) == list(range(71, 121))
        # Those who come after are heard once, and at once.
        bob.send("lobby", 1, "now")
        assert bob.messages(1) == ["now"]
        bob.send("elsewhere", 2, "no")
        # Restore what the other tests count.
        assert [said["data"] for said in bob.said if said["type"] == "message"].count("now") == 1


def test_history_comes_by_pages_to_its_beginning(application):
    with Visitor(application, "Eve") as eve:
        joined = eve.join("lobby", presence=False)
        before, heard, pages = joined["offset"] + 1, [], 0
        while True:
            eve.say(type="history", room="lobby", before=before, limit=50)
            page = eve.until("history", room="lobby")
            heard = [said["data"] for said in page["messages"]] + heard
            assert page["before"] < before
            before, pages = page["before"], pages + 1
            if not page["more"]:
                break
        assert [each for each in heard if each != "now"] == list(range(1, 121))
        assert pages == 3
        assert page["messages"][0]["name"] == "Ada"
        assert page["messages"][0]["offset"] >= before


def test_a_room_in_which_nobody_has_spoken_has_no_history(application):
    with Visitor(application, "Eve") as eve:
        joined = eve.join("silent", last=50, presence=False)
        assert joined["complete"]
        eve.say(type="history", room="silent", before=joined["offset"] + 1)
        page = eve.until("history", room="silent")
        assert (page["messages"], page["more"]) == ([], False)
        eve.say(type="history", room="silent", before=0)
        assert eve.until("history")["more"] is False


def test_one_page_at_a_time_is_read_for_a_connection(application):
    with Visitor(application, "Eve") as eve:
        eve.say(type="history", room="lobby", before=10_000, limit=5)
        eve.say(type="history", room="lobby", before=10_000, limit=5)
        assert eve.until("error", room="lobby")["code"] == "busy"
        assert len(eve.until("history")["messages"]) == 5


@pytest.mark.parametrize(
    "said", [{"before": -1}, {}, {"before": 3, "limit": 0}, {"before": 3, "limit": 101}, {"before": "x"}]
)
def test_a_page_that_there_cannot_be_is_malformed(application, said):
    with Visitor(application, "Eve") as eve:
        eve.say(type="history", room="lobby", **said)
        assert eve.ended()[0] == 4400
