"""One short round of `make faults`: a machine is killed and comes back, and a fault meets its recovery."""

import pytest
from tests.faults import application
from tests.faults.plan import Fault, Kind, Round
from tests.faults.run import Run

pytestmark = [pytest.mark.machines, pytest.mark.faults]

# Others lead and keep numbers or not, by chance; what is asked of them afterwards is always the same.
ROUND = Round(0, (Fault(Kind.KILLED, 1, 0.0, 3.0), Fault(Kind.KIRSCHD, 2, 4.0, 0.0)))


@pytest.fixture
def run(trial):
    """The machines with what is watched while they break."""
    if not trial.record.published:
        pytest.skip("clients come in by a published port, and this cluster has none")
    trial.clear()
    run = Run(trial)
    yield run
    run.close()
    application.remove(trial)


def test_nothing_acknowledged_is_lost_and_no_unit_runs_twice(run):
    seen = run.play(ROUND)
    assert run.writer.acknowledged
    print(f"no page for {seen.page:.1f} s, no write for {seen.numbers:.1f} s, well after {seen.well:.1f} s")
