"""What is known of Quadlet without one: names, versions, and how it refuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.cluster.model.podman import parse_version, quadlet_types
from kirsch.cluster.runtime.base import Prepared
from kirsch.cluster.runtime.environment import parse_environment_file
from kirsch.cluster.runtime.systemd.files import (
    compose,
    environment_text,
    extend,
    is_ours,
    original,
)
from kirsch.cluster.runtime.systemd.quadlet import references, refusals, service_name
from kirsch.unit import UnitFile, UnitName


@pytest.mark.parametrize(
    ("name", "text", "service"),
    [
        ("x.service", "", "x.service"),
        ("x.container", "[Container]\n", "x.service"),
        ("x@1.container", "[Container]\n", "x@1.service"),
        ("x.container", "[Container]\nServiceName=other\n", "other.service"),
        ("x.kube", "[Kube]\n", "x.service"),
        ("x.volume", "[Volume]\n", "x-volume.service"),
        ("x.network", "[Network]\n", "x-network.service"),
        ("x.pod", "[Pod]\n", "x-pod.service"),
        ("x.image", "[Image]\n", "x-image.service"),
        ("x.build", "[Build]\n", "x-build.service"),
        ("a.container.container", "[Container]\n", "a.container.service"),
    ],
)
def test_the_unit_of_systemd_that_a_unit_is(name, text, service):
    assert service_name(UnitName.parse(name), UnitFile.parse(text, name)) == service


@pytest.mark.parametrize(
    ("version", "has", "has_not"),
    [
        ("4.3.1", set(), {"container", "pod"}),
        ("4.4.0", {"container", "volume", "network"}, {"image", "pod", "build"}),
        ("4.9.3", {"container", "image"}, {"pod", "build"}),
        ("5.0.0", {"container", "pod"}, {"build"}),
        ("5.4.2\n", {"pod", "build"}, set()),
        ("5.2.0-dev", {"build"}, set()),
        ("quadlet: unknown", set(), {"container"}),
    ],
)
def test_types_of_a_version(version, has, has_not):
    types = set(quadlet_types(parse_version(version)))
    assert has <= types
    assert not has_not & types


@pytest.mark.parametrize(
    ("line", "name", "words"),
    [
        (
            "quadlet-generator[1]: converting \"x.container\": unsupported key 'Colour' in 'Container' in /a",
            "x.container",
            "unsupported key 'Colour' in 'Container'",
        ),
        (
            'quadlet-generator[3]: error loading "/q/x.container", file contains line 1: “a” which is not',
            "x.container",
            "line 1: “a” which is not",
        ),
        (
            "quadlet-generator[9]: Error converting 'x.container', ignoring: no Image key",
            "x.container",
            "no Image key",
        ),
    ],
)
def test_refusals(line, name, words):
    assert refusals(f"something else\n{line}\n{line} again\n") == {name: words}


def test_what_a_quadlet_names():
    text = (
        "[Container]\nImage=a.image\nNetwork=b.network:ip=10.0.0.1\nVolume=c.volume:/data:Z\n"
        "Volume=/srv/d.volume:/d\nPod=e.pod\nMount=type=volume,source=f.volume,destination=/f\nExec=g.volume\n"
    )
    found = references(UnitFile.parse(text, "x.container"))
    assert found == {"a.image", "b.network", "c.volume", "e.pod", "f.volume"}


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z][A-Z0-9_]{0,8}", fullmatch=True),
        st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    )
)
def test_variables_come_back_as_they_were(environment):
    assert parse_environment_file(environment_text(environment)) == environment


@given(st.binary())
def test_what_is_added_to_a_file_goes_again(content):
    prepared = Prepared(
        UnitName.parse("x.container"), UnitFile(content, "x.container"), {"A": "1"}, {"b": "2"}
    )
    *_, added, whole = compose(prepared, merges=False)
    assert is_ours(added.content)
    assert whole.content == extend(content, added.content)
    assert original(whole.content) == content
    assert compose(prepared)[-1].content == content
