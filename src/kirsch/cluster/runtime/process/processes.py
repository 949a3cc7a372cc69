"""The processes of one unit: launched, heard, signalled, until the last of their trees has ended."""

import asyncio
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kirsch.bus.process.child import Child, ChildError, Command, Exit
from kirsch.cluster.runtime.base import NOT_EXECUTED, TIMED_OUT
from kirsch.cluster.runtime.command_line import CommandLine
from kirsch.cluster.runtime.host import Host
from kirsch.cluster.runtime.invocation import compose_command, compose_environment
from kirsch.cluster.runtime.journal import Journal
from kirsch.cluster.runtime.service import Service
from kirsch.unit import UnitName

LAST_LINES = 5  # of its output, that are kept


@dataclass(frozen=True, slots=True)
class ProcessEnded:
    """Event: a process that was launched has ended; its children may not have."""

    child: Child
    exit: Exit


@dataclass(frozen=True, slots=True)
class TreeEnded:
    """Event: a process and all its descendants have ended."""

    child: Child


class Processes:
    """`main` and `control` are the processes that run now, None where there is none, `recent` the last lines
    that all of them printed. `tell` is called in the event loop. For one event loop."""

    def __init__(
        self, name: UnitName, host: Host, journal: Journal, tell: Callable[[ProcessEnded | TreeEnded], None]
    ) -> None:
        self.main: Child | None = None
        self.control: Child | None = None
        self.recent: deque[str] = deque(maxlen=LAST_LINES)
        self._name = name
        self._host = host
        self._journal = journal
        self._tell = tell
        # Those whose trees have not ended, and whether each was a control process.
        self._children: dict[Child, bool] = {}
        self._loop = asyncio.get_running_loop()

    def left(self) -> list[Child]:
        """Return the children of whose trees something may be left."""
        return list(self._children)

    async def launch(
        self,
        service: Service,
        line: CommandLine,
        variables: Mapping[str, str],
        manager: Mapping[str, str],
        *,
        main: bool,
    ) -> Child:
        """Launch a command of the unit's, as its main or control process. Raises ChildError."""
        child = await asyncio.to_thread(self._launch, service, line, variables, manager)
        self._children[child] = not main
        if main:
            self.main = child
        else:
            self.control = child
        return child

    def clear(self) -> None:
        """End what control processes have left behind: it goes before the main process comes
        (systemd.service(5), ExecStartPre=)."""
        for child, control in self._children.items():
            if control and child is not self.control:
                child.kill()

    def signal(self, number: int, target: str) -> None:
        """Send a signal to all, to the main and the control process ("main"), or to the latter alone."""
        if target == "all":
            for child in self._children:
                if number == signal.SIGKILL:
                    child.kill()
                else:
                    child.signal_all(number)
            return
        for member in (self.main if target == "main" else None, self.control):
            if member is not None:
                member.signal(number)

    def kill(self) -> None:
        """SIGKILL to all, which end as if they had been killed from outside."""
        for child in self._children:
            child.kill()

    def ended(self, child: Child) -> str:
        """Which process it was that has ended: main, control; empty where another is that by now."""
        if child is self.main:
            self.main = None
            return "main"
        if child is self.control:
            self.control = None
            return "control"
        return ""

    def forget(self, child: Child) -> None:
        """Drop a child whose tree has ended."""
        self._children.pop(child, None)

    def _launch(
        self, service: Service, line: CommandLine, variables: Mapping[str, str], manager: Mapping[str, str]
    ) -> Child:
        """Launch a command, in a thread: this reads files and waits for the execution."""
        environment = compose_environment(service, self._host, variables, manager)
        silent = {"out": service.standard_output == "null", "err": service.standard_error == "null"}

        def on_line(stream: str, text: str) -> None:
            if not silent[stream]:
                self.recent.append(text)
                self._journal.append(self._name.text, stream, text, time.time())

        try:
            argv = line.argv(environment)
            command = compose_command(service, self._host, argv, environment, line.program)
            child = Child(
                command,
                on_line=on_line,
                on_main_exit=lambda exit: self._call(ProcessEnded(child, exit)),
                on_exit=lambda _: self._call(TreeEnded(child)),
                keep=True,
            )
            child.start()
        except (ChildError, OSError, ValueError) as error:
            raise ChildError(f"{line}: {error}") from None
        return child

    def _call(self, ended: ProcessEnded | TreeEnded) -> None:
        """From a Child's thread into the event loop."""
        try:
            self._loop.call_soon_threadsafe(self._tell, ended)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more


async def run_once(command: Command, seconds: float, running: set[Child]) -> int:
    """Run a command for at most `seconds`, its output dropped; nothing of it is left, also when cancelled.

    Returns its exit status, as Runtime.run has it. It is in `running` as long as it lasts.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Exit] = loop.create_future()

    def settle(exit: Exit) -> None:
        if not ended.done():
            ended.set_result(exit)

    def on_main_exit(exit: Exit) -> None:
        try:
            loop.call_soon_threadsafe(settle, exit)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more

    def kill(done: "asyncio.Future[None]") -> None:
        if done.exception() is None:
            child.kill()

    child = Child(command, on_main_exit=on_main_exit, keep=True)
    running.add(child)
    start = asyncio.ensure_future(asyncio.to_thread(child.start))
    try:
        async with asyncio.timeout(seconds):
            await asyncio.shield(start)
            exit = await ended
    except ChildError:
        return NOT_EXECUTED
    except TimeoutError:
        return TIMED_OUT
    finally:
        running.discard(child)
        start.add_done_callback(kill)
    return 128 + exit.signal if exit.signal is not None else exit.code or 0
