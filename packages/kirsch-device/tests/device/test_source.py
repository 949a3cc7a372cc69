"""Which sources there are, and those that are told where they are."""

import json
import threading

import pytest

from kirsch.device import FixedSource, LocationError, RecordedSource, SourceError, sources


def names(*arguments, **environment):
    return [source.name for source in sources(*arguments, environment={"PATH": "", **environment})]


class TestChoice:
    def test_what_is_there(self, termux):
        sl4a = {"AP_PORT": "4711", "AP_HANDSHAKE": "x"}
        assert names("auto", **sl4a) == ["sl4a"]
        assert names("auto", PATH=str(termux.folder)) == ["termux"]
        assert names("auto", PATH=str(termux.folder), **sl4a) == ["sl4a", "termux"]
        assert names("", **sl4a) == names(**sl4a)

    def test_nothing_is_there(self):
        source = sources("auto", {"PATH": ""})[0]
        with pytest.raises(LocationError, match=r"neither SL4A .* nor termux-location"):
            source.read(1)

    def test_by_name_in_order(self):
        assert names("termux fixed:1,2") == ["termux", "fixed"]
        assert names(" fixed:-1.5,2,300  termux ") == ["fixed", "termux"]

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            ("gps", "there is no source 'gps': there are auto, sl4a, termux, fixed:"),
            ("fixed", "fixed: is not fixed:LATITUDE,LONGITUDE"),
            ("fixed:1", "fixed:1 is not fixed:LATITUDE,LONGITUDE"),
            ("fixed:1,2,3,4", "is not fixed:LATITUDE,LONGITUDE"),
            ("fixed:a,b", "is not fixed:LATITUDE,LONGITUDE"),
            ("fixed:91,2", "fixed:91,2: latitude is 91: it can only be from -90 to 90"),
            ("fixed:nan,2", "latitude is nan"),
            ("termux:gps", "the source termux takes no argument, not 'gps'"),
            ("sl4a", "AP_PORT is not set: start this from SL4A"),
            ("fixed:1,2 fixed:3,4", "the source fixed is named twice"),
            ("recorded:", "Is a directory"),
            ("recorded:/no/such", "recorded:/no/such: No such file or directory"),
        ],
    )
    def test_what_is_none(self, given, told):
        with pytest.raises(SourceError) as refused:
            sources(given, {"PATH": ""})
        assert told in str(refused.value)
        assert "\n" not in str(refused.value)


class TestFixed:
    def test_it_stays(self):
        source = FixedSource(1, 2, 300)
        first = source.read(5)
        again = source.read(0.01, first)
        assert (first.latitude, first.longitude, first.altitude, first.source) == (1, 2, 300, "fixed")
        assert again.time > first.time

    def test_closing_ends_a_wait(self):
        source, told = FixedSource(1, 2), []
        first = source.read(5)

        def read() -> None:
            try:
                source.read(60, first)
            except LocationError as error:
                told.append(str(error))

        thread = threading.Thread(target=read)
        thread.start()
        source.close()
        thread.join(20)
        assert told == ["it has been closed"]


class TestRecorded:
    def recorded(self, tmp_path, *places):
        file = tmp_path / "way.jsonl"
        file.write_text("\n".join(json.dumps(place) for place in places) + "\n")
        return RecordedSource.load(str(file))

    def test_a_way_is_walked_over_and_over(self, tmp_path):
        source = self.recorded(
            tmp_path,
            {"latitude": 1, "longitude": 2, "time": "2026-01-31T12:00:00Z"},
            {"latitude": 3, "longitude": 4, "time": "2026-01-31T12:00:00.050Z"},
        )
        walked = [source.read(20)]
        for _ in range(3):
            walked.append(source.read(20, walked[-1]))
        seen = [place.latitude for place in walked]
        assert seen in ([1, 3, 1, 3], [3, 1, 3, 1])
        assert [place.time for place in walked] == sorted({place.time for place in walked})
        source.close()

    def test_while_it_rests_the_same_is_told_anew(self, tmp_path):
        source = self.recorded(
            tmp_path,
            {"latitude": 1, "longitude": 2, "time": "2026-01-31T12:00:00Z"},
            {"latitude": 3, "longitude": 4, "time": "2026-01-31T13:00:00Z"},
        )
        first = source.read(5)
        assert source.read(0.01, first).latitude == 1
        source.close()
        with pytest.raises(LocationError, match="closed"):
            source.read(5)

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("", "it is empty"),
            ("{}", "line 1 is not an object such as"),
            ("[]", "line 1 is not an object such as"),
            ('{"latitude": 1, "longitude": 2, "time": "noon"}', "line 1 is not an object such as"),
            ('{"latitude": 91, "longitude": 2, "time": "2026-01-31T12:00:00Z"}', "latitude is 91"),
            (
                '{"latitude": 1, "longitude": 2, "time": "2026-01-31T12:00:00Z"}\n' * 2,
                "line 2 is not later than the one before",
            ),
            ("\n" * 10_000 + "{}", "it has more than 10,000 lines"),
        ],
    )
    def test_what_is_no_recording(self, tmp_path, text, told):
        file = tmp_path / "way.jsonl"
        file.write_text(text)
        with pytest.raises(SourceError) as refused:
            RecordedSource.load(str(file))
        assert told in str(refused.value)
        assert "\n" not in str(refused.value)

    def test_one_that_is_no_text(self, tmp_path):
        (tmp_path / "x").write_bytes(b"\xff")
        with pytest.raises(SourceError, match="not UTF-8"):
            RecordedSource.load(str(tmp_path / "x"))
