"""The value: what can be, and how it is told."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.device import BadAnswer, Failure, Location, NoFix, PermissionDenied, Report

HERE = Location(50.0899, 14.4, 1_769_860_800.25, "sl4a", "gps", accuracy=8.0)


def test_as_json():
    assert HERE.as_json() == {
        "latitude": 50.0899,
        "longitude": 14.4,
        "accuracy": 8.0,
        "altitude": None,
        "vertical_accuracy": None,
        "bearing": None,
        "speed": None,
        "time": "2026-01-31T12:00:00.250Z",
        "source": "sl4a",
        "provider": "gps",
    }


def test_age():
    assert HERE.age(HERE.time + 3) == 3
    # The clock has been set back.
    assert HERE.age(HERE.time - 3) == 0


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("latitude", 90.001, "latitude is 90.001: it can only be from -90 to 90"),
        ("latitude", -91, "latitude is -91: it can only be from -90 to 90"),
        ("longitude", 180.5, "longitude is 180.5: it can only be from -180 to 180"),
        ("latitude", math.nan, "latitude is nan: it can only be from -90 to 90"),
        ("accuracy", -1, "accuracy is -1: it can only be 0 or more"),
        ("accuracy", math.inf, "accuracy is inf: it can only be 0 or more"),
        ("altitude", math.inf, "altitude is inf: it can only be a finite number"),
        ("bearing", 361, "bearing is 361: it can only be from 0 to 360"),
        ("speed", -0.1, "speed is -0.1: it can only be 0 or more"),
        ("vertical_accuracy", -5, "vertical_accuracy is -5: it can only be 0 or more"),
        ("time", 1e12, "time is 1e+12: it can only be from 0 to 2.53402e+11"),
    ],
)
def test_what_cannot_be_is_refused(field, value, told):
    with pytest.raises(BadAnswer) as refused:
        dataclasses.replace(HERE, **{field: value})
    assert str(refused.value) == told


@pytest.mark.parametrize("limit", [("latitude", 90), ("latitude", -90), ("longitude", 180), ("bearing", 360)])
def test_limits_can_be(limit):
    assert getattr(dataclasses.replace(HERE, **{limit[0]: limit[1]}), limit[0]) == limit[1]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "it has no latitude"),
        ({"latitude": 1}, "it has no longitude"),
        ({"latitude": "1", "longitude": 2}, "latitude is no number but '1'"),
        ({"latitude": True, "longitude": 2}, "latitude is no number but True"),
        ({"latitude": 1, "longitude": 2, "speed": []}, r"speed is no number but \[\]"),
        ({"latitude": 10**400, "longitude": 2}, "latitude is larger than any number that can be"),
    ],
)
def test_fields_that_are_none(fields, told):
    with pytest.raises(BadAnswer, match=told):
        Location.read(fields, source="termux", time=1)


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())


@given(st.dictionaries(st.sampled_from([*HERE.as_json(), "elapsedMs"]), VALUES))
def test_whatever_comes_is_a_location_or_a_bad_answer(fields):
    try:
        found = Location.read(fields, source="termux", time=1)
    except BadAnswer:
        return
    assert -90 <= found.latitude <= 90
    assert found.as_json()["source"] == "termux"


def test_a_report_tells_what_a_person_can_act_on_first():
    report = Report(
        None,
        (Failure.of("sl4a", NoFix("no sky")), Failure.of("termux", PermissionDenied("not allowed"))),
    )
    assert report.reason == "permission-denied"
    assert report.detail == "sl4a: no sky; termux: not allowed"
    assert Report().reason == "no-fix"
    assert Report().detail == "no source has answered yet"
    assert Report(HERE).as_json(HERE.time + 2) == HERE.as_json() | {"age": 2, "failures": []}
