"""Names, templates and instances."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.unit import UNIT_TYPES, UnitError, UnitName


@pytest.mark.parametrize(
    ("text", "prefix", "instance", "kind"),
    [
        ("webdb.container", "webdb", None, "container"),
        ("notes@.container", "notes", "", "container"),
        ("notes@1.container", "notes", "1", "container"),
        ("a.b.c.service", "a.b.c", None, "service"),
        ("a@b@c.d.service", "a", "b@c.d", "service"),
        (r"dev-a\x2db:c_d.mount", r"dev-a\x2db:c_d", None, "mount"),
        ("x" * 248 + ".service", "x" * 248, None, "service"),
    ],
)
def test_parts(text, prefix, instance, kind):
    name = UnitName.parse(text)
    assert (name.text, name.prefix, name.instance, name.type) == (text, prefix, instance, kind)
    assert str(name) == text
    assert name.service == prefix
    assert name.is_template == (instance == "")
    assert name.is_instance == bool(instance)


@pytest.mark.parametrize("kind", sorted(UNIT_TYPES))
def test_every_type(kind):
    assert UnitName.parse(f"a.{kind}").type == kind


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "unit name cannot be empty"),
        ("x" * 249 + ".service", "unit name exceeds maximum length (256)"),
        ("webdb", "unit name must contain \".\": 'webdb' has no type, such as .service or .container"),
        ("webdb.", 'unit name cannot end in "."'),
        ("webdb.contianer", 'invalid unit type: "contianer"; did you mean container?'),
        ("webdb.zzz", 'invalid unit type: "zzz"'),
        ("web db.service", "invalid character ' ' in unit name"),
        ("../a.service", "invalid character '/' in unit name"),
        ("é.service", "invalid character 'é' in unit name"),
        ("a\n.service", "invalid character '\\n' in unit name"),
        ("@1.service", 'unit name cannot start in "@"'),
        (".service", 'unit name cannot start in ".": nothing stands before the type of ".service"'),
        ("a@1.mount", 'invalid unit type for template: "mount"'),
        ("a@.kube", 'invalid unit type for template: "kube"'),
    ],
)
def test_bad_names(text, message):
    with pytest.raises(UnitError) as refused:
        UnitName.parse(text)
    assert str(refused.value) == message


def test_template_and_instances():
    template = UnitName.parse("notes@.container")
    first = template.with_instance("1")
    assert first == UnitName.parse("notes@1.container")
    assert first.template == template
    assert first.with_instance("2").text == "notes@2.container"
    assert template.template is None
    assert UnitName.parse("webdb.container").template is None
    with pytest.raises(UnitError, match=r'"webdb\.container" is not a template: it has no "@"'):
        UnitName.parse("webdb.container").with_instance("1")
    with pytest.raises(UnitError, match="invalid character '/'"):
        template.with_instance("a/b")


def test_sorted_and_hashed_by_text():
    names = [UnitName.parse(text) for text in ("b.service", "a@2.service", "a.service", "a@2.service")]
    assert [str(name) for name in sorted(set(names))] == ["a.service", "a@2.service", "b.service"]


@given(st.text())
def test_any_text_is_a_name_or_a_unit_error(text):
    try:
        said = UnitName.parse(text).text
    except UnitError as error:
        said = str(error)
    assert said == text or "\n" not in said
