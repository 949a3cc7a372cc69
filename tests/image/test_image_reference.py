"""Names of images."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.cluster.image.reference import ImageError, Reference


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("notes", "localhost/notes:latest"),
        ("notes:1.0", "localhost/notes:1.0"),
        ("kirsch/web", "localhost/kirsch/web:latest"),
        ("localhost/kirsch/web", "localhost/kirsch/web:latest"),
        ("localhost:5000/notes", "localhost:5000/notes:latest"),
        ("10.0.0.7:5000/team/notes:v2", "10.0.0.7:5000/team/notes:v2"),
        ("[fd00::7]:5000/notes:v2", "[fd00::7]:5000/notes:v2"),
        ("registry.example/notes", "registry.example/notes:latest"),
        ("n1:5000/notes", "n1:5000/notes:latest"),
    ],
)
def test_a_name_is_completed(text, whole):
    assert str(Reference.parse(text)) == whole
    assert str(Reference.parse(whole)) == whole


@pytest.mark.parametrize(
    "text", ["", "Notes", "notes:", "notes:-1", "a//b", "/a", "a/", "a b", "a:b:c", "-a", "a@b"]
)
def test_a_bad_name_is_refused_in_a_line(text):
    with pytest.raises(ImageError) as refused:
        Reference.parse(text)
    assert "\n" not in str(refused.value)


def test_a_name_may_be_255_letters_long():
    assert Reference.parse("a" * 255).path == "a" * 255
    with pytest.raises(ImageError):
        Reference.parse("a" * 256)


@given(st.text(max_size=40))
def test_any_text_is_a_name_or_refused(text):
    try:
        whole = Reference.parse(text)
    except ImageError:
        return
    assert Reference.parse(str(whole)) == whole


def test_a_name_moves_to_a_registry():
    assert str(Reference.parse("kirsch/web:1").at("localhost:5000")) == "localhost:5000/kirsch/web:1"
    assert Reference.parse("kirsch/web").local
    assert not Reference.parse("localhost:5000/web").local
