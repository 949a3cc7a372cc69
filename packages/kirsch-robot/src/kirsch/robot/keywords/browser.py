"""Keywords that say what a person does in a browser, and sees there."""

import re
from datetime import timedelta
from pathlib import Path

from playwright.sync_api import Locator, expect

from kirsch.robot.keywords.session import Keywords
from robot.api import logger
from robot.api.deco import keyword


class BrowserKeywords(Keywords):
    """One page at a time, or one in each of several windows. What is to be seen is waited for, ten seconds at
    most."""

    @keyword
    def open_page(self, address: str = "/", window: str = "") -> None:
        """Opens an address, or a path at the application's, in Chromium (/usr/bin/chromium, or CHROMIUM).

        With ``window`` it is another window, beside those that are open: another person's, who shares no
        cookies with the others. What follows is done in the window that was opened, or switched to, last.

        | Open Page    window=Ada
        | Open Page    window=Bob
        | Switch Window    Ada
        """
        self.session.browser.open(self.session.url(address), window)

    @keyword
    def switch_window(self, window: str) -> None:
        """Goes to a window that is open."""
        self.session.browser.switch(window)

    @keyword
    def browser_is_at(self, latitude: float, longitude: float) -> None:
        """Pages that are opened from now on may know where the browser is: there, in degrees.

        Without it they are not allowed to know.
        """
        self.session.browser.place = (latitude, longitude)

    @keyword
    def browser_keeps_its_place_to_itself(self) -> None:
        """Pages that are opened from now on are not allowed to know where the browser is."""
        self.session.browser.place = None

    @keyword
    def reload_page(self) -> None:
        """Loads the page again."""
        self.session.browser.page.reload()

    @keyword
    def browser_loses_the_network(self) -> None:
        """Cuts this window off from the network, until `Browser Has The Network Again`."""
        self.session.browser.page.context.set_offline(True)

    @keyword
    def browser_has_the_network_again(self) -> None:
        """Lets this window use the network again."""
        self.session.browser.page.context.set_offline(False)

    @keyword
    def close_page(self) -> None:
        """Closes the page that is open in this window."""
        self.session.browser.close_page()

    @keyword
    def type_into(self, field: str, text: str) -> None:
        """Puts the cursor into a field, by its label, and types a text, key by key, over what is there.

        | Type Into    New note    Buy cherries
        """
        self._field(field).focus()
        self.session.browser.page.keyboard.press("Control+A")
        self.session.browser.page.keyboard.type(text)

    @keyword
    def press_keys(self, *keys: str) -> None:
        """Presses keys one after the other: letters, Enter, Tab, Escape, Control+Enter, …"""
        for key in keys:
            self.session.browser.page.keyboard.press(key)

    @keyword
    def press_button(self, name: str) -> None:
        """Presses the button that is called so.

        | Press Button    Add note
        """
        self._button(name).click()

    @keyword
    def press_button_by_keyboard(self, name: str) -> None:
        """Goes to the button that is called so, and presses Enter."""
        self._button(name).press("Enter")

    @keyword
    def follow_link(self, name: str) -> None:
        """Follows the first link that is called so.

        | Follow Link    Overview
        """
        self.session.browser.page.get_by_role("link", name=name, exact=True).first.click()

    @keyword
    def field_should_hold(self, field: str, text: str) -> None:
        """Checks what is in a field, by its label."""
        expect(self._field(field)).to_have_value(text, timeout=self._timeout)

    @keyword
    def page_should_show(self, text: str) -> None:
        """Checks that a text is to be seen."""
        expect(self._text(text).first).to_be_visible(timeout=self._timeout)

    @keyword
    def page_should_not_show(self, text: str) -> None:
        """Checks that a text is not to be seen."""
        expect(self._text(text).filter(visible=True)).to_have_count(0, timeout=self._timeout)

    @keyword
    def text_should_be_there_once(self, text: str) -> None:
        """Checks that one part of the page, and no other, has a text."""
        exact = self.session.browser.page.get_by_text(text, exact=True).filter(visible=True)
        expect(exact).to_have_count(1, timeout=self._timeout)

    @keyword
    def part_should_show(self, part: str, text: str, within: timedelta | None = None) -> None:
        """Checks that a part of the page, named by a CSS selector, shows a text and nothing else.

        ``text`` is a regular expression. ``within`` is a time other than the usual.

        | Part Should Show    #instance    notes@[12]
        """
        pattern = re.compile(rf"^\s*(?:{text})\s*$")
        timeout = within.total_seconds() * 1000 if within else self._timeout
        expect(self.session.browser.page.locator(part)).to_have_text(pattern, timeout=timeout)

    @keyword
    def text_of_part(self, part: str) -> str:
        """Returns the text of a part of the page, named by a CSS selector.

        | ${instance} =    Text Of Part    #instance
        """
        return self.session.browser.page.locator(part).inner_text(timeout=self._timeout)

    @keyword
    def no_script_should_have_failed(self) -> None:
        """Checks that no script of a page raised an error, and none was refused by the page's own policy."""
        errors = self.session.browser.errors
        if errors:
            raise AssertionError("\n".join(errors))

    @keyword
    def take_picture(self, name: str) -> None:
        """Takes a picture of the page into the folder of the log. A test that fails takes one by itself."""
        from robot.libraries.BuiltIn import BuiltIn

        file = re.sub(r"[^\w-]+", "-", name).strip("-").lower() + ".png"
        folder = Path(BuiltIn().get_variable_value("${OUTPUT DIR}"))
        self.session.browser.page.screenshot(path=folder / file)
        logger.info(f'<img src="{file}" width="800" alt="the page">', html=True)

    @property
    def _timeout(self) -> float:
        return self.session.browser.timeout * 1000

    def _button(self, name: str) -> Locator:
        return self.session.browser.page.get_by_role("button", name=name, exact=True)

    def _field(self, label: str) -> Locator:
        return self.session.browser.page.get_by_label(label, exact=True)

    def _text(self, text: str) -> Locator:
        return self.session.browser.page.get_by_text(text)
