"""The package builds with a compiler and without; what it says of itself is true."""

import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.websocket.wheels import wheel

import kirsch.websocket
from kirsch.install import pip_install

MODULES = {"frame", "parser", "sending", "protocol", "pump"}


def implementation(path: Path | None = None, **environment: str) -> str:
    """What a fresh interpreter says runs."""
    places = {} if path is None else {"PYTHONPATH": str(path)}
    done = subprocess.run(
        [sys.executable, "-c", "from kirsch.websocket.core import speedups; print(speedups.implementation)"],
        env={**os.environ, **places, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_what_is_tested_here_is_compiled() -> None:
    assert implementation(KIRSCH_PURE="0") == "cython"


def test_the_environment_takes_the_python_versions() -> None:
    assert implementation(KIRSCH_PURE="1") == "python"
    assert implementation(KIRSCH_PURE="0") == "cython"


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("environment", "compiled"),
    [({}, True), ({"KIRSCH_PURE": "1"}, False), ({"CC": "/bin/false"}, False)],
    ids=["compiler", "pure", "no compiler"],
)
def test_a_wheel_is_built(tmp_path: Path, environment: dict[str, str], compiled: bool) -> None:
    made = wheel(tmp_path, environment)
    with zipfile.ZipFile(made) as archive:
        built = {Path(name).name.split(".")[0] for name in archive.namelist() if name.endswith(".so")}
        archive.extractall(tmp_path / "installed")
    assert built == (MODULES if compiled else set())
    assert implementation(tmp_path / "installed") == ("cython" if compiled else "python")


@pytest.mark.parametrize(
    ("provider", "library", "extra"),
    [("tornado", "tornado", "tornado"), ("gevent", "gevent", "gevent"), ("cherrypy", "cherrypy", "cherrypy")],
)
def test_a_provider_whose_library_is_missing_names_the_extra(provider: str, library: str, extra: str) -> None:
    code = f"import sys; sys.modules[{library!r}] = None; import kirsch.websocket.{provider}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.lower().startswith(f"importerror: {library} is not installed: ")
    assert last.endswith(pip_install(f"kirsch-websocket[{extra}]"))


def test_lazy_names_are_those_that_type_checkers_see() -> None:
    tree = ast.parse(Path(kirsch.websocket.__file__).read_text())
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in typed.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {
        name: f"kirsch.websocket.core.{module}" for name, module in kirsch.websocket._MODULES.items()
    }
    for name in seen:
        assert getattr(kirsch.websocket, name)
