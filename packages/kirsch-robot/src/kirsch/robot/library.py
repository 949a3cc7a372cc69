"""The library that suites import: all keywords, and the cleaning up behind them."""

from importlib import metadata
from typing import Any

from kirsch.robot.keywords.application import ApplicationKeywords, CommandKeywords
from kirsch.robot.keywords.browser import BrowserKeywords
from kirsch.robot.keywords.cluster import ClusterKeywords
from kirsch.robot.keywords.http import HttpKeywords, LoadKeywords
from kirsch.robot.keywords.session import Session
from kirsch.robot.keywords.unit import UnitKeywords
from robot.api.deco import library


@library(scope="SUITE", version=metadata.version("kirsch-robot"), doc_format="ROBOT", auto_keywords=False)
class Library(
    ApplicationKeywords,
    ClusterKeywords,
    CommandKeywords,
    UnitKeywords,
    HttpKeywords,
    LoadKeywords,
    BrowserKeywords,
):
    """Runs an application that kirsch runs, and uses it as people do: by browser, HTTP and command line.

    | *** Settings ***
    | Library           kirsch.robot
    | Suite Setup       Start Application    examples/notes    free_ports=yes
    | Suite Teardown    Stop Application
    |
    | *** Test Cases ***
    | A Person Opens The Page
    |     Open Page
    |     Page Should Show    No notes yet

    The application runs on a copy of its folder. Nothing is polled by sleeping: states of units come from
    kirschd's events, lines from ``kirsch up``, and what is to be seen on a page is waited for. A suite that
    ends leaves nothing behind, also if its teardown fails.

    Keywords that wait take ``timeout`` (``30s``, ``1 minute``). Some return a moment: `Kill Unit`,
    `Wait Until Unit Says`; others take one, to tell what came before from what came after.
    """

    ROBOT_LISTENER_API_VERSION = 3

    def __init__(self) -> None:
        self.ROBOT_LIBRARY_LISTENER = self
        self.session = Session()
        self.killed = {}

    def _end_test(self, test: Any, result: Any) -> None:
        """A picture of the page, where a test failed."""
        if not result.passed and self.session.browser.is_open:
            self.take_picture(f"{result.name} failed")

    def _close(self) -> None:
        """The suite is over: nothing may stay behind."""
        self.session.end()
