"""CherryPy's and cheroot's own tests, which their wheels bring, against kirsch's HTTP server.

All modules are run but those in LEFT_OUT; single tests that do not hold are in `tests.bus.upstream.APART`.
Both give the reasons.
"""

import contextlib
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PACKAGES = ("cheroot.test", "cherrypy.test")
ROOT = Path(__file__).parents[2]
_NO_SERVER = "it starts no server"
_CLOCK = "it is about CherryPy's tool alone, and whether it passes depends on how quick the machine is"
LEFT_OUT = {
    "cherrypy.test.test_bus": _NO_SERVER,
    "cherrypy.test.test_caching": _CLOCK,
    "cherrypy.test.test_config_server": "its ports are fixed; of a long head it wants 413, RFC 6585 has 431",
    "cherrypy.test.test_httputil": _NO_SERVER,
    "cherrypy.test.test_native": "it tests CherryPy's server without WSGI",
    "cherrypy.test.test_plugins": _NO_SERVER,
    "cherrypy.test.test_routes": "it needs Routes",
    "cherrypy.test.test_session": _CLOCK,
    "cherrypy.test.test_states": "it starts CherryPy's own server in processes, and interrupts cheroot",
    "cheroot.test.test__compat": _NO_SERVER,
    "cheroot.test.test_cli": _NO_SERVER,
    "cheroot.test.test_dispatch": _NO_SERVER,
    "cheroot.test.test_errors": _NO_SERVER,
    "cheroot.test.test_makefile": _NO_SERVER,
    "cheroot.test.test_server": "it tests cheroot's threads, queues and servers without WSGI",
    "cheroot.test.test_ssl": "it tests cheroot's TLS adapters",
}


def modules(package: str) -> list[str]:
    spec = find_spec(package)
    assert spec is not None
    files = Path(spec.submodule_search_locations[0]).glob("test_*.py")
    return sorted(f"{package}.{file.stem}" for file in files)


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """The suites' runs by their packages, beside each other, for they sleep most of their time."""
    with contextlib.ExitStack() as stack:
        yield {package: start(package, stack, tmp_path_factory) for package in PACKAGES}


def start(package, stack, tmp_path_factory):
    folder = tmp_path_factory.mktemp(package)
    options = ["-q", "-c", os.devnull, "--rootdir", str(folder), "-p", "no:cacheprovider"]
    names = [name for name in modules(package) if name not in LEFT_OUT]
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
    found = modules(package)
    assert [name for name in LEFT_OUT if name.startswith(package) and name not in found] == []
    run = started[package]
    output, _ = run.communicate()
    assert run.returncode == 0, output[-5000:]
