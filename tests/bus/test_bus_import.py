import subprocess
import sys

import pytest

import kirsch.bus
from kirsch.install import pip_install

WITHOUT_CHERRYPY = """
import sys
sys.modules["cherrypy"] = sys.modules["cheroot"] = None
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["ProcessPlugin", "http_server", "Limits"])
def test_without_cherrypy_the_error_says_what_to_install(name):
    done = run(f"{WITHOUT_CHERRYPY}from kirsch.bus import {name}")
    assert done.stderr.splitlines()[-1] == f"ImportError: kirsch.bus needs CherryPy: {pip_install('kirsch')}"


def test_children_need_no_cherrypy():
    program = (
        "from kirsch.bus import Child, Command; c = Child(Command(('true',))); c.start(); print(c.wait(9))"
    )
    assert run(f"{WITHOUT_CHERRYPY}{program}").stdout == "exited with code 0\n"


def test_importing_the_package_imports_no_cherrypy():
    assert run("import sys, kirsch.bus.process.child; print('cherrypy' in sys.modules)").stdout == "False\n"


def test_every_public_name_is_there():
    for name in kirsch.bus.__all__:
        assert getattr(kirsch.bus, name) is not None


def test_no_other_name_is():
    with pytest.raises(AttributeError, match="nothing"):
        kirsch.bus.nothing  # noqa: B018
