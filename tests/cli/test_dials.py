"""The screen of `kirsch top`: what is on it, and what keys do."""

from typing import Any

import pytest

from kirsch.cli.dials import Picture, View, duration, layout, page, press, rows, size, sparkline


def line(name: str, machine: str, **changes: Any) -> dict[str, Any]:
    given = {"active": "active", "sub": "running", "ready": True, "restarts": 0}
    return {"name": name, "machine": machine, **given, **changes}


def unit(name: str, cpu: float | None, memory: int | None = 50 << 20) -> dict[str, Any]:
    return {"name": name, "cpu": [cpu], "memory": [memory], "peak": memory, "restarts": 0, "readySince": 40.0}


def machine(id: str, at: float, *units: dict[str, Any]) -> dict[str, Any]:
    return {
        "machine": id,
        "interval": 5.0,
        "times": [at],
        "cores": 2.0,
        "memorySize": 4 << 30,
        "cpu": [0.5],
        "memory": [1 << 30],
        "units": list(units),
    }


@pytest.fixture
def picture() -> Picture:
    found = Picture({"a" * 32: "n1", "b" * 32: "n2"})
    first, second = "a" * 32, "b" * 32
    found.take(
        {
            "units": [
                line("notes@1.container", first),
                line("notes@2.container", second, restarts=3),
                line("webdb.container", first, active="failed", sub="failed", ready=False),
                line("template@.container", ""),
            ],
            "left": [],
            "figures": machine(
                first, 100.0, unit("notes@1.container", 0.125), unit("webdb.container", None, None)
            ),
        }
    )
    found.measure(machine(second, 101.0, unit("notes@2.container", 0.5, 20 << 20)))
    return found


def text(picture: Picture, view: View, width: int = 80, height: int = 24) -> list[str]:
    lines = ["".join(part for part, _ in each) for each in layout(picture, view, width, height)]
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    return [each.rstrip() for each in lines]


def names(picture: Picture, view: View) -> list[str]:
    return [name.removesuffix(".container") for name, _ in rows(picture, view)]


def test_machines_and_units_are_on_a_screen_of_80_by_24(picture: Picture) -> None:
    shown = text(picture, View())
    assert shown[0] == "kirsch top  2 machines, 3 units, 2 ready"
    assert shown[1].startswith("n1 CPU[||")
    assert "25%] Mem[||" in shown[1]
    assert "1.0G/4.0G]" in shown[1]
    assert shown[4].split() == ["UNIT", "MACHINE", "STATE", "CPU%", "MEM", "PEAK", "RESTARTS", "READY"]
    assert shown[5].split()[:8] == ["notes@2.container", "n2", "running", "50.0", "20M", "20M", "3", "1m"]
    assert shown[6].split()[:5] == ["notes@1.container", "n1", "running", "12.5", "50M"]
    assert shown[7].split()[:4] == ["webdb.container", "n1", "failed", "-"]
    assert shown[-1].startswith("F1 Help  F4 Filter  F6 Sort: cpu")
    assert len(shown) == 24


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 10), (20, 4), (200, 60), (1, 1)])
def test_no_screen_is_too_small(picture: Picture, width: int, height: int) -> None:
    for view in (View(), View(help=True), View(typing=True), View(unit=("a", "b"), status=("x" * 300,) * 9)):
        text(picture, view, width, height)


def test_many_machines_leave_room_for_units(picture: Picture) -> None:
    for number in range(30):
        picture.measure(machine(f"{number:032}", 101.0))
    shown = text(picture, View())
    assert any(each.startswith("and ") and each.endswith(" more") for each in shown)
    assert any(each.startswith("notes@2") for each in shown)


@pytest.mark.parametrize(
    ("sort", "first"),
    [("cpu", "notes@2"), ("memory", "notes@1"), ("restarts", "notes@2"), ("unit", "notes@1")],
)
def test_units_are_sorted(picture: Picture, sort: str, first: str) -> None:
    assert names(picture, View(sort=sort))[0] == first


def test_a_filter_is_typed_and_cleared(picture: Picture) -> None:
    view: View | None = View()
    for key in ("f4", "N", "2"):
        view = press(view, key, rows(picture, view), 10)
        assert view is not None
    assert names(picture, view) == ["notes@2"]  # by its machine
    assert text(picture, view)[-1] == "Filter: N2█"
    view = press(view, "enter", rows(picture, view), 10)
    assert view == View(pattern="N2")
    assert press(view, "esc", rows(picture, view), 10) == View()


def test_selection_stays_among_the_units(picture: Picture) -> None:
    keys = rows(picture, View())
    assert press(View(), "up", keys, 10) == View()
    assert press(View(), "pgdn", keys, 10) == View(selected=2)
    assert press(View(selected=2), "home", keys, 10) == View()
    assert press(View(), "down", [], 10) == View()


def test_a_selection_far_down_is_on_the_screen(picture: Picture) -> None:
    for number in range(100):
        picture.take({"units": [line(f"z{number:03}.service", "a" * 32)], "left": []})
    view = View(sort="unit", selected=len(rows(picture, View())) - 1)
    assert any("z099.service" in each for each in text(picture, view))
    assert page(picture, 24) == 18


def test_enter_shows_a_unit_and_escape_leaves_it(picture: Picture) -> None:
    view = press(View(), "enter", rows(picture, View()), 10)
    assert view is not None
    assert view.unit == ("notes@2.container", "b" * 32)
    shown = View(unit=view.unit, status=("● notes@2",), journal=tuple(f"line {n}" for n in range(50)))
    lines = text(picture, shown)
    assert (lines[0], lines[-2], lines[-1]) == ("● notes@2", "line 49", "Esc Back")
    assert press(shown, "esc", [], 10) == View()
    assert press(shown, "down", [], 10) == shown


@pytest.mark.parametrize("key", ["q", "f10"])
def test_the_end(key: str) -> None:
    assert press(View(), key, [], 10) is None
    assert press(View(help=True), key, [], 10) == View()
    assert press(View(), "f6", [], 10) == View(sort="memory")
    assert press(View(), "R", [], 10) == View(sort="restarts")


def test_what_left_is_gone(picture: Picture) -> None:
    picture.take({"units": [{"name": "webdb.container", "gone": True}], "left": []})
    picture.take({"units": [], "left": [{"name": "notes@2.container", "machine": "b" * 32}]})
    assert names(picture, View()) == ["notes@1"]
    # A stream that was opened again begins with all units.
    picture.take({"units": [line("till.service", "b" * 32)], "left": []}, whole=True)
    assert names(picture, View()) == ["till.service"]


def test_a_machine_that_sends_no_samples_is_gone(picture: Picture) -> None:
    picture.measure(machine("a" * 32, 200.0))
    assert [picture.name(id) for id in picture.present()] == ["n1"]


def test_a_sample_is_taken_once(picture: Picture) -> None:
    key = ("notes@2.container", "b" * 32)
    picture.measure(machine("b" * 32, 101.0, unit("notes@2.container", 0.9)))
    assert list(picture.past[key]) == [0.5]


def test_sparklines_end_with_the_last_value() -> None:
    assert sparkline([0, 0.5, 1.0], 5) == "  ▁▅█"
    assert sparkline([None, 0.001], 2) == " ▁"
    assert sparkline([1.0] * 9, 3, high=2.0) == "▅▅▅"
    assert sparkline([1.0], 0) == ""


@pytest.mark.parametrize(
    ("number", "shown"),
    [(None, "-"), (0, "0B"), (999, "999B"), (1000, "1.0K"), (50 << 20, "50M"), (3 << 40, "3.0T")],
)
def test_sizes(number: int | None, shown: str) -> None:
    assert size(number) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-1, "0s"), (59, "59s"), (60, "1m"), (3661, "1h01"), (36000, "10h"), (200000, "2d")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
