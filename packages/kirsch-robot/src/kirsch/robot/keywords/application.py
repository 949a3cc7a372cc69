"""Keywords that run an application, and type `kirsch` commands."""

import re
import subprocess
from datetime import timedelta
from pathlib import Path

from kirsch.robot.application import Application, Stop
from kirsch.robot.keywords.session import PATIENCE, Keywords
from kirsch.robot.output import Moment
from robot.api import logger
from robot.api.deco import keyword

UP_TIMEOUT = timedelta(seconds=90)


class ApplicationKeywords(Keywords):
    """Keywords that start and stop an application, and read its output."""

    @keyword
    def start_application(
        self, directory: Path, free_ports: bool = False, timeout: timedelta = UP_TIMEOUT
    ) -> str:
        """Runs ``kirsch up`` on a copy of an application's folder; returns the address that it prints.

        The copy is made the first time a suite names the folder; started again, the application finds
        there what it kept. The copy is removed at the suite's end, or by `Remove Application`.

        With ``free_ports`` the copy publishes its ports under free numbers, so that it disturbs nobody who
        uses the application on this machine, another test run included. Unit files, ``*.toml`` and
        ``*.cfg`` are changed for that; the log shows each changed line. `Port Of` tells the new numbers.

        | ${address} =    Start Application    examples/notes    free_ports=yes
        """
        place = directory.resolve()
        session = self.session
        if place not in session.applications:
            copied = Application.copy(place, free_ports=free_ports)
            session.applications[place] = copied
            for change in copied.changes:
                logger.info(f"changed for free ports: {change}")
        session.current = session.applications[place]
        if session.current.running:
            raise AssertionError(f"{directory} runs already: `Stop Application` stops it")
        address = session.current.start(timeout.total_seconds())
        logger.info(str(session.current.output))
        return address

    @keyword
    def stop_application(self, by: Stop = "Ctrl-C") -> None:
        """Stops the application: by Ctrl-C where ``kirsch up`` runs, or by ``kirsch down`` (``by=down``).

        Returns once ``kirsch up`` has ended; its exit status must be 0.

        | Stop Application
        | Stop Application    by=down
        """
        application = self.session.application
        application.stop(by)
        logger.info(str(application.output))

    @keyword
    def start_dashboard(self) -> str:
        """Runs ``kirsch dashboard`` in the application's folder; returns its address, which works once.

        It ends with the application.

        | ${address} =    Start Dashboard
        | Open Page    ${address}
        """
        return self.session.application.open_dashboard(PATIENCE.total_seconds())

    @keyword
    def remove_application(self) -> None:
        """Stops the application and removes its copy with all that it kept."""
        application = self.session.application
        application.stop()
        application.remove()
        self.session.applications = {
            place: other for place, other in self.session.applications.items() if other is not application
        }
        self.session.current = None

    @keyword
    def port_of(self, published: int) -> int:
        """The number under which the application has the port that its files in the repository name.

        | ${port} =    Port Of    8090
        """
        return self.session.application.ports.get(published, published)

    @keyword
    def wait_until_unit_says(
        self, unit: str, text: str, after: Moment | None = None, timeout: timedelta = PATIENCE
    ) -> Moment:
        """Waits for a line of a unit among those that ``kirsch up`` prints; returns the moment it came.

        ``text`` is a regular expression. With ``after``, a moment as `Kill Unit` returns it, earlier lines
        do not count.

        | ${noticed} =    Wait Until Unit Says    lb    notes:1.container enters drain    after=${killed}
        """
        output = self.session.application.output
        assert output is not None
        pattern = rf"^{re.escape(unit)}(\.\w+)? *\| .*({text})"
        moment = output.wait_for(pattern, timeout.total_seconds(), after)
        if moment is None:
            last = "\n".join(str(output).splitlines()[-10:])
            raise AssertionError(f"{unit} did not say {text!r} within {timeout}; the last lines:\n{last}")
        logger.info(str(moment))
        return moment

    @keyword
    def nothing_should_be_left(self) -> None:
        """Checks that no process of the stopped application runs any more.

        Those it had when it was stopped, grandchildren in sessions of their own included, and any
        process whose environment, arguments or working directory name its folder.
        """
        left = self.session.application.left()
        if left:
            raise AssertionError("still there: " + ", ".join(sorted(map(str, left))))


class CommandKeywords(Keywords):
    """Keywords of the command line."""

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
