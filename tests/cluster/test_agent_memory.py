"""What an agent knows after a restart: marks beside its units, sticky units in a file, what it said."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kirsch.cluster.agent.adoption import adopted, ending, mark
from kirsch.cluster.agent.cache import Cache, Cached, dump, parse
from kirsch.cluster.agent.plan import Assigned
from kirsch.cluster.agent.readiness import Condition
from kirsch.cluster.agent.report import Report, unit_state
from kirsch.cluster.model import Assignment, Endpoint, Machine, UnitState
from kirsch.cluster.runtime.base import Prepared, RuntimeState
from kirsch.unit import Options, UnitFile, UnitName

DB = UnitName.parse("db.service")
FILE = UnitFile.parse("[Service]\nExecStart=/bin/x\n[X-Kirsch]\nSticky=yes\nExpose=5432\n", "db.service")
OPTIONS = Options.parse(FILE, DB)
LAUNCHED = Assignment(FILE.hash, "launched", 3)
ENVIRONMENT = {"KIRSCH_UNIT": "db.service", "PASSWORD": "é"}
PREPARED = Prepared(DB, FILE, ENVIRONMENT, hosts={"cache": "10.0.0.3"}, dns="10.210.0.1")
CACHED = {DB: Cached(PREPARED, LAUNCHED, {"cache.service/-": "10.0.0.3"})}


def test_a_mark_says_what_a_unit_was_started_for_and_what_it_does_when_cut_off():
    stops = Options(on_partition="stop")
    linked = {"webdb.service/-": "10.0.0.2"}
    (unit,) = adopted({DB: RuntimeState(active="active", mark=mark(LAUNCHED, stops, linked))}).values()
    assert (unit.assignment, unit.options.on_partition, unit.linked) == (LAUNCHED, "stop", linked)


@pytest.mark.parametrize("active", ["active", "deactivating"])
def test_what_still_has_to_stop_was_started_for_no_order(active: str):
    state = RuntimeState(active=active, mark=ending(LAUNCHED, Options(), {}))
    assert adopted({DB: state})[DB].assignment == replace(LAUNCHED, order=-1)


@pytest.mark.parametrize("active", ["inactive", "failed"])
def test_what_has_stopped_was_not_started(active: str):
    assert adopted({DB: RuntimeState(active=active, mark=ending(LAUNCHED, Options(), {}))}) == {}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"assignment":{"hash":1},"on_partition":"stop"}', "null"]
)
def test_a_mark_that_is_none_adopts_nothing(text: str):
    assert adopted({DB: RuntimeState(active="active", mark=text)}) == {}


def test_what_is_cached_comes_back_as_it_was(tmp_path: Path):
    cache = Cache(tmp_path / "units.json")
    assert cache.units == {}
    cache.keep(CACHED)
    again = Cache(tmp_path / "units.json").units
    assert again[DB].assignment == LAUNCHED
    assert again[DB].prepared.file.text == FILE.text
    assert again[DB].prepared.environment == ENVIRONMENT
    assert again[DB].prepared.dns == PREPARED.dns
    assert (again[DB].prepared.hosts, again[DB].linked) == (PREPARED.hosts, CACHED[DB].linked)
    assert again[DB].assigned.options.sticky
    assert (tmp_path / "units.json").stat().st_mode & 0o777 == 0o600


def test_the_file_is_written_where_its_text_changes_and_only_there(tmp_path: Path):
    path = tmp_path / "units.json"
    cache = Cache(path)
    cache.keep(CACHED)
    path.unlink()
    cache.keep(CACHED)
    assert not path.exists()
    cache.keep({})
    assert json.loads(path.read_text()) == {}


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"db.service":{}}', '{"db":{"text":""}}', "\udcff"])
def test_a_torn_file_is_no_units_and_is_replaced(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "units.json"
    path.write_text(text, errors="surrogateescape")
    cache = Cache(path)
    assert cache.units == {}
    assert "no unit is started from it" in caplog.text
    cache.keep(CACHED)
    assert parse(path.read_text()).keys() == {DB}


def test_a_folder_that_is_not_there_is_said_once_and_harms_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    cache = Cache(tmp_path / "none" / "units.json")
    cache.keep(CACHED)
    assert "cannot be written: No such file or directory" in caplog.text
    assert cache.units == CACHED


def test_without_a_path_nothing_is_kept():
    cache = Cache(None)
    cache.keep(CACHED)
    assert (cache.units, Cache(None).units) == (CACHED, {})


def test_dump_is_the_same_text_for_the_same_units():
    assert dump(CACHED) == dump(parse(dump(CACHED)))


def test_a_report_says_states_endpoints_and_last_the_machine():
    report = Report(Machine("m1", "10.0.0.1"))
    assigned = Assigned(FILE, OPTIONS, LAUNCHED)
    for ready in (False, True):
        report.begin()
        report.state(DB, UnitState("loaded", "active", "running", FILE.hash))
        report.endpoint(DB, assigned, "10.0.0.1", Condition(ready))
        said = report.end()
        assert list(said) == [
            "/kirsch/v1/states/db.service/m1",
            "/kirsch/v1/endpoints/db/db.service/-",
            "/kirsch/v1/machines/m1",
        ]
        endpoint = Endpoint.parse(said["/kirsch/v1/endpoints/db/db.service/-"])
        assert (endpoint.ready, endpoint.ports[0].number) == (ready, 5432)


def test_a_units_state_is_for_the_order_it_was_started_for_and_says_what_holds_it():
    runs = RuntimeState(active="active", sub="running", hash=FILE.hash, message="ok")
    assert unit_state(runs, LAUNCHED, "", "").order == 3
    assert unit_state(runs, None, "", "").order == -1
    assert unit_state(runs, None, "waits for db to be ready", "").message == "waits for db to be ready"
    failed = unit_state(RuntimeState(), LAUNCHED, "", "port 80 is in use")
    assert (failed.active, failed.result, failed.message) == ("failed", "resources", "port 80 is in use")
