"""Sources on the bus: updates, falling back, and coming back."""

import threading

import pytest
from cherrypy.process.wspbus import Bus
from tests.deadline import eventually
from tests.device.sl4a_stand_in import GPS, SECURITY, Sl4aStandIn, line_of
from tests.process import Before

from kirsch.bus import Backoff
from kirsch.device import FixedSource, LocationPlugin, Sl4aSource, TermuxSource, sources

QUICK = Backoff(first=0.02, factor=1, most=0.02)


@pytest.fixture
def heard():
    return {"location": [], "location-failed": [], "location-report": []}


@pytest.fixture
def run(heard):
    """A bus with the plugin on it, running."""
    buses = []

    def run_it(*sources, **options):
        bus = Bus()
        for channel, values in heard.items():
            bus.subscribe(channel, values.append)
        plugin = LocationPlugin(bus, sources, **{"interval": 0, "backoff": QUICK, **options})
        plugin.subscribe()
        bus.start()
        buses.append(bus)
        return plugin

    yield run_it
    for bus in buses:
        bus.exit()


def test_updates_go_over_the_bus(sl4a, run, heard):
    sl4a.move(gps=GPS)
    plugin = run(Sl4aSource.from_environment(sl4a.environment))
    eventually(lambda: heard["location"])
    sl4a.move(gps=GPS | {"latitude": 51, "time": GPS["time"] + 1000})
    eventually(lambda: len(heard["location"]) == 2)
    assert [place.latitude for place in heard["location"]] == [50.0899, 51]
    assert plugin.report == heard["location-report"][-1]
    assert plugin.report.location.latitude == 51


@pytest.mark.slow
def test_one_that_gives_nothing_for_its_time_falls_back_to_the_next_and_says_so(sl4a, termux, run, heard):
    termux.says({"gps once": {"out": '{"latitude": 1, "longitude": 2, "elapsedMs": 0}'}})
    plugin = run(
        Sl4aSource.from_environment(sl4a.environment), TermuxSource(termux.command), patience=3, interval=0.1
    )
    report = plugin.wait(30)
    assert report.location.source == "termux"
    assert [(failure.source, failure.reason) for failure in report.failures] == [("sl4a", "no-fix")]
    assert report.failures[0].detail.startswith("SL4A has had no location for 3 s")
    assert heard["location-failed"] == list(report.failures)


def test_a_facade_that_goes_away_and_comes_back(sl4a, run, heard):
    sl4a.move(gps=GPS)
    plugin = run(Sl4aSource.from_environment(sl4a.environment), FixedSource(1, 2))
    eventually(lambda: plugin.report.location)
    sl4a.close()
    eventually(lambda: plugin.report.location.source == "fixed")
    assert [failure.reason for failure in plugin.report.failures] == ["unavailable"]
    again = Sl4aStandIn(sl4a.port)
    sl4a.close = again.close
    again.move(gps=GPS | {"time": GPS["time"] + 1000})
    eventually(lambda: plugin.report.location.source == "sl4a")
    assert plugin.report.failures == ()
    # And once more: the other is asked anew, and answers at once.
    again.close()
    sl4a.close = lambda: None
    eventually(lambda: plugin.report.location.source == "fixed")


def test_permission_denied_is_told_apart(sl4a, run, heard):
    sl4a.answers["startLocating"] = lambda number: line_of(number, error=SECURITY)
    plugin = run(Sl4aSource.from_environment(sl4a.environment))
    eventually(lambda: heard["location-failed"])
    assert (plugin.report.location, plugin.report.reason) == (None, "permission-denied")
    # It is asked again and again, and told once.
    eventually(lambda: sl4a.called("startLocating") > 3)
    assert len(heard["location-failed"]) == 1


def test_the_last_location_stays_known_when_nobody_knows_any_more(sl4a, run):
    sl4a.move(gps=GPS)
    plugin = run(Sl4aSource.from_environment(sl4a.environment))
    eventually(lambda: plugin.report.location)
    sl4a.close()
    sl4a.close = lambda: None
    eventually(lambda: plugin.report.failures)
    assert plugin.report.location.latitude == 50.0899


def test_nobody_there(run):
    plugin = run(*sources("auto", {"PATH": ""}))
    eventually(lambda: plugin.report.failures)
    assert plugin.report.reason == "unavailable"
    assert plugin.wait(0.01).location is None


def test_two_readers_of_the_plugin(sl4a, run):
    plugin = run(Sl4aSource.from_environment(sl4a.environment))
    reports = []
    threads = [threading.Thread(target=lambda: reports.append(plugin.wait(20))) for _ in range(2)]
    for thread in threads:
        thread.start()
    sl4a.move(gps=GPS)
    for thread in threads:
        thread.join(20)
    assert [report.location.latitude for report in reports] == [50.0899] * 2


def test_a_source_with_a_fault_is_passed_over(run, heard):
    class Faulty(FixedSource):
        name = "faulty"

        def read(self, timeout, after=None):
            raise ZeroDivisionError

    plugin = run(Faulty(1, 2), FixedSource(3, 4))
    assert plugin.wait(20).location.latitude == 3
    assert [failure.detail for failure in plugin.report.failures] == ["it failed: the log says why"]


def test_a_listener_with_a_fault_ends_nothing(sl4a, run, heard):
    sl4a.move(gps=GPS)
    plugin = run(Sl4aSource.from_environment(sl4a.environment))
    plugin.bus.subscribe("location", lambda location: 1 / 0)
    eventually(lambda: heard["location"])
    sl4a.move(gps=GPS | {"time": GPS["time"] + 1000})
    eventually(lambda: len(heard["location"]) == 2)


def test_stopping_leaves_nothing(sl4a, termux):
    before = Before()
    termux.says({"*": {"hang": True}})
    bus = Bus()
    plugin = LocationPlugin(
        bus, [Sl4aSource("127.0.0.1", sl4a.port, "wrong"), TermuxSource(termux.command)], backoff=QUICK
    )
    plugin.subscribe()
    bus.start()
    eventually(lambda: any("child" in line for line in termux.log))
    bus.exit()
    sl4a.close()
    sl4a.close = lambda: None
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("location")]
    assert not [more for more in before.more() if isinstance(more, threading.Thread)]
