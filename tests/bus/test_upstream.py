"""CherryPy's own tests, which its wheel brings, against kirsch's HTTP server.

Left out: what asks for cheroot's words, attributes and resets (test_conn, test_http), what starts servers of
its own (test_states, test_bus, test_plugins, test_native), and what needs packages of CherryPy's own
(test_session, test_static).
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = ("auth_basic", "auth_digest", "config", "core", "dynamicobjectmapping", "encoding", "etags")


@pytest.mark.slow
def test_cherrypys_tests_pass(tmp_path):
    modules = [f"cherrypy.test.test_{name}" for name in MODULES]
    options = ["-q", "-c", os.devnull, "--rootdir", str(tmp_path), "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.bus.upstream", *options, "--pyargs", *modules],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "WEBTEST_INTERACTIVE": "False"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
