"""Each distribution alone: built as a wheel, installed into an empty environment, used in a line."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {path.name: path for path in [ROOT, *sorted(ROOT.glob("packages/kirsch-*"))]}
FOLDERS["kirsch"] = FOLDERS.pop(ROOT.name)
IGNORED = shutil.ignore_patterns("*.so", "*.egg-info", "__pycache__", "build", ".*", "node_modules")
# The newest Python that kirsch supports and pyenv, Debian or PATH may have.
NEWEST = "python3.13"
ECHO = """
from kirsch.websocket import WebSocket
from kirsch.websocket.threaded import connect, serve

class Echo(WebSocket):
    def received_message(self, message):
        self.send(message)

with serve(Echo) as server, connect(server.url) as ws:
    ws.send("hello")
    print(ws.recv())
"""
# The smallest application.
APPLICATION = {
    "kirsch.toml": 'name = "hello"\nstart = ["hello"]\n',
    "units/hello.service": "[Service]\nExecStart=/bin/sleep 600\n",
}
# A program for each distribution, and what it prints.
LINES = {
    "kirsch": ("from kirsch.unit import UnitName; print(UnitName.parse('notes@1.container').instance)", "1"),
    "kirsch-websocket": (ECHO, "hello"),
    "kirsch-amqp": ("from kirsch.amqp import AMQPPlugin; print(AMQPPlugin.__name__)", "AMQPPlugin"),
    "kirsch-hbase": ("from kirsch.hbase import LONG; print(LONG.decode(LONG.encode(-7)))", "-7"),
    "kirsch-device": (
        "from kirsch.device import Location; print(Location(50.8, 4, 0, 'fixed').latitude)",
        "50.8",
    ),
    "kirsch-robot": ("import robot.libdoc as l; l.libdoc_cli(['kirsch.robot', 'list'])", r".*\bStart\b.*"),
}

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]


def python(name: str) -> str:
    """A Python of that name on PATH or among pyenv's."""
    version = name.removeprefix("python")
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    found = [shutil.which(name), *sorted(map(str, pyenv.glob(f"{version}*/bin/{name}")), reverse=True)]
    for each in filter(None, found):
        if subprocess.run([each, "-c", ""], capture_output=True).returncode == 0:
            return each
    pytest.skip(f"there is no Python {version}")


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, env={**os.environ, **environment}
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session", params=[f"python3.{sys.version_info.minor}", NEWEST])
def interpreter(request):
    return python(request.param)


@pytest.fixture(scope="session")
def wheels(interpreter, tmp_path_factory):
    """A folder with the wheels of all six, built for this Python from their sources alone."""
    folder = tmp_path_factory.mktemp("wheels")
    builder = tmp_path_factory.mktemp("builder") / "venv"
    run(interpreter, "-m", "venv", builder)
    for name, source in FOLDERS.items():
        copy = tmp_path_factory.mktemp("source") / name
        shutil.copytree(source, copy, ignore=IGNORED, dirs_exist_ok=True)
        run(builder / "bin/pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, copy)
    return folder


def test_two_of_the_six_compile(wheels):
    compiled = {path.name.partition("-")[0] for path in wheels.glob("*.whl") if "none-any" not in path.name}
    assert len(list(wheels.glob("*.whl"))) == 6
    assert compiled == {"kirsch_hbase", "kirsch_websocket"}


def test_the_dashboard_s_pages_are_in_its_wheel(wheels):
    [wheel] = wheels.glob("kirsch-*.whl")
    static = ROOT / "src/kirsch/cluster/dashboard/static"
    with zipfile.ZipFile(wheel) as files:
        held = {Path(name).name for name in files.namelist() if "/dashboard/static/" in name}
    assert held == {path.name for path in static.iterdir()}


@pytest.mark.timeout(1800)
def test_a_newcomer_s_first_hour(interpreter, wheels, tmp_path):
    """The story of acceptance/newcomer.robot with what a person has installed, far from the sources."""
    run(interpreter, "-m", "venv", tmp_path / "venv")
    packages = ("kirsch", "flask", "fastapi", "uvicorn")
    run(tmp_path / "venv/bin/pip", "install", "--quiet", "--find-links", wheels, *packages)
    suite = shutil.copy(ROOT / "acceptance/newcomer.robot", tmp_path)
    python = f"PYTHON:{tmp_path / 'venv/bin/python'}"
    told = run(
        sys.executable, "-m", "robot", "--outputdir", tmp_path / "output", "--variable", python, suite,
        PYTHONPATH="",
    )  # fmt: skip
    assert "3 tests, 3 passed, 0 failed" in told


@pytest.mark.parametrize("name", ["kirsch-hbase", "kirsch-websocket"])
def test_a_source_distribution_has_its_c_and_needs_no_cython(interpreter, tmp_path, name):
    shutil.copytree(FOLDERS[name], tmp_path / "tree", ignore=IGNORED)
    run(interpreter, "-m", "venv", tmp_path / "builder")
    builder = tmp_path / "builder/bin"
    run(builder / "pip", "install", "--quiet", "build", "setuptools>=77", "wheel")
    run(builder / "python", "-m", "build", "--sdist", "--outdir", tmp_path, tmp_path / "tree")
    [archive] = tmp_path.glob("*.tar.gz")
    # An environment without Cython.
    run(builder / "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path, archive)
    [wheel] = tmp_path.glob("*.whl")
    modules = {path.stem for path in (tmp_path / "tree").rglob("*.pyx")}
    with zipfile.ZipFile(wheel) as files:
        inside = [Path(file) for file in files.namelist() if "/compiled/" in file]
    assert {path.name.partition(".")[0] for path in inside if path.suffix == ".so"} == modules
    assert not [path for path in inside if path.suffix == ".c"]


@pytest.mark.parametrize("name", FOLDERS)
def test_it_works_alone(interpreter, wheels, tmp_path, name):
    run(interpreter, "-m", "venv", tmp_path / "venv")
    run(tmp_path / "venv/bin/pip", "install", "--quiet", "--find-links", wheels, name)
    program, printed = LINES[name]
    said = run(tmp_path / "venv/bin/python", "-c", program, PYTHONPATH="").strip()
    assert re.fullmatch(printed, said, re.DOTALL)
    if name != "kirsch-websocket":
        assert run(tmp_path / "venv/bin/kirsch", "--version", PYTHONPATH="").startswith("kirsch ")
        assert "usage: kirschd" in run(tmp_path / "venv/bin/kirschd", "--help", PYTHONPATH="").lower()
        assert "postgres" in run(tmp_path / "venv/bin/kirsch", "doctor", PYTHONPATH="")


@pytest.mark.parametrize("tool", ["pipx", "uv"])
def test_a_tool_installs_a_kirsch_that_works(interpreter, wheels, tmp_path, tool):
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    run(tmp_path / "venv/bin/pip", "install", "--quiet", tool)
    commands = {
        "pipx": ["install", "--python", interpreter, f"--pip-args=--find-links {wheels}", "kirsch"],
        "uv": ["tool", "install", "--python", interpreter, "--find-links", wheels, "kirsch"],
    }
    folders = {name: str(tmp_path / "home") for name in ("PIPX_HOME", "UV_TOOL_DIR")}
    folders |= {name: str(tmp_path / "bin") for name in ("PIPX_BIN_DIR", "UV_TOOL_BIN_DIR")}
    run(tmp_path / "venv/bin" / tool, *commands[tool], **folders)
    for file, text in APPLICATION.items():
        (tmp_path / "hello" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "hello" / file).write_text(text)
    kirsch = tmp_path / "bin/kirsch"
    run(kirsch, "up", "-d", tmp_path / "hello", PYTHONPATH="")
    try:
        assert "(compiled)" in run(kirsch, "version", PYTHONPATH="")
    finally:
        run(kirsch, "down", tmp_path / "hello", PYTHONPATH="")
