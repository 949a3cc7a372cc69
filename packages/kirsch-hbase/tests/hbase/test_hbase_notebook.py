"""The notebook of the example: a time series that is ingested, rolled up and drawn."""

import json
from pathlib import Path
from typing import Any

import pytest

from kirsch.hbase import DOUBLE, LONG, UTF8, composite

pytest.importorskip("pandas", reason="kirsch-hbase[frames] is not installed")
pytestmark = pytest.mark.services
NOTEBOOK = Path(__file__).parents[4] / "examples/hbase/weather.ipynb"


def test_it_runs(hbase, connection, tmp_path, monkeypatch):
    monkeypatch.setenv("HBASE", hbase.quorum)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    for number, cell in enumerate(json.loads(NOTEBOOK.read_text())["cells"]):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"weather.ipynb, cell {number}", "exec"), scope)
    values = {"v:readings": LONG, "": DOUBLE}
    hours = connection.table("weather_hours", key=composite(UTF8, LONG), value=values)
    assert connection.table("weather").count() == 3 * 7 * 24 * 6
    assert hours.count() == 3 * 7 * 24
    for row in hours.scan(prefix=("vardø",)):
        assert row["v:readings"] == 6
        assert row["v:min"] <= row["v:mean"] <= row["v:max"]
    assert (tmp_path / "weather.png").read_bytes().startswith(b"\x89PNG")
