"""kirsch.robot itself: its documentation, its extra, and the parts that decide something."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.source import PYTHONPATH

from kirsch.install import pip_install
from kirsch.robot import processes
from kirsch.robot.application import Application, published, replace_ports
from kirsch.robot.http import Sent
from kirsch.robot.output import Moment

ROOT = Path(__file__).parents[4]


def test_every_keyword_is_typed_and_documented():
    command = [sys.executable, "-m", "robot.libdoc", "--format", "json", "kirsch.robot", "/dev/stdout"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stderr == ""
    library = json.JSONDecoder().raw_decode(result.stdout)[0]
    assert library["doc"]
    for keyword in library["keywords"]:
        assert keyword["doc"], keyword["name"]
        for argument in keyword["args"]:
            # body is whatever is to be sent.
            assert argument["type"] or argument["name"] == "body", (keyword["name"], argument["name"])


def test_it_needs_nothing_of_clusters_until_one_is_used():
    program = (
        "import sys; sys.modules |= dict.fromkeys(['cryptography', 'grpc', 'dbus_fast']); import kirsch.robot"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_the_extra_it_says_which():
    # -S: without site-packages nothing of an extra is there.
    command = [sys.executable, "-S", "-c", "import kirsch.robot"]
    environment = os.environ | {"PYTHONPATH": PYTHONPATH}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert pip_install("kirsch-robot") in result.stderr.splitlines()[-1]


class TestPorts:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("PublishPort=80:80", "PublishPort=9000:9000"),
            ('bind "${KIRSCH_ADDRESS}:80"', 'bind "${KIRSCH_ADDRESS}:9000"'),
            ("http://localhost:80/", "http://localhost:9000/"),
            (
                "127.0.0.80:81, 80, 8080, 180, 80.5, v80, 80s",
                "127.0.0.80:80, 9000, 8080, 180, 80.5, v80, 80s",
            ),
            ("Serves on 80.", "Serves on 9000."),
        ],
    )
    def test_whole_numbers_are_replaced_at_once(self, text, expected):
        assert replace_ports(text, {80: 9000, 81: 80}) == expected

    @given(st.text(), st.dictionaries(st.integers(1, 65535), st.integers(1, 65535)))
    def test_what_is_not_named_stays(self, text, ports):
        kept = {port: port for port in ports}
        assert replace_ports(text, kept) == text

    def test_those_the_units_publish(self):
        units = {
            "a.container": "[Container]\nImage=a\nPublishPort=80:80\nPublishPort=81:81\n",
            "b.service": "",
        }
        assert published(units) == (80, 81)

    def test_a_copy_names_free_ones_and_says_so(self):
        application = Application.copy(ROOT / "examples" / "notes", free_ports=True)
        try:
            assert set(application.ports) == {8090, 8091}
            port = application.ports[8091]
            settings = (application.directory / "kirsch.toml").read_text()
            assert f"http://localhost:{port}/" in settings
            changed = [line.partition(":")[0] for line in application.changes]
            assert set(changed) == {"kirsch.toml", "balancer/haproxy.cfg", "units/lb.container"}
            for line in application.changes:
                assert " -> " in line
        finally:
            application.remove()
        assert not application.directory.parent.exists()


class TestLoad:
    KILLED = Moment("killed", 10.0, 10.1)

    @pytest.mark.parametrize(
        ("begun", "ended", "in_flight", "after"),
        [
            (9.0, 9.9, False, False),
            (9.0, 10.05, True, False),
            (9.0, 11.0, True, False),
            (10.05, 10.2, True, False),
            (10.2, 11.0, False, True),
        ],
    )
    def test_what_was_in_flight_and_what_came_after(self, begun, ended, in_flight, after):
        sent = Sent("GET /", begun, ended, 200)
        assert (sent.was_in_flight(self.KILLED), sent.began_after(self.KILLED)) == (in_flight, after)

    @pytest.mark.parametrize(("status", "failed"), [(0, True), (200, False), (404, True), (502, True)])
    def test_what_failed(self, status, failed):
        assert Sent("GET /", 0, 1, status).failed is failed


class TestProcesses:
    def test_descendants_and_traces_are_found_until_they_end(self, tmp_path):
        # The grandchild has a session of its own and names nothing but its working directory.
        script = "import subprocess, sys; subprocess.run(['sleep', '60'], start_new_session=True)"
        with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path) as parent:
            while not any(process.name == "sleep" for process in processes.descendants(parent.pid)):
                assert parent.poll() is None
            family = processes.descendants(parent.pid)
            assert family == processes.of_folders([tmp_path]) == processes.survivors(family)
            child = next(process for process in family if process.name == "sleep")
            assert processes.kill(child.pid, timeout=10)
        assert processes.survivors(family) == processes.of_folders([tmp_path]) == set()
