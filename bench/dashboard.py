"""Cost of the dashboard's page to a browser: `python bench/dashboard.py [--quick] [--units N] [--json FILE]`.

A kirschd of its own has 1,000 units that are loaded and do not run; `kirsch dashboard` shows them in
Chromium, 1,280 x 800, without a window. Rounds change ten units at once and wait until the page shows it: the
CPU time of the main thread (Chromium's Performance.getMetrics: scripts, styles, layout, painting) is divided
by the page's updates. Then as many changes as an hour has at one a second come as fast as kirschd takes them.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import outcome
from playwright.sync_api import CDPSession, Page, expect, sync_playwright

from kirsch.cluster.api.client import Client

KIRSCH = (sys.executable, "-m", "kirsch.cli.main")
UNITS, AT_ONCE, ROUNDS, HOUR = 1000, 10, 60, 3600
UNITS_PATH = "/kirsch/v1/units"
STUTTER = 50.0  # ms: what a browser calls a long task (W3C, Long Tasks)
TEXT = "[Service]\nExecStart=sleep 1000\n"
OBSERVE = """() => {
  window.longTasks = [];
  new PerformanceObserver((list) => window.longTasks.push(...list.getEntries().map((each) => each.duration)))
    .observe({ type: "longtask" });
}"""

# One question, not one every 0.1 s: what Playwright asks of a page takes its main thread too.
SHOWN = """(count) => new Promise((done) => {
  const cells = document.querySelector(".grid").getElementsByClassName("cell");
  const look = () => cells.length === count && (seen.disconnect(), done());
  const seen = new MutationObserver(look);
  seen.observe(document.querySelector(".grid"), { childList: true, subtree: true });
  look();
})"""


@contextmanager
def application(units: int) -> Iterator[tuple[Client, str]]:
    """A kirschd with units that are loaded, and its dashboard's address."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "units").mkdir()
        (folder / "units/one.service").write_text(TEXT)
        (folder / "kirsch.toml").write_text('name = "bench"\nstart = []\n')
        subprocess.run([*KIRSCH, "up", "-d", name], check=True, stdout=subprocess.DEVNULL)
        dashboard = subprocess.Popen(
            [*KIRSCH, "-C", name, "dashboard", "--no-browser"], stdout=subprocess.PIPE, text=True
        )
        try:
            assert dashboard.stdout is not None
            address = dashboard.stdout.readline().split()[1]
            client = Client(folder / ".kirsch/kirsch.sock")
            change = [
                {"name": unit(number), "text": TEXT, "desiredState": "loaded"} for number in range(units)
            ]
            for first in range(0, units, 100):
                client.patch(UNITS_PATH, {"change": change[first : first + 100]})
            while any(not line["machine"] for line in client.get(UNITS_PATH)["units"] if is_sleeper(line)):
                time.sleep(0.5)
            yield client, address
        finally:
            dashboard.terminate()
            dashboard.wait()
            subprocess.run([*KIRSCH, "down", name], check=True, stdout=subprocess.DEVNULL)


def unit(number: int) -> str:
    """Return the name of a unit."""
    return f"sleeper@{number}.service"


def is_sleeper(line: dict[str, Any]) -> bool:
    """Return True for the line of an instance that is measured."""
    return str(line["name"]).startswith("sleeper@") and line["desired"] == "loaded"


class Round:
    """Changes of some units at once, to and fro."""

    def __init__(self, client: Client, units: int) -> None:
        self._client = client
        self._units = units
        self._next = 0

    def change(self) -> list[str]:
        """Change the next units; returns those of them that are not to be loaded any more."""
        numbers = [(self._next + each) % self._units for each in range(AT_ONCE)]
        state = "inactive" if self._next // self._units % 2 == 0 else "loaded"
        self._next += AT_ONCE
        change = [{"name": unit(number), "desiredState": state} for number in numbers]
        self._client.patch(UNITS_PATH, {"change": change})
        return [] if state == "loaded" else [unit(number) for number in numbers]


def metrics(session: CDPSession) -> dict[str, float]:
    """Return Chromium's counters of the page's main thread, seconds and bytes."""
    answer = session.send("Performance.getMetrics")
    return {each["name"]: each["value"] for each in answer["metrics"]}


def updates(page: Page) -> float:
    """Return how often the page was brought up to date."""
    return float(page.evaluate("performance.getEntriesByName('update', 'measure').length"))


def heap(session: CDPSession) -> float:
    """Return the size of what scripts keep, in MiB."""
    session.send("HeapProfiler.collectGarbage")
    return metrics(session)["JSHeapUsedSize"] / 2**20


def measure(page: Page, session: CDPSession, client: Client, units: int, rounds: int) -> list[dict[str, Any]]:
    """Return rows of figures."""
    page.evaluate(OBSERVE)
    work = Round(client, units)
    shown = units
    page.evaluate("performance.clearMeasures()")
    before, delays = metrics(session), []
    for _ in range(rounds):
        began = time.monotonic()
        shown -= len(work.change()) or -AT_ONCE
        page.evaluate(SHOWN, shown)
        delays.append(time.monotonic() - began)
    after, count = metrics(session), updates(page)
    long = page.evaluate("window.longTasks")

    def spent(name: str) -> float:
        return round(1000 * (after[name] - before[name]) / count, 2)

    script = page.evaluate(
        "performance.getEntriesByName('update', 'measure').map((each) => each.duration).sort((a, b) => a - b)"
    )
    small = heap(session)
    began, changes = time.monotonic(), 0
    page.evaluate("performance.clearMeasures()")
    while changes < (HOUR if rounds == ROUNDS else HOUR // 10):
        work.change()
        changes += AT_ONCE
    taken = time.monotonic() - began
    rate = updates(page) / taken
    subject = f"{units} units"
    return [
        {"what": what, "subject": subject, "value": value, "unit": unit}
        for what, value, unit in (
            ("main thread, CPU, an update", spent("TaskDuration"), "ms"),
            ("of it scripts", spent("ScriptDuration"), "ms"),
            ("of it styles and layout", spent("RecalcStyleDuration") + spent("LayoutDuration"), "ms"),
            ("the page's own work, an update, median", round(script[len(script) // 2], 2), "ms"),
            ("the same, the longest", round(script[-1], 2), "ms"),
            (f"tasks longer than {STUTTER:g} ms, of {count:g} updates", len(long), ""),
            ("updates a second under a flood", round(rate, 1), "1/s"),
            ("changes a second under a flood", round(changes / taken), "1/s"),
            ("scripts' memory before the flood", round(small, 1), "MiB"),
            (f"scripts' memory after {changes} changes", round(heap(session), 1), "MiB"),
        )
    ]


def main() -> int:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--units", type=int, default=UNITS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    with application(options.units) as (client, address), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        page.goto(address)
        expect(page.locator("a.cell")).to_have_count(options.units, timeout=60_000)
        rows = measure(page, session, client, options.units, 10 if options.quick else ROUNDS)
        version = browser.version
        browser.close()
    for row in rows:
        print(f"{row['what']:45} {row['value']:>10} {row['unit']}")
    if options.json:
        outcome.write(options.json, rows, chromium=version)
    return 0


if __name__ == "__main__":
    sys.exit(main())
