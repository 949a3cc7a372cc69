"""Chromium, driven by Playwright: Debian's, without a window, without a word to anyone but this machine."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser as Chromium
from playwright.sync_api import ConsoleMessage, Page, Playwright, sync_playwright

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    # Whatever it may want to look up, there is nothing but this machine.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
)


class BrowserError(AssertionError):
    """There is no browser to use: one line that says what to do."""


@dataclass
class Browser:
    """One browser with one page. `errors` are those of the page's scripts."""

    timeout: float = 10.0
    errors: list[str] = field(default_factory=list)
    _playwright: Playwright | None = None
    _chromium: Chromium | None = None
    _page: Page | None = None

    def open(self, url: str) -> Page:
        """Open an address in a new page; one that was open is closed. Raises BrowserError."""
        self.close_page()
        page = self._start().new_context().new_page()
        page.set_default_timeout(self.timeout * 1000)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._heard)
        page.goto(url)
        self._page = page
        return page

    @property
    def page(self) -> Page:
        """The page that is open. Raises BrowserError."""
        if self._page is None:
            raise BrowserError("no page is open: open one first")
        return self._page

    @property
    def is_open(self) -> bool:
        """Whether a page is open."""
        return self._page is not None

    def close_page(self) -> None:
        """Close the page, and forget what it kept."""
        if self._page is not None:
            self._page.context.close()
            self._page = None

    def close(self) -> None:
        """Close the browser."""
        self.close_page()
        if self._chromium is not None:
            self._chromium.close()
        if self._playwright is not None:
            self._playwright.stop()
        self._chromium = self._playwright = None

    def _start(self) -> Chromium:
        if self._chromium is None:
            program = os.environ.get("CHROMIUM", CHROMIUM)
            if not Path(program).exists():
                raise BrowserError(f"{program} is missing: apt-get install chromium, or set CHROMIUM")
            # Chromium's sandbox does not work for root.
            arguments = [*ARGUMENTS, "--no-sandbox"] if os.geteuid() == 0 else [*ARGUMENTS]
            self._playwright = sync_playwright().start()
            self._chromium = self._playwright.chromium.launch(executable_path=program, args=arguments)
        return self._chromium

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type == "error" and "Content Security Policy" in message.text:
            self.errors.append(message.text)
