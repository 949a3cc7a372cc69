"""Specifiers, and the escaping of names they undo."""

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kirsch.unit import UnitError, UnitName, escape, expand, unescape

NAME = UnitName.parse(r"my-web\x2dapp@a-b\x2dc.service")
any_text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%n", r"my-web\x2dapp@a-b\x2dc.service"),
        ("%N", r"my-web\x2dapp@a-b\x2dc"),
        ("%p", r"my-web\x2dapp"),
        ("%P", "my/web-app"),
        ("%i", r"a-b\x2dc"),
        ("%I", "a/b-c"),
        ("%j", r"web\x2dapp"),
        ("%J", "web-app"),
        ("%%i", "%i"),
        ("%%%i", r"%a-b\x2dc"),
        ("100% %", "100% %"),
        ("%{http_code}", "%{http_code}"),
        ("", ""),
    ],
)
def test_specifiers(text, expected):
    assert expand(text, NAME) == expected


def test_of_a_unit_without_instance():
    assert expand("%n %N %p %i%I %j", UnitName.parse("web.service")) == "web.service web web  web"


def test_further_letters():
    assert expand("%H %i", NAME, {"H": "host", "i": "mine"}) == "host mine"


def test_values_are_not_expanded_again():
    assert expand("%H", NAME, {"H": "%i"}) == "%i"


def test_unknown():
    message = "unknown specifier %z; there are %n %N %p %P %i %I %j %J %H, and %% for a percent sign"
    with pytest.raises(UnitError) as refused:
        expand("a %z", NAME, {"H": "host"})
    assert str(refused.value) == message


@pytest.mark.parametrize("letter", ["H", "t", "u"])
def test_one_that_only_a_machine_can_tell(letter):
    with pytest.raises(UnitError, match=f"^systemd's specifier %{letter} is not known here; there are %n "):
        expand(f"%{letter}", NAME)


def test_an_instance_that_cannot_be_unescaped():
    with pytest.raises(UnitError, match="invalid escape in"):
        expand("%I", UnitName.parse(r"a@\y.service"))


@pytest.mark.parametrize("text", ["\\", r"\x", r"\x4", r"\xzz", r"a\b", r"\x00"])
def test_bad_escapes(text):
    with pytest.raises(UnitError, match="invalid escape"):
        unescape(text)


@given(any_text)
def test_escape_comes_back(text):
    assert unescape(escape(text)) == text


@given(any_text.filter(bool))
def test_an_escaped_text_may_be_an_instance(text):
    escaped = escape(text)
    if len(escaped) < 200:
        assert expand("%I", UnitName.parse(f"a@{escaped}.service")) == text


@pytest.mark.skipif(not shutil.which("systemd-escape"), reason="no systemd-escape here")
@settings(max_examples=5)
@given(st.lists(any_text.filter(bool), min_size=20, max_size=40))
def test_as_systemd_escape_does(texts):
    ran = subprocess.run(["systemd-escape", "--", *texts], capture_output=True, check=True)
    assert [escape(text) for text in texts] == ran.stdout.decode().rstrip("\n").split(" ")
