"""What holds for every test, and what tests of several packages are given."""

import gc
import os
import re

import pytest
from hypothesis import settings
from tests.certificate import Certificate, certify

# How long an example takes says more of the machine than of the code.
settings.register_profile("kirsch", deadline=None)
settings.register_profile("soak", deadline=None, max_examples=400)
settings.load_profile("soak" if os.environ.get("KIRSCH_SOAK") else "kirsch")
# The reasons for which the CI may skip a test: what they name cannot be installed, or given to oneself.
IMPOSSIBLE = (
    "there is no fleetctl",
    "there is no IPv6",
    "has no such argument",
    "tests cannot be fetched",
    "git has no release before this one",
    "machines as containers need root",
    "nobody but root may run a Python with kirsch here",
    "machines as containers need CAP_SYS_ADMIN",
)
# Chromium without windows, tabs and panels, which take as long as a page does; kirsch.robot takes it too.
CHROMIUM = os.environ.setdefault("CHROMIUM", "/usr/bin/chromium-headless-shell")
# What a file says of all its tests, and what leaves out tests with any of some marks.
MARKS = re.compile(r"^pytestmark = (\[.*?\]|.*?)$", re.M | re.S)
NONE_OF = re.compile(r"not \w+( and not \w+)*")
SLOW = {"machines", "faults"}


def pytest_ignore_collect(collection_path, config):
    """Do not import a file all of whose tests are left out: some import what takes seconds."""
    if collection_path.suffix != ".py" or not NONE_OF.fullmatch(config.option.markexpr):
        return None
    out = set(config.option.markexpr.replace(" and ", " ").replace("not ", "").split())
    marks = MARKS.search(collection_path.read_text())
    there = set(re.findall(r"mark\.(\w+)", marks[1])) if marks else set()
    return True if there & (out | SLOW if "slow" in out else out) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Machines take long to make and to break; what takes long begins first, or it would be last."""
    for item in items:
        if item.get_closest_marker("machines") or item.get_closest_marker("faults"):
            item.add_marker(pytest.mark.slow)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    machines = {item.path for item in items if item.get_closest_marker("machines")}
    items.sort(key=lambda item: (item.path not in machines, not server(item.nodeid), item.path not in slow))


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Look for no garbage while tests are collected; later the collector, which many tests call, passes over
    what is there for all."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `--dist loadfile`: all files that share a server are one."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return server(nodeid) or super()._split_scope(nodeid)

    return Scheduling(config, log) if config.option.dist == "loadfile" else None


def server(nodeid: str) -> str:
    """Name the server that tests of several files share, so that one worker runs them; "" for those of none.

    Of those that share machines a worker would wait for the other; those that make images are among them, for
    podman cannot list what another takes away. RabbitMQ would start in each worker.
    """
    if nodeid.startswith(("tests/machines/", "tests/image/")) or nodeid.endswith("[cluster]"):
        return "podman"
    return "rabbitmq" if nodeid.startswith("packages/kirsch-amqp/") else ""


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return run_in_ci((yield))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    return run_in_ci((yield))


def run_in_ci(report):
    """The report; where CI=true a test that is skipped has failed, for all that it may need is installed."""
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(impossible in reason for impossible in IMPOSSIBLE):
            report.outcome, report.longrepr = "failed", f"The CI skips no test.\n{reason}"
    return report


# Not for the session: while Playwright runs, no other test can run an event loop.
@pytest.fixture(scope="module")
def browser():
    """Playwright's, of Debian's Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A server's on this machine, called localhost, 127.0.0.1 and server.example."""
    names = ("localhost", "IP:127.0.0.1", "server.example")
    return certify(tmp_path_factory.mktemp("certificate"), *names)
