"""Keywords about units: how they are, and what may befall them."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from kirsch.robot import processes
from kirsch.robot.keywords.session import PATIENCE, Keywords
from kirsch.robot.output import Moment
from kirsch.robot.units import Line, describe, find, is_in
from robot.api import logger
from robot.api.deco import keyword


class UnitKeywords(Keywords):
    """States of units, and faults."""

    killed: dict[str, int]

    @keyword
    def unit_should_be(self, unit: str, state: str) -> None:
        """Checks a unit's state: systemd's active or sub state (active, failed, running, …) or ``ready``.

        | Unit Should Be    notes@1    active
        """
        line = self._line(unit)
        if not is_in(line, state):
            raise AssertionError(f"{unit} is {describe(line)}, not {state}")

    @keyword
    def wait_until_unit_is(self, unit: str, state: str, timeout: timedelta = PATIENCE) -> None:
        """Waits, by kirschd's own events, until a unit is in a state; states as in `Unit Should Be`.

        | Run Kirsch    stop    --no-block    notes@2
        | Wait Until Unit Is    notes@2    inactive
        """
        self._wait_for(unit, lambda line: is_in(line, state), state, timeout)

    @keyword
    def unit_address(self, unit: str) -> str:
        """The address and first port at which a unit serves, such as 127.5.6.1:8080."""
        line = self._line(unit)
        return f"{line['address']}:{line['ports'][0]}" if line["ports"] else str(line["address"])

    @keyword
    def kill_unit(self, unit: str) -> Moment:
        """Kills a unit's main process (SIGKILL), as a crash would; returns the moment once it has ended.

        The unit is not stopped: kirsch is to start it again. `Wait Until Unit Is Back` waits for that.

        | ${killed} =    Kill Unit    notes@1
        """
        pid = self._line(unit)["pid"]
        if not pid:
            raise AssertionError(f"{unit} has no process that could be killed")
        begun = time.monotonic()
        if not processes.kill(pid, PATIENCE.total_seconds()):
            raise AssertionError(f"process {pid} of {unit} has not ended")
        moment = Moment(f"{unit} was killed", begun, time.monotonic())
        logger.info(f"killed process {pid} of {unit}")
        self.killed[unit] = pid
        return moment

    @keyword
    def kill_unit_until_it_fails(self, unit: str, timeout: timedelta = 2 * PATIENCE) -> None:
        """Kills a unit's main process as often as kirsch starts it, until kirsch gives it up as failed.

        | Kill Unit Until It Fails    notes@2
        """
        known = 0
        deadline = time.monotonic() + timeout.total_seconds()

        def other(line: Line) -> bool:
            return is_in(line, "failed") or line["pid"] not in (0, known)

        while True:
            left = timedelta(seconds=max(deadline - time.monotonic(), 0.0))
            line = self._wait_for(unit, other, "failed, nor started again,", left)
            if is_in(line, "failed"):
                return
            known = line["pid"]
            processes.kill(known, PATIENCE.total_seconds())

    @keyword
    def wait_until_unit_is_back(self, unit: str, timeout: timedelta = PATIENCE) -> None:
        """Waits until a unit that was killed is ready again, as another process than the killed one."""
        pid = self.killed[unit]

        def back(line: Line) -> bool:
            return is_in(line, "ready") and line["pid"] not in (0, pid)

        self._wait_for(unit, back, "back", timeout)

    def _line(self, unit: str) -> dict[str, Any]:
        lines = self.session.application.unit_lines()
        line = find(lines, unit)
        if line is None:
            raise AssertionError(f"there is no unit {unit}; there are {', '.join(lines) or 'none'}")
        return dict(line)

    def _wait_for(self, unit: str, so: Callable[[Line], bool], words: str, timeout: timedelta) -> Line:
        states = self.session.application.states
        if states is None:
            raise AssertionError("the application does not run: `Start Application` starts it")
        line = states.wait_for(unit, so, timeout.total_seconds())
        if line is None:
            raise AssertionError(f"{unit} is not {words} within {timeout}: it is {states.last(unit)}")
        return line
