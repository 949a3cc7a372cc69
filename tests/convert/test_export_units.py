"""The units of a running application written as one."""

from pathlib import Path

import pytest
from tests.cli.application import Application

from kirsch.cluster.application import load


@pytest.fixture
def application(tmp_path: Path):
    made = Application(tmp_path)
    yield made
    made.close()


@pytest.mark.slow
def test_units_that_run_become_an_application_again(application: Application):
    application.sleeper("a.service")
    application.sleeper("t@.service", "Link=a")
    (application.directory / "kirsch.toml").write_text('start = ["a", "t@1", "t@2"]\n')
    application.ok("up", "-d")
    application.ok("stop", "t@2")
    application.ok("export", "units", "-o", "saved")
    saved = load(application.directory / "saved")
    assert saved.start == ("a.service", "t@1.service")
    assert sorted(saved.units) == ["a.service", "t@.service"]
    for name, text in saved.units.items():
        assert text == (application.directory / "units" / name).read_text()
