"""Keywords that type `kirsch` commands."""

import subprocess
from datetime import timedelta

from kirsch.robot.keywords.session import PATIENCE, Keywords
from robot.api import logger
from robot.api.deco import keyword


class CommandKeywords(Keywords):
    """The command line."""

    last: "subprocess.CompletedProcess[str] | None" = None

    @keyword
    def run_kirsch(
        self,
        *arguments: str,
        status: int | None = 0,
        timeout: timedelta = 2 * PATIENCE,
        reads: str = "",
    ) -> str:
        """Runs a ``kirsch`` command in the application's folder; returns what it wrote to standard output.

        Its exit status must be ``status`` (0 done, 1 could not, 2 wrong usage); ``status=None`` allows any.
        ``reads`` is what it finds on its standard input.

        | ${table} =    Run Kirsch    list-units    --full
        | Run Kirsch    start    nothing@1    status=1
        | Error Should Say    there is no unit nothing@1
        """
        result = self.session.application.kirsch(*arguments, timeout=timeout.total_seconds(), reads=reads)
        self.last = result
        logger.info(f"$ kirsch {' '.join(arguments)}\n{result.stdout}{result.stderr}")
        if status not in (None, result.returncode):
            raise AssertionError(
                f"kirsch {' '.join(arguments)}: exit status {result.returncode}, not {status}: "
                f"{result.stderr or result.stdout}".rstrip()
            )
        return result.stdout

    @keyword
    def output_should_say(self, *texts: str) -> None:
        """Checks that the last command wrote each of some texts to standard output."""
        self._check(texts, self._last().stdout)

    @keyword
    def error_should_say(self, *texts: str) -> None:
        """Checks that the last command wrote each of some texts to standard error, and no traceback."""
        error = self._last().stderr
        self._check(texts, error)
        if "Traceback" in error:
            raise AssertionError(f"a traceback is no message for a person:\n{error}")

    def _last(self) -> "subprocess.CompletedProcess[str]":
        if self.last is None:
            raise AssertionError("no command was run: use `Run Kirsch` first")
        return self.last

    def _check(self, texts: tuple[str, ...], written: str) -> None:
        for text in texts:
            if text not in written:
                raise AssertionError(f"{text!r} is not in what was written:\n{written}")
