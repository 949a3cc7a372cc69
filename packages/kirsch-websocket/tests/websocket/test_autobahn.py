"""Autobahn's cases against every provider: all of them pass, none is left out.

Compression's 216 (12.*, 13.*) are a sample here; `make autobahn` runs all 517.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.websocket.autobahn import agents, suite
from tests.websocket.autobahn.run import Run, begin, pool
from tests.websocket.autobahn.suite import Outcome, Unavailable
from tests.websocket.programs import ROOT, Program

# Each agent takes half a minute, a few at a time; whoever asks first waits for what is before it.
pytestmark = [pytest.mark.services, pytest.mark.soak, pytest.mark.timeout(900)]
SERVERS, CLIENTS = agents.servers(), agents.clients()
LIMIT = 400


@pytest.fixture(scope="module")
def wstest() -> None:
    try:
        suite.prepare()
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def run(wstest: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    workers = pool()
    try:
        yield begin(workers, SERVERS, CLIENTS, suite.QUICK, tmp_path_factory.mktemp("autobahn"), LIMIT)
    finally:
        workers.shutdown(cancel_futures=True)


def check(outcome: Outcome) -> None:
    assert len(outcome.verdicts) == 316
    assert outcome.failures == {}
    # It does so after twenty seconds of silence: a wake-up was lost.
    assert outcome.pinged == []
    assert "Traceback" not in outcome.log


@pytest.mark.parametrize("agent", SERVERS, ids=lambda agent: agent.name)
def test_the_server_passes(run: Run, agent: Program) -> None:
    check(run.servers[agent.name].result())


@pytest.mark.parametrize("agent", CLIENTS, ids=lambda agent: agent.name)
def test_the_client_passes(run: Run, agent: Program) -> None:
    check(run.clients[agent.name].result())


class TestHarness:
    """That it shows what is not passed."""

    @pytest.fixture
    def limited(self) -> Program:
        """A server of the websockets library that takes messages of 1,000 bytes at most."""
        server = Path(__file__).parent / "peers" / "websockets_server.py"
        return Program("limited", (sys.executable, str(server), "--max-size", "1000"))

    def test_a_failure(self, wstest: None, limited: Program, tmp_path: Path) -> None:
        outcome = suite.run_server(limited, ("1.1.1", "9.1.1", "9.2.1", "10.1.1"), tmp_path, LIMIT)
        assert list(outcome.verdicts) == ["1.1.1", "9.1.1", "9.2.1", "10.1.1"]
        assert outcome.failures.keys() == {"9.1.1", "9.2.1", "10.1.1"}

    def test_a_client_that_does_not_do_all(self, wstest: None, tmp_path: Path) -> None:
        idle = Program("idle", (sys.executable, "-c", ""))
        outcome = suite.run_client(idle, ("1.1.1", "1.1.2"), tmp_path, LIMIT)
        assert outcome.failures == {"1.1.1": suite.MISSING, "1.1.2": suite.MISSING}

    def test_a_server_that_does_not_start(self, wstest: None, tmp_path: Path) -> None:
        broken = Program("broken", (sys.executable, "-c", "raise SystemExit('out of order')"))
        with pytest.raises(AssertionError, match="out of order"):
            suite.run_server(broken, ("1.1.1",), tmp_path, LIMIT)

    def test_no_python_2(self, tmp_path: Path) -> None:
        os.symlink(str(shutil.which("cat")), tmp_path / "cat")
        done = subprocess.run(
            [ROOT / "scripts" / "autobahn", tmp_path / "venv"],
            env={"PATH": str(tmp_path), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 3
        assert done.stderr.startswith("Autobahn needs Python 2.7 and there is none")
        assert done.stderr.count("\n") == 1
