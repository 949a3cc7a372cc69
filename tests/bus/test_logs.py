import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import logging, sys, cherrypy
from kirsch.bus import configure_logging
options = {options}
configure_logging(**options)
logging.getLogger("app").info("grüße %s", "you")
logging.getLogger("app").debug("not this")
cherrypy.log("an odd\\nmessage", context="HTTP")
cherrypy.engine.log("from the bus")
try:
    1 / 0
except ZeroDivisionError:
    cherrypy.log("it failed", severity=40, traceback=True)
"""


def run(options: dict, program: str = PROGRAM) -> tuple[str, str]:
    program = program.replace("{options}", repr(options))
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONUTF8": "1"},
        check=True,
    )
    return done.stdout, done.stderr


def test_text_goes_to_standard_error_with_one_time():
    out, err = run({})
    assert out == ""
    lines = err.splitlines()
    assert lines[0].partition(" ")[2] == "INFO app: grüße you"
    assert "INFO cherrypy.error: ENGINE from the bus" in err
    assert "[" not in lines[1]
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert "not this" not in err


def test_json_is_one_object_a_line():
    entries = [json.loads(line) for line in run({"format": "json"})[1].splitlines()]
    assert [entry["message"] for entry in entries] == [
        "grüße you",
        "HTTP an odd\nmessage",
        "ENGINE from the bus",
        "it failed",
    ]
    assert entries[0] == {**entries[0], "level": "INFO", "logger": "app", "thread": "MainThread"}
    assert entries[3]["exception"].endswith("ZeroDivisionError: division by zero")


def test_the_level_is_for_all():
    assert run({"level": "ERROR"})[1].count(" ERROR ") == 1
    assert "not this" in run({"level": "DEBUG"})[1]


def test_called_again_it_replaces_what_it_did():
    program = PROGRAM.replace("configure_logging(**options)", "configure_logging(); configure_logging()")
    assert run({}, program)[1].count("grüße you") == 1


@pytest.mark.parametrize("kind", ["path", "port"])
def test_syslog_gets_what_standard_error_gets(kind, tmp_path: Path):
    family = socket.AF_UNIX if kind == "path" else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(tmp_path / "log") if kind == "path" else ("127.0.0.1", 0))
        syslog.settimeout(10)
        name = syslog.getsockname()
        run({"syslog": name if kind == "path" else f"{name[0]}:{name[1]}"})
        assert syslog.recv(1000).rstrip(b"\0").decode() == "<14>app: grüße you"


def test_what_cannot_be_says_why(tmp_path):
    from kirsch.bus import configure_logging

    with pytest.raises(ValueError, match=r"cannot log to syslog at .*/none: No such file or directory"):
        configure_logging(syslog=str(tmp_path / "none"))
    with pytest.raises(ValueError, match="HOST:PORT, not 'somewhere'"):
        configure_logging(syslog="somewhere")
    with pytest.raises(ValueError, match="not 'xml'"):
        configure_logging(format="xml")
    with pytest.raises(ValueError, match="LOUD"):
        configure_logging(level="LOUD")


ACCESS = """
import cherrypy, logging
from kirsch.bus import configure_logging
from kirsch.bus.logs import no_access_log
configure_logging(**{options})
print(cherrypy.log.access is no_access_log)
"""


def test_the_access_log_costs_nothing_unless_it_is_wanted():
    assert run({}, ACCESS)[0] == "True\n"
    assert run({"access": True}, ACCESS)[0] == "False\n"
