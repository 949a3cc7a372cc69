"""The Python that units of `kirsch up` run with: the application's own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.application import KIRSCH, Application

from kirsch.cluster.runtime.host import virtual_environment

UNIT = """
    [Service]
    ExecStart={python} -c "import sys, time; print('prefix', sys.prefix, flush=True); time.sleep(1000)"
"""


def make_environment(folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=60)
    return folder


def prefix(application: Application, unit: str) -> str:
    """The prefix that a unit's Python prints."""
    text = application.ok("journal", "-n", "50", unit)
    return re.findall(r"prefix (\S+)", text)[-1]


@pytest.mark.parametrize("python", ["python", ".venv/bin/python"])
def test_a_folder_with_an_environment_has_its_python(application: Application, python: str):
    own = make_environment(application.directory / ".venv")
    application.unit("a.service", UNIT.format(python=python))
    application.ok("up", "-d")
    assert prefix(application, "a") == str(own)
    pid = application.units()["a.service"]["pid"]
    assert f"Main PID: {pid} ({own}/bin/python)" in application.ok("status", "a")
    assert application.ok("why", "a") == f"a.service: it is as people want it; it runs {own}/bin/python\n"


def test_an_environment_that_is_active_is_used_where_the_folder_has_none(
    application: Application, tmp_path: Path
):
    active = make_environment(tmp_path / "active")
    application.unit("a.service", UNIT.format(python="python"))
    done = subprocess.run(
        [*KIRSCH, "up", "-d"],
        cwd=application.directory,
        env=os.environ | {"VIRTUAL_ENV": str(active)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert prefix(application, "a") == str(active)


def test_without_any_it_is_kirschs_own(application: Application):
    application.unit("a.service", UNIT.format(python="python"))
    application.ok("up", "-d")
    assert prefix(application, "a") == sys.prefix


@pytest.mark.slow
def test_one_that_a_lock_is_for_and_that_was_not_made_is_told_of(application: Application, monkeypatch):
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    application.sleeper("a.service")
    (application.directory / "uv.lock").touch()
    assert "kirsch's own Python runs it until `uv sync` makes its own" in application.run("up", "-d").stderr
    application.ok("down")
    make_environment(application.directory / ".venv")
    assert "uv sync" not in application.run("up", "-d").stderr


@pytest.mark.parametrize(("file", "tool"), [("poetry.lock", "poetry"), ("Pipfile", "pipenv")])
def test_one_that_a_tool_keeps_elsewhere_is_asked_for(tmp_path: Path, monkeypatch, file: str, tool: str):
    """A stand-in for the tool, which prints the folder as poetry and pipenv do."""
    kept = make_environment(tmp_path / "kept")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / tool
    program.write_text(f"#!/bin/sh\necho {kept}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    folder = tmp_path / "application"
    folder.mkdir()
    assert virtual_environment(folder, {}) is None
    (folder / file).touch()
    assert virtual_environment(folder, {}) == kept
    program.write_text("#!/bin/sh\nexit 1\n")
    assert virtual_environment(folder, {}) is None
