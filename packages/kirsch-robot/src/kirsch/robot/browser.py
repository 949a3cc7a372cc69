"""Chromium, driven by Playwright: Debian's, without a window, without a word to anyone but this machine."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    """One browser with a page in each of its windows; windows know nothing of each other.

    `errors` are those of the pages' scripts. `place`, a latitude and a longitude, is what pages that are
    opened are told when they ask where they are; None: they are not allowed to know.
    """

    timeout: float = 10.0
    errors: list[str] = field(default_factory=list)
    place: tuple[float, float] | None = None
    _playwright: Playwright | None = None
    _chromium: Chromium | None = None
    _windows: dict[str, Page] = field(default_factory=dict)
    _window: str = ""

    def open(self, url: str, window: str = "") -> Page:
        """Open an address in a new page of a window; one that was open there is closed.

        Raises BrowserError.
        """
        self._window = window
        self.close_page()
        page = self._start().new_context(**self._permissions()).new_page()
        page.set_default_timeout(self.timeout * 1000)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._heard)
        page.goto(url)
        self._windows[window] = page
        return page

    def switch(self, window: str) -> None:
        """Go to a window. Raises BrowserError."""
        if window not in self._windows:
            raise BrowserError(f"no window is called {window!r}: open one first")
        self._window = window

    @property
    def page(self) -> Page:
        """The page that is open in this window. Raises BrowserError."""
        if self._window not in self._windows:
            raise BrowserError("no page is open: open one first")
        return self._windows[self._window]

    @property
    def is_open(self) -> bool:
        """True while a page is open in this window."""
        return self._window in self._windows

    def close_page(self) -> None:
        """Close the page of this window, and forget what it kept."""
        if self.is_open:
            self._windows.pop(self._window).context.close()

    def close(self) -> None:
        """Close all windows and the browser."""
        while self._windows:
            self._window = next(iter(self._windows))
            self.close_page()
        if self._chromium is not None:
            self._chromium.close()
        if self._playwright is not None:
            self._playwright.stop()
        self._chromium = self._playwright = None

    def _permissions(self) -> dict[str, Any]:
        if self.place is None:
            return {"permissions": []}
        latitude, longitude = self.place
        place = {"latitude": latitude, "longitude": longitude, "accuracy": 10}
        return {"permissions": ["geolocation"], "geolocation": place}

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
