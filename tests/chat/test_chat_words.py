"""What people may be called, where they may be, what they may say."""

import json

import pytest
from examples.chat.chat import words
from hypothesis import given
from hypothesis import strategies as st

from kirsch.amqp import Refused


@pytest.mark.parametrize(
    "name", ["Ada", "Приветик", "a b", "李", "می\u200cخواهم", "👩\u200d🚀1", "x" * 40, "R2-D2"]
)
def test_names(name):
    assert words.named(name).name == name


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "Say what you are called."),
        ("  ", "Say what you are called."),
        ("x" * 41, "A name has 40 characters at most."),
        ("!?", "A name has letters or digits"),
        ("a\u202eb", "nothing that cannot be seen"),
        ("a\0", "nothing that cannot be seen"),
        *(
            (f"A{letter}da", "cannot be seen")
            for letter in "\u200b\u00ad\u2060\u200e\u200f\u061c\ufeff\u200d\u3164"
        ),
        ("Ada\u200d", "cannot be seen"),
    ],
)
def test_names_that_are_none(name, told):
    with pytest.raises(Refused, match=told):
        words.named(name)


def test_windows_of_a_browser_are_one_person_whose_secret_is_not_told():
    secret = "s" * 32
    one, two = words.named("Ada", secret), words.named("Countess", secret)
    assert one.id == two.id != words.named("Ada", "t" * 32).id
    assert secret not in one.id
    for none in (None, "", "short", 7, {}, "é" * 32):
        assert words.named("Ada", none).id == ""


@pytest.mark.parametrize("room", ["lobby", "a-b", "кухня", "x" * 40, "~rooms", "2"])
def test_rooms(room):
    assert words.is_room(room)


@pytest.mark.parametrize("room", ["", "-a", "a b", "a.b", "x" * 41, "~other", "*", "#", "<b>"])
def test_rooms_that_are_none(room):
    assert not words.is_room(room)


def test_of_a_message_the_text_is_sent_and_nothing_else():
    assert words.checked("lobby", {"text": " <b>hi</b>\n\t!", "admin": True}) == {"text": " <b>hi</b>\n\t!"}
    assert words.checked("lobby", {"text": "a\ud800\0\u202e"}) == {"text": "a���"}


@pytest.mark.parametrize("data", [None, [], "hi", {}, {"text": 1}, {"text": " \n"}, {"text": "x" * 4001}])
def test_messages_that_are_none(data):
    with pytest.raises(Refused):
        words.checked("lobby", data)


def test_the_directory_takes_names_of_rooms():
    assert words.checked(words.DIRECTORY, {"room": "attic", "text": "x"}) == {"room": "attic"}
    for data in ({"text": "hi"}, {"room": "a b"}, {"room": words.DIRECTORY}, {"room": 1}):
        with pytest.raises(Refused):
            words.checked(words.DIRECTORY, data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda of: st.lists(of) | st.dictionaries(st.text(), of),
)


@given(st.dictionaries(st.sampled_from(["text", "room", "x"]), JSON) | JSON, st.sampled_from(["a", "~rooms"]))
def test_whatever_comes_can_be_sent_or_is_refused(data, room):
    try:
        said = words.checked(room, data)
    except Refused:
        return
    assert len(said) == 1
    json.dumps(said, ensure_ascii=False).encode()
