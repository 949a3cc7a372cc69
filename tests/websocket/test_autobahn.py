"""Autobahn's cases against every provider: all of them pass, none is left out.

Compression's 216 (12.*, 13.*) are a sample here; `make autobahn` runs all 517.
"""

from collections.abc import Iterator

import pytest
from tests.websocket.autobahn import agents, suite
from tests.websocket.autobahn.run import Run, begin, pool
from tests.websocket.autobahn.suite import Outcome, Unavailable
from tests.websocket.programs import Program

# Each agent takes half a minute, a few at a time; whoever asks first waits for what is before it.
pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(900)]
SERVERS, CLIENTS = agents.servers(), agents.clients()
LIMIT = 400


@pytest.fixture(scope="module", autouse=True)
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
    assert "Traceback" not in outcome.log


@pytest.mark.parametrize("agent", SERVERS, ids=lambda agent: agent.name)
def test_the_server_passes(run: Run, agent: Program) -> None:
    check(run.servers[agent.name].result())


@pytest.mark.parametrize("agent", CLIENTS, ids=lambda agent: agent.name)
def test_the_client_passes(run: Run, agent: Program) -> None:
    check(run.clients[agent.name].result())
