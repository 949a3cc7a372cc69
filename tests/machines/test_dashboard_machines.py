"""The dashboard of three machines, one of which is lost; and figures of units that systemd runs."""

import os
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.dashboard.conftest import opened
from tests.machines.trial import Trial, eventually

from kirsch.cluster.provision.record import MachineRecord

pytestmark = [pytest.mark.machines, pytest.mark.faults, pytest.mark.slow]

# Three processes in one control group.
TEXT = """\
[Service]
ExecStart=/bin/sh -c 'sleep infinity & sleep infinity & wait'
[X-Kirsch]
Spread=hostname
"""
NAMES = ("s@1.service", "s@2.service", "s@3.service")
# In so many ms the page tells what kirschd knows.
SOON = 2000


@pytest.fixture
def trial(trial: Trial) -> Any:
    """Nothing runs before, and nothing after."""
    trial.clear()
    trial.submit("s@.service", TEXT)
    trial.kirsch("start", *NAMES)
    yield trial
    trial.clear()


def column(page: Page, machine: MachineRecord) -> Any:
    return page.locator(".machine", has=page.get_by_role("link", name=machine.name, exact=True))


def test_the_page_tells_of_a_machine_that_is_lost(trial: Trial, browser: Browser):
    environment = os.environ | {"KIRSCH_CLUSTER": trial.record.name}
    with opened(trial.folder, environment) as dashboard:
        page = browser.new_context().new_page()
        page.goto(dashboard.address)
        expect(page.locator("h1")).to_have_text("All 3 units are as they should be.", timeout=30_000)
        for machine in trial.machines:
            expect(column(page, machine).locator("a.cell")).to_have_count(1)
        # It gives the page its events, as the first that was asked.
        lost = trial.machines[0]
        unit = next(name for name in NAMES if trial.machine_of(name) == lost)
        trial.kill(lost)
        try:
            trial.until(lambda lines: lines and lines[unit]["machine"] not in ("", lost.id))
            expect(column(page, lost)).to_have_count(0, timeout=SOON)
            expect(page.locator(".machine a.cell", has_text=unit.removesuffix(".service"))).to_have_count(1)
            expect(page.locator("h1")).to_have_text("All 3 units are as they should be.", timeout=30_000)
        finally:
            trial.boot(lost)
            trial.until_present()
        expect(column(page, lost)).to_have_count(1, timeout=30_000)
        page.context.close()


def test_a_unit_s_figures_are_its_control_group_s(trial: Trial):
    machine = trial.machine_of(NAMES[0])

    def found() -> dict[str, Any] | None:
        answer = trial.client.get("/kirsch/v1/figures", unit=NAMES[0], machine=machine.id)
        [figures] = answer["machines"]
        units: list[dict[str, Any]] = figures["units"]
        return next((each for each in units if each["cpu"] and each["cpu"][-1] is not None), None)

    # A rate needs two samples.
    eventually(found)
    unit = found()
    assert unit
    group = trial.shell(machine, f"systemctl show -p ControlGroup --value {NAMES[0]}").strip()
    files = f"/sys/fs/cgroup{group}/cgroup.procs /sys/fs/cgroup/*{group}/cgroup.procs"
    members = trial.shell(machine, f"sort -u {files} 2>/dev/null", check=False)
    assert unit["processes"][-1] == len(members.split()) == 3
    assert unit["peak"] >= unit["memory"][-1] > 100_000
