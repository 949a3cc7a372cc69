"""Machines by their names: in reasons, of which kirschd has the ids."""

import pytest

from kirsch.cli.names import distinct, named

ONE, TWO, THREE = "1893e05c" + "0" * 24, "6e8c7d72" + "1" * 24, "f92c1b95" + "2" * 24
NAMES = {ONE: "n1", TWO: "n2"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"machine {ONE}: it is cordoned", "machine n1: it is cordoned"),
        (f"its machine {TWO} is away", "its machine n2 is away"),
        ("starts anew once book@1.container on machine 1893e05c is ready",
         "starts anew once book@1.container on machine n1 is ready"),
        (f"it is sticky and its home is {THREE}; a person can move it",
         "it is sticky and its home is f92c1b95...; a person can move it"),
        ("book:k-1893e05c4711 and f92c1b95 are let be", "book:k-1893e05c4711 and f92c1b95 are let be"),
        ("waits for webdb to be ready", "waits for webdb to be ready"),
    ],
)  # fmt: skip
def test_ids_are_names(text: str, shown: str):
    assert named(text, NAMES) == shown


def test_a_name_that_two_machines_have_is_told_with_the_id():
    names = distinct({ONE: "host", TWO: "host", THREE: "attic", "4" * 32: ""})
    assert names == {ONE: "host (1893e05c...)", TWO: "host (6e8c7d72...)", THREE: "attic"}
