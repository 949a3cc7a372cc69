"""The dashboard of three machines, one of which is lost."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.cli.application import wait_for
from tests.cluster.etcd_server import needs_etcd
from tests.cluster.members import MemberMachine, members
from tests.dashboard.conftest import opened

pytestmark = [pytest.mark.services, pytest.mark.slow, needs_etcd]

TEXT = """\
[Service]
ExecStart=sleep 1000
[X-Kirsch]
Spread=zone
"""
NAMES = ("s@1.service", "s@2.service", "s@3.service")
# In so many ms the page tells what kirschd knows.
SOON = 30_000
# Rows of a machine's page.
MACHINE_FACTS = {
    "Certificate": re.compile(r"ends .*, in \d+"),
}
WELL = "All 3 units are as they should be."


def column(page: Page, machine: MemberMachine) -> Any:
    return page.locator(".machine", has=page.get_by_role("link", name=machine.name, exact=True))


def test_the_page_tells_of_a_machine_that_is_lost(tmp_path: Path, browser: Browser):
    with members(tmp_path, 3) as cluster:
        cluster.ok("submit", cluster.unit("s@.service", TEXT))
        cluster.ok("start", *NAMES)
        with opened(tmp_path, cluster.environment()) as dashboard:
            page = browser.new_context().new_page()
            page.goto(dashboard.address)
            expect(page.locator("h1")).to_have_text(WELL, timeout=30_000)
            for machine in cluster.machines:
                expect(column(page, machine)).to_be_visible()
            used = next(each for each in cluster.lines().values() if each["name"] == NAMES[0])["machine"]
            lost = next(machine for machine in cluster.machines if machine.id == used)

            lost.kill()
            wait_for(
                lambda: cluster.lines()[NAMES[0]]["machine"] != lost.id, "the machine is known to be lost"
            )
            expect(column(page, lost)).to_have_count(0, timeout=SOON)
            away = page.locator(".wrong li", has_text=f"{lost.name} is away")
            expect(away).to_be_visible(timeout=SOON)
            expect(page.locator("h1")).to_have_text(WELL, timeout=30_000)
            expect(page.locator(".machine a.cell")).to_have_count(3)
            lost.start()
            expect(column(page, lost)).to_have_count(1, timeout=30_000)
            expect(away).to_have_count(0)

            column(page, lost).get_by_role("link", name=lost.name, exact=True).click()
            for term, value in MACHINE_FACTS.items():
                row = page.locator("dl > div", has=page.locator("dt", has_text=term))
                expect(row).to_contain_text(value)

            # Drained is told once no unit is there any more.
            used = cluster.lines()[NAMES[1]]["machine"]
            page.evaluate(f"location.hash = '#/machine/{used}'")
            page.get_by_role("button", name="Drain", exact=True).click()
            page.get_by_role("dialog").get_by_role("button", name="Drain").click()
            expect(page.locator("#done p").first).to_contain_text("is drained.", timeout=SOON)
            assert used not in {line["machine"] for line in cluster.lines().values()}

            page.get_by_role("link", name="Events", exact=True).click()
            requests = page.locator(".events li", has_text="asked for")
            expect(requests.first).to_be_visible()
            known = requests.count()
            cluster.ok("stop", NAMES[0])
            expect(requests).not_to_have_count(known)
            page.context.close()
