"""CherryPy's and cheroot's own tests against kirsch's HTTP server.

Tests that do not hold are in tests.bus.apart, each with its reason. The tests are those of the
wheels, which are those of the sdists (test_the_wheels_have_the_sdists_tests).
"""

import ast
import contextlib
import filecmp
import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.bus.apart import APART, NOT_RUN

PACKAGES = ("cheroot.test", "cherrypy.test")
ROOT = Path(__file__).parents[2]


def modules(package: str) -> dict[str, Path]:
    spec = find_spec(package)
    assert spec is not None
    files = Path(spec.submodule_search_locations[0]).glob("test_*.py")
    return {f"{package}.{file.stem}": file for file in sorted(files)}


def names_of_tests(file: Path) -> set[str]:
    """The names of a module's tests, which may not be importable here."""
    nodes = ast.walk(ast.parse(file.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test")}


def not_run(module: str) -> set[str]:
    return {name for name, reason in APART.get(module, {}).items() if reason in NOT_RUN}


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """The suites' runs by their packages, beside each other, for they sleep most of their time."""
    with contextlib.ExitStack() as stack:
        yield {package: start(package, stack, tmp_path_factory) for package in PACKAGES}


def start(package, stack, tmp_path_factory):
    folder = tmp_path_factory.mktemp(package)
    options = [
        "-q",
        "-rs",
        "--show-capture=no",
        "-c",
        os.devnull,
        "--rootdir",
        str(folder),
        "-p",
        "no:cacheprovider",
    ]
    # A module of which nothing is run is not imported: it may need what is not installed.
    names = [name for name, file in modules(package).items() if names_of_tests(file) - not_run(name)]
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "tests.bus.upstream", *options, "--pyargs", *names],
        cwd=ROOT,
        # CI=true is for our own tests: these skip what is not for this system.
        env=os.environ | {"PYTHONPATH": str(ROOT), "WEBTEST_INTERACTIVE": "False", "CI": ""},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    stack.enter_context(run)
    stack.callback(run.kill)
    return run


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_upstreams_tests_pass(started, package):
    run = started[package]
    output, _ = run.communicate()
    print(output)
    assert run.returncode == 0, output[-5000:]


def test_what_is_apart_is_there():
    """Also in modules that are not imported."""
    tests = {name: names_of_tests(file) for package in PACKAGES for name, file in modules(package).items()}
    known = {(module, name) for module, names in tests.items() for name in [*names, "test_gc"]}
    listed = {
        (module, name.partition("[")[0].rpartition(".")[2])
        for module, names in APART.items()
        for name in names
    }
    assert sorted(listed - known) == []


@pytest.mark.soak
@pytest.mark.parametrize(("package", "name"), [("cheroot", "cheroot"), ("cherrypy", "CherryPy")])
def test_the_wheels_have_the_sdists_tests(package, name, tmp_path):
    options = ["--no-deps", "--no-binary", ":all:", "--dest", str(tmp_path)]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", *options, f"{name}=={version(name)}"]
    subprocess.run(pip, check=True, timeout=250)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    (sdist,) = tmp_path.glob(f"*/{package}/test")
    files = [str(file.relative_to(sdist)) for file in sdist.rglob("*") if file.is_file()]
    wheel = next(iter(modules(f"{package}.test").values())).parent
    assert filecmp.cmpfiles(sdist, wheel, files, shallow=False)[1:] == ([], [])
    assert len(files) > 10
