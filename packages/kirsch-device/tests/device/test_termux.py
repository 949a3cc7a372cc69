"""Every answer of termux-location, and a command that is missing, fails, or hangs."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.deadline import eventually
from tests.process import Before

from kirsch.device import BadAnswer, Location, LocationError, NoFix, PermissionDenied, TermuxSource
from kirsch.device.termux import parse

NOW = 1_769_860_800.0
WHOLE = """{
  "latitude": 50.0899,
  "longitude": 14.4,
  "altitude": 255.5,
  "accuracy": 8.0,
  "vertical_accuracy": 3.0,
  "bearing": 90.0,
  "speed": 1.5,
  "elapsedMs": 28,
  "provider": "gps"
}
"""
LAST = WHOLE.replace("28", "600000").replace("gps", "network")
PERMISSION = (
    '{"error": "Please grant the following permission to use this command: '
    'android.permission.ACCESS_FINE_LOCATION"}\n'
)


class TestAnswers:
    def test_a_whole_one(self):
        assert parse(WHOLE.encode(), NOW) == Location(
            50.0899, 14.4, NOW - 0.028, "termux", "gps", 8.0, 255.5, 3.0, 90.0, 1.5
        )

    def test_altitude_and_bearing_may_be_missing(self):
        found = parse(b'{"latitude": 1, "longitude": 2, "altitude": null}', NOW)
        assert found == Location(1.0, 2.0, NOW, "termux")

    def test_api_error(self):
        with pytest.raises(NoFix, match=r"^termux-location: Failed to get location$"):
            parse(b'{\n  "API_ERROR": "Failed to get location"\n}\n', NOW)

    def test_permission(self):
        with pytest.raises(PermissionDenied, match="allow it in Android's settings"):
            parse(PERMISSION.encode(), NOW)
        with pytest.raises(PermissionDenied):
            parse(b'{"API_ERROR": "Missing permission"}', NOW)

    def test_nothing(self):
        with pytest.raises(NoFix, match="printed nothing: is the app Termux:API installed"):
            parse(b" \n", NOW)

    @pytest.mark.parametrize(
        ("out", "told"),
        [
            (b"Killed", "printed what is not JSON: Killed"),
            (b"\x1b[31m\xff{", r"not JSON: \?\[31m�\{"),
            (b"[1]", "printed no JSON object"),
            (b'{"latitude": 1}', "it has no longitude"),
            (b'{"latitude": 91, "longitude": 2}', "latitude is 91"),
            (b'{"latitude": NaN, "longitude": 2}', "latitude is nan"),
            (b'{"latitude": 1, "longitude": 2, "elapsedMs": "1"}', "elapsedMs is no number"),
            (b'{"latitude": 1, "longitude": 2, "elapsedMs": 1' + b"0" * 400 + b"}", "elapsedMs is larger"),
            (b'{"latitude": 1, "longitude": 2, "elapsedMs": Infinity}', "time is -inf"),
            (b"[" * 60_000, "not JSON"),
        ],
    )
    def test_what_is_no_location(self, out, told):
        with pytest.raises(BadAnswer, match=told) as refused:
            parse(out, NOW)
        assert str(refused.value).isprintable()

    @given(st.binary())
    def test_bytes_of_any_kind(self, out):
        with pytest.raises(LocationError):
            parse(out, NOW)


class TestCommand:
    def test_satellites_first(self, termux):
        termux.says({"gps once": {"out": WHOLE}})
        assert TermuxSource(termux.command).read(20).provider == "gps"
        assert termux.log == ["gps once"]

    def test_networks_then_and_at_last_where_it_was(self, termux):
        termux.says({"network last": {"out": LAST}, "*": {"out": '{"API_ERROR": "no"}'}})
        found = TermuxSource(termux.command).read(20)
        assert termux.log == ["gps once", "network once", "network last"]
        assert found.provider == "network"
        # It has not moved: that is no news.
        with pytest.raises(NoFix):
            TermuxSource(termux.command).read(20, found)

    def test_no_fix_from_any(self, termux):
        termux.says({"*": {"out": '{"API_ERROR": "Failed to get location"}'}})
        with pytest.raises(NoFix, match="Failed to get location"):
            TermuxSource(termux.command).read(20)

    def test_permission_denied_asks_nobody_else(self, termux):
        termux.says({"*": {"out": PERMISSION}})
        with pytest.raises(PermissionDenied):
            TermuxSource(termux.command).read(20)
        assert termux.log == ["gps once"]

    @pytest.mark.slow
    def test_one_that_hangs_is_killed_after_its_time_with_all_it_started(self, termux):
        before = Before()
        termux.says({"*": {"hang": True}, "network last": {"out": LAST}})
        with pytest.raises(NoFix, match=r"-p network did not answer within"):
            TermuxSource(termux.command)._ask("network", "once", 2)
        child = int(termux.log[-1].split()[1])
        eventually(lambda: not alive(child), what="the end of what it started")
        before.assert_nothing_more()

    @pytest.mark.slow
    def test_one_that_hangs_leaves_time_for_the_others(self, termux):
        termux.says({"gps once": {"hang": True}, "network once": {"out": WHOLE}})
        assert TermuxSource(termux.command).read(6).provider == "gps"
        assert [line for line in termux.log if "child" not in line] == ["gps once", "network once"]

    def test_closing_ends_one_that_hangs(self, termux):
        termux.says({"*": {"hang": True}})
        source, told = TermuxSource(termux.command), []

        def read() -> None:
            try:
                source.read(60)
            except LocationError as error:
                told.append(str(error))

        thread = threading.Thread(target=read)
        thread.start()
        eventually(lambda: "child" in termux.log[-1] if termux.log else False)
        source.close()
        thread.join(20)
        assert told == ["it has been closed"]
        with pytest.raises(LocationError, match="it has been closed"):
            source.read(1)

    def test_two_readers(self, termux):
        termux.says({"gps once": {"out": WHOLE}})
        source, found = TermuxSource(termux.command), []
        threads = [threading.Thread(target=lambda: found.append(source.read(20))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert [place.latitude for place in found] == [50.0899] * 2

    def test_one_that_fails(self, termux):
        termux.says({"*": {"err": "termux-api: not found\nmore", "status": 127}})
        with pytest.raises(LocationError, match=r"^termux-location failed: termux-api: not found$"):
            TermuxSource(termux.command).read(20)

    def test_one_that_is_not_there(self, tmp_path):
        with pytest.raises(LocationError, match=r"cannot be run \(No such file or directory\): pkg install"):
            TermuxSource(str(tmp_path / "termux-location")).read(20)

    def test_one_that_talks_without_end(self, termux):
        before = Before()
        termux.says({"*": {"out": "x" * 1_000_000}})
        with pytest.raises(BadAnswer, match="printed more than 65,536 bytes"):
            TermuxSource(termux.command).read(20)
        before.assert_nothing_more()


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
