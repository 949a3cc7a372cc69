"""SL4A's protocol, each message split at every byte, and its server being late, wrong, away and back."""

import contextlib
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.deadline import eventually
from tests.device.sl4a_stand_in import GPS, HANDSHAKE, SECURITY, Sl4aStandIn, line_of
from tests.port import free_port
from tests.process import Before

from kirsch.device import BadAnswer, Location, LocationError, NoFix, PermissionDenied, Sl4aSource, SourceError
from kirsch.device.facade import Facade, Late
from kirsch.device.rpc import Answer, Answers, request
from kirsch.device.sl4a import newest

NETWORK = GPS | {"provider": "network", "accuracy": 900.0}
# One of each that there is.
MESSAGES = {
    "authenticated": (line_of(1, result=True), Answer(1, True)),
    "refused": (line_of(1, error="java.lang.X: x"), Answer(1, None, "java.lang.X: x")),
    "started": (line_of(2), Answer(2, None)),
    "location": (line_of(3, result={"gps": GPS}), Answer(3, {"gps": GPS})),
    "nothing": (line_of(4, result={}), Answer(4, {})),
    "event": (
        line_of(5, result={"name": "location", "data": {"gps": GPS}, "time": 1}),
        Answer(5, {"name": "location", "data": {"gps": GPS}, "time": 1}),
    ),
    "no event": (line_of(6), Answer(6, None)),
    "last": (line_of(7, result={"network": NETWORK}), Answer(7, {"network": NETWORK})),
    "unicode": ('{"id": 8, "error": null, "result": "Приве🍒"}\n'.encode(), Answer(8, "Приве🍒")),
}


class TestProtocol:
    def test_a_request(self):
        assert request(7, "eventWaitFor", "location", 2000) == (
            b'{"id": 7, "method": "eventWaitFor", "params": ["location", 2000]}\n'
        )

    @pytest.mark.parametrize("name", MESSAGES)
    def test_each_message_split_at_every_byte(self, name):
        line, meant = MESSAGES[name]
        for at in range(len(line) + 1):
            answers = Answers()
            assert answers.feed(line[:at]) + answers.feed(line[at:]) == [meant], at

    def test_many_in_one(self):
        all_of_them = b"".join(line for line, _ in MESSAGES.values())
        assert Answers().feed(all_of_them) == [meant for _, meant in MESSAGES.values()]

    @given(st.lists(st.integers(1, 40)))
    def test_in_pieces_of_any_size(self, sizes):
        rest = b"".join(line for line, _ in MESSAGES.values())
        answers, found = Answers(), []
        for size in [*sizes, len(rest)]:
            found += answers.feed(rest[:size])
            rest = rest[size:]
        assert found == [meant for _, meant in MESSAGES.values()]

    @pytest.mark.parametrize(
        "line",
        [
            b"<html>",
            b"{",
            b"[]",
            b"null",
            b'{"result": 1}',
            b'{"id": "1"}',
            b'{"id": true}',
            b"\xff",
            b"[" * 9000,
        ],
    )
    def test_what_is_no_answer(self, line):
        with pytest.raises(BadAnswer) as refused:
            Answers().feed(line + b"\n")
        assert "\n" not in str(refused.value)

    def test_an_answer_without_end(self):
        answers = Answers()
        for _ in range(16):
            assert answers.feed(b"x" * 65536) == []
        with pytest.raises(BadAnswer, match="1,048,576 bytes"):
            answers.feed(b"x")

    @given(st.binary())
    def test_bytes_of_any_kind(self, data):
        with contextlib.suppress(BadAnswer):
            assert all(isinstance(answer, Answer) for answer in Answers().feed(data + b"\n"))


class TestNewest:
    def test_the_newest_and_of_those_the_most_accurate(self):
        later = NETWORK | {"time": GPS["time"] + 1}
        assert newest({"gps": GPS, "network": NETWORK}).provider == "gps"
        assert newest({"gps": GPS, "network": later}).provider == "network"
        assert newest({"gps": None, "network": NETWORK}).accuracy == 900
        assert newest({}) is newest(None) is newest({"gps": None}) is None

    def test_altitude_and_bearing_may_be_missing(self):
        fields = {name: value for name, value in GPS.items() if name not in ("altitude", "bearing")}
        found = newest({"gps": fields})
        assert (found.altitude, found.bearing, found.speed) == (None, None, 1.5)
        assert found.time == GPS["time"] / 1000

    @pytest.mark.parametrize(
        "result",
        [
            3,
            [],
            {"gps": 3},
            {"gps": {}},
            {"gps": GPS | {"time": "now"}},
            {"gps": GPS | {"time": None}},
            {"gps": GPS | {"time": 10**400}},
            {"gps": GPS | {"latitude": 91}},
        ],
    )
    def test_what_is_no_location(self, result):
        with pytest.raises(BadAnswer):
            newest(result)


@pytest.fixture
def source(sl4a):
    source = Sl4aSource.from_environment(sl4a.environment)
    yield source
    source.close()


class TestSource:
    def test_a_location(self, sl4a, source):
        sl4a.move(gps=GPS)
        found = source.read(5)
        assert found == Location(
            50.0899, 14.4, GPS["time"] / 1000, "sl4a", "gps", 8.0, 255.5, None, 90.0, 1.5
        )
        assert sl4a.calls[:3] == [
            ("_authenticate", [HANDSHAKE]),
            ("startLocating", [1000, 0]),
            ("readLocation", []),
        ]

    @pytest.mark.parametrize("piece", [1, 2, 3, 7])
    def test_the_wire_in_pieces(self, piece):
        with Sl4aStandIn(piece=piece) as sl4a:
            sl4a.move(gps=GPS)
            source = Sl4aSource.from_environment(sl4a.environment)
            assert source.read(5).provider == "gps"
            source.close()

    def test_it_waits_for_another(self, sl4a, source):
        sl4a.move(gps=GPS)
        first = source.read(5)
        moved = GPS | {"time": GPS["time"] + 1000, "latitude": 50.1}
        threading.Timer(0.05, sl4a.move, kwargs={"gps": moved}).start()
        assert source.read(20, first).latitude == 50.1

    def test_nothing_for_its_time_is_no_fix(self, sl4a, source):
        with pytest.raises(NoFix, match=r"no location for 0.1 s"):
            source.read(0.1)
        assert sl4a.called("getLastKnownLocation") == 1

    def test_where_it_was_last_is_better_than_nothing(self, sl4a, source):
        sl4a.last = {"network": NETWORK}
        assert source.read(0.05).provider == "network"
        # Nothing that was told is told again as news.
        with pytest.raises(NoFix):
            source.read(0.05, source.read(0.05))

    def test_two_readers(self, sl4a, source):
        found, places = [], []

        def read() -> None:
            first = source.read(20)
            found.append(first)
            places.append(source.read(20, first))

        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        sl4a.move(gps=GPS)
        eventually(lambda: len(found) == 2)
        sl4a.move(gps=GPS | {"time": GPS["time"] + 1})
        for thread in threads:
            thread.join(20)
        assert [place.time for place in found] == [GPS["time"] / 1000] * 2
        assert [place.time for place in places] == [GPS["time"] / 1000 + 0.001] * 2
        assert sl4a.called("_authenticate") == sl4a.called("startLocating") == 1

    def test_permission_denied(self, sl4a, source):
        sl4a.answers["startLocating"] = lambda number: line_of(number, error=SECURITY)
        with pytest.raises(PermissionDenied, match="allow it in Android's settings"):
            source.read(5)
        # Allowed in the meantime.
        del sl4a.answers["startLocating"]
        sl4a.move(gps=GPS)
        assert source.read(5).provider == "gps"

    def test_another_error(self, sl4a, source):
        sl4a.answers["readLocation"] = lambda number: line_of(number, error="java.lang.Null\nat x")
        with pytest.raises(LocationError, match=r"^SL4A's readLocation failed: java.lang.Null$") as told:
            source.read(5)
        assert told.value.reason == "unavailable"

    def test_an_answer_that_is_not_json(self, sl4a, source):
        sl4a.answers["readLocation"] = lambda number: b"Segmentation fault\n"
        with pytest.raises(BadAnswer, match="not JSON: Segmentation fault"):
            source.read(5)
        # The connection was given up; the next one is good.
        del sl4a.answers["readLocation"]
        sl4a.move(gps=GPS)
        assert source.read(5).provider == "gps"
        assert sl4a.called("_authenticate") == 2

    def test_a_latitude_that_cannot_be(self, sl4a, source):
        sl4a.move(gps=GPS | {"latitude": 91})
        with pytest.raises(BadAnswer, match="latitude is 91"):
            source.read(5)

    def test_it_goes_away_and_comes_back(self, sl4a):
        source = Sl4aSource.from_environment(sl4a.environment)
        sl4a.move(gps=GPS)
        source.read(5)
        sl4a.close()
        with pytest.raises(LocationError, match="SL4A has gone"):
            source.read(5)
        with pytest.raises(LocationError, match=r"does not answer at 127\.0\.0\.1:\d+: Connection refused"):
            source.read(5)
        with Sl4aStandIn(sl4a.port) as again:
            again.move(gps=GPS)
            assert source.read(5).provider == "gps"
            source.close()
            assert again.called("stopLocating") == 1
        # The fixture closes what is closed.
        sl4a.close = lambda: None

    def test_closing_ends_a_wait(self, sl4a, source):
        told: list[LocationError] = []

        def read() -> None:
            try:
                source.read(60)
            except LocationError as error:
                told.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        eventually(lambda: sl4a.called("eventWaitFor"))
        source.close()
        thread.join(20)
        assert [str(error) for error in told] == ["it has been closed"]
        assert sl4a.called("stopLocating") == 1
        with pytest.raises(LocationError, match="it has been closed"):
            source.read(1)

    def test_closing_while_it_connects_stops_what_was_started(self, sl4a, source):
        def closing(number: int) -> bytes:
            source.close()
            return line_of(number)

        sl4a.answers["startLocating"] = closing
        with pytest.raises(LocationError, match="it has been closed"):
            source.read(5)
        assert sl4a.called("stopLocating") == 1

    def test_nothing_is_left(self):
        before = Before()
        with Sl4aStandIn() as sl4a:
            sl4a.move(gps=GPS)
            source = Sl4aSource.from_environment(sl4a.environment)
            source.read(5)
            source.close()
        before.assert_nothing_more()


class TestHandshake:
    def test_there_is_none(self, sl4a):
        source = Sl4aSource.from_environment(sl4a.environment | {"AP_HANDSHAKE": ""})
        with pytest.raises(LocationError, match="AP_HANDSHAKE is not set: start this from SL4A"):
            source.read(1)
        assert sl4a.calls == []

    def test_a_wrong_one(self, sl4a):
        source = Sl4aSource("127.0.0.1", sl4a.port, "guess")
        with pytest.raises(LocationError, match="AP_HANDSHAKE is not the one") as told:
            source.read(1)
        # Nobody is asked to allow something in Android's settings.
        assert told.value.reason == "unavailable"

    def test_a_server_that_is_another(self, sl4a):
        sl4a.answers["_authenticate"] = lambda number: b"HTTP/1.1 400 Bad Request\r\n\r\n"
        with pytest.raises(LocationError, match="does not take the handshake: an answer is not JSON"):
            Facade.connect("127.0.0.1", sl4a.port, HANDSHAKE)

    def test_a_server_that_hangs_up(self, sl4a):
        sl4a.answers["_authenticate"] = lambda number: sl4a.cut()
        with pytest.raises(LocationError, match="SL4A has gone: it closed the connection"):
            Facade.connect("127.0.0.1", sl4a.port, HANDSHAKE)

    def test_a_server_that_says_nothing(self, sl4a):
        sl4a.answers["_authenticate"] = lambda number: None
        with pytest.raises(LocationError, match=r"did not answer _authenticate within 0.1 s"):
            Facade.connect("127.0.0.1", sl4a.port, HANDSHAKE, timeout=0.1)

    @pytest.mark.parametrize("port", ["0", "65536", "x", "-1", "8080 "])
    def test_a_port_that_is_none(self, port):
        with pytest.raises(SourceError, match="a port is a number from 1 to 65535"):
            Sl4aSource.from_environment({"AP_PORT": port})

    def test_a_host_that_is_none(self):
        with pytest.raises(LocationError, match=r"does not answer at a\.\.b:1: "):
            Facade.connect("a..b", 1, HANDSHAKE)

    def test_nobody_there(self):
        with pytest.raises(LocationError, match="Connection refused"):
            Facade.connect("127.0.0.1", free_port(), HANDSHAKE)


class TestLate:
    def test_a_late_answer_is_not_taken_for_the_next(self, sl4a):
        facade = Facade.connect("127.0.0.1", sl4a.port, HANDSHAKE)
        kept: list[int] = []
        sl4a.answers["readLocation"] = kept.append
        with pytest.raises(Late, match="did not answer readLocation"):
            facade.call("readLocation", timeout=0.05)
        # Both come now.
        sl4a.answers["getLastKnownLocation"] = lambda number: (
            line_of(kept[0], result="the late one") + line_of(number, result="this one")
        )
        assert facade.call("getLastKnownLocation", timeout=5) == "this one"
        facade.close()

    def test_half_an_answer_is_not_lost(self, sl4a):
        facade = Facade.connect("127.0.0.1", sl4a.port, HANDSHAKE)
        kept: list[bytes] = []

        def half(number: int) -> bytes:
            line = line_of(number, result="late")
            kept.append(line[9:])
            return line[:9]

        sl4a.answers["readLocation"] = half
        with pytest.raises(Late):
            facade.call("readLocation", timeout=0.05)
        sl4a.answers["getLastKnownLocation"] = lambda number: kept[0] + line_of(number, result="this one")
        assert facade.call("getLastKnownLocation", timeout=5) == "this one"
        facade.close()

    def test_an_answer_to_what_was_not_asked(self, sl4a):
        facade = Facade.connect("127.0.0.1", sl4a.port, HANDSHAKE)
        sl4a.answers["readLocation"] = lambda number: line_of(number + 5)
        with pytest.raises(BadAnswer, match="answers call 7, which was not made"):
            facade.call("readLocation", timeout=5)
        facade.close()
