"""Runs one unit: feeds what happens to it to the state machine, and does what that asks for."""

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from kirsch.bus.process.child import Child, ChildError
from kirsch.bus.process.command import Command
from kirsch.cluster.runtime.base import NOT_EXECUTED, Prepared, RuntimeState
from kirsch.cluster.runtime.command_line import CommandLine
from kirsch.cluster.runtime.host import Host
from kirsch.cluster.runtime.invocation import (
    compose_command,
    compose_context,
    compose_environment,
    find_user,
    make_directories,
    remove_runtime_directories,
    run_variables,
)
from kirsch.cluster.runtime.journal import Journal
from kirsch.cluster.runtime.process.notify_socket import (
    NotifyFolder,
    NotifySocket,
    descends_from,
    parse_message,
)
from kirsch.cluster.runtime.process.processes import ProcessEnded, Processes, TreeEnded, run_once
from kirsch.cluster.runtime.process.states import step
from kirsch.cluster.runtime.progress import (
    AT_REST,
    Action,
    ControlExited,
    Elapsed,
    Emptied,
    Event,
    Log,
    MainExited,
    NotSpawned,
    Prepare,
    Progress,
    Release,
    Reload,
    Signal,
    Spawn,
    Spawned,
    Start,
    Stop,
)
from kirsch.cluster.runtime.service import Service
from kirsch.unit import UnitError, UnitName

LAST_CHARACTERS = 500  # of its output, in the message of a unit that failed

log = logging.getLogger(__name__)

Job = Start | Stop | Reload
Publish = Callable[[UnitName, RuntimeState], None]


@dataclass(frozen=True, slots=True)
class _Asked:
    job: Job
    done: "asyncio.Future[RuntimeState]"


@dataclass(frozen=True, slots=True)
class _Readable:
    """Messages wait in the notify socket."""


@dataclass(frozen=True, slots=True)
class _Due:
    """Something to go on with at once: a queued start."""

    job: Job


_Item = _Asked | ProcessEnded | TreeEnded | _Readable | _Due


class Supervisor:
    """One unit: its files, its state, its processes. For one event loop; one task does everything in turn."""

    def __init__(
        self, prepared: Prepared, host: Host, journal: Journal, sockets: NotifyFolder, publish: Publish
    ):
        self.name = prepared.name
        self.mark = ""
        self._prepared = prepared
        self._host = host
        self._journal = journal
        self._sockets = sockets
        self._publish = publish
        self._error = ""
        self._loaded: Service | None = None
        self._service = Service(prepared.name)
        self._environment: Mapping[str, str] = {}
        self._progress = Progress()
        self._state = RuntimeState()
        self._inbox: asyncio.Queue[_Item] = asyncio.Queue()
        self._waiting: list[_Asked] = []
        self._processes = Processes(prepared.name, host, journal, self._inbox.put_nowait)
        self._checks: set[Child] = set()
        self._socket: NotifySocket | None = None
        self._trouble = ""
        self._invocation = ""
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._work(), name=f"unit {self.name}")

    # What the runtime asks for

    @property
    def state(self) -> RuntimeState:
        return self._state

    @property
    def at_rest(self) -> bool:
        return self._progress.sub in AT_REST

    @property
    def shims(self) -> tuple[int, ...]:
        """Processes that all of the unit's own descend from."""
        return tuple(child.shim_pid for child in self._processes.left() if child.shim_pid)

    def load(self, prepared: Prepared, service: Service | None, error: str = "") -> None:
        """Take another file and environment for the next start; no service when the file cannot be run: then
        a start is refused, and only restarts by itself go on with the last good one."""
        if prepared.file.hash != self._state.hash:
            self._progress = replace(self._progress, starts=())
        self._prepared = prepared
        self._error = error
        self._loaded = service or self._loaded
        self._show()

    async def ask(self, job: Job) -> RuntimeState:
        """Start, stop or reload: the state once that is done."""
        if self._task.done() or (self._error and isinstance(job, Start)):
            return self._state
        done: asyncio.Future[RuntimeState] = self._loop.create_future()
        self._inbox.put_nowait(_Asked(job, done))
        return await done

    async def run(self, argv: Sequence[str], seconds: float) -> int:
        """Run a command as the unit would, beside it: its exit status, as Runtime.run has it."""
        service = self._loaded or self._service
        try:
            environment = compose_environment(service, self._host, self._prepared.variables, {})
            command = compose_command(service, self._host, (*service.inside, *argv), environment)
        except (ChildError, ValueError):
            return NOT_EXECUTED
        return await run_once(command, seconds, self._checks)

    async def context(self) -> Command | None:
        """Return a command with the context of the unit's processes, see Runtime.context."""
        if not self._progress.main:
            return None
        if inside := self._service.inside:
            raise UnitError(f"{self.name} runs in a container: {' '.join(inside)} COMMAND runs one in it")
        return await asyncio.to_thread(compose_context, self._service, self._host, self._environment)

    def kill(self) -> None:
        """SIGKILL to all of the unit's processes, which end as if they had been killed from outside."""
        self._processes.kill()

    async def close(self) -> None:
        """Kill what is left, and end."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        left = [*self._processes.left(), *self._checks]
        for child in left:
            child.kill()
        await asyncio.gather(*(asyncio.to_thread(child.wait) for child in left))
        self._close_socket()
        while not self._inbox.empty():
            if isinstance(item := self._inbox.get_nowait(), _Asked):
                self._waiting.append(item)
        self._settle(self._waiting)

    # The task

    async def _work(self) -> None:
        while True:
            try:
                for event in await self._next():
                    await self._take(event)
                self._answer()
            except Exception:
                log.exception("the unit %s goes on after an error", self.name)

    async def _next(self) -> list[Event]:
        """Wait until something happens, or time is up."""
        wakeup = self._progress.wakeup
        try:
            async with asyncio.timeout_at(wakeup if wakeup < math.inf else None):
                item = await self._inbox.get()
        except TimeoutError:
            return [*self._messages(), Elapsed()]
        match item:
            case _Asked(job, _):
                self._waiting.append(item)
                return [job]
            case _Due(job):
                return [job]
            case _Readable():
                return self._messages()
            case ProcessEnded(child, exit):
                # What a process said before it ended comes before its end.
                messages = self._messages()
                match self._processes.ended(child):
                    case "main":
                        return [*messages, MainExited(exit)]
                    case "control":
                        return [*messages, ControlExited(exit)]
                return messages
            case TreeEnded(child):
                self._processes.forget(child)
                return [] if self._processes.left() else [Emptied()]

    async def _take(self, event: Event) -> None:
        following: Event | None = event
        while following is not None:
            if self._loaded and self._progress.sub in (*AT_REST, "auto-restart"):
                self._service = self._loaded
            self._progress, actions = step(self._service, self._progress, following, self._loop.time())
            self._show()
            following = None
            for action in actions:
                following = await self._act(action)

    def _answer(self) -> None:
        """Tell those whose job is done, and go on with what waited for a stop."""
        progress = self._progress
        pending = {Start: bool(progress.start_job), Stop: progress.stop_job, Reload: progress.reload_job}
        self._settle([asked for asked in self._waiting if not pending[type(asked.job)]])
        if progress.start_job == "queued" and progress.sub in AT_REST:
            self._inbox.put_nowait(_Due(Start()))

    def _settle(self, answered: Sequence[_Asked]) -> None:
        self._waiting = [asked for asked in self._waiting if asked not in answered]
        for asked in answered:
            if not asked.done.done():
                asked.done.set_result(self._state)

    # What the state machine asks for

    async def _act(self, action: Action) -> Event | None:
        match action:
            case Log(text):
                self._journal.append(self.name.text, "kirsch", text, time.time())
            case Prepare():
                await self._prepare()
            case Spawn(command, main):
                return await self._spawn(command, main)
            case Signal(number, target):
                self._processes.signal(number, target)
            case Release(restarting):
                self._close_socket()
                await asyncio.to_thread(remove_runtime_directories, self._service, self._host, restarting)
        return None

    async def _prepare(self) -> None:
        """Trouble here is told when the first command cannot be run for it."""
        self._processes.recent.clear()
        self._environment = dict(self._prepared.variables)
        self._invocation = secrets.token_hex(16)
        self._trouble = ""
        try:
            await asyncio.to_thread(make_directories, self._service, self._host)
            if self._service.notify_access != "none":
                self._open_socket()
        except ChildError as error:
            self._trouble = str(error)
        except OSError as error:
            self._trouble = f"the notify socket cannot be made: {error.strerror}"

    async def _spawn(self, line: CommandLine, main: bool) -> Event:
        if main:
            self._processes.clear()
        if self._trouble:
            return NotSpawned(self._trouble)
        service = self._service
        manager = {"INVOCATION_ID": self._invocation, **run_variables(service, self._progress, main)}
        if self._socket:
            manager["NOTIFY_SOCKET"] = self._socket.address
        try:
            child = await self._processes.launch(service, line, self._environment, manager, main=main)
        except ChildError as error:
            return NotSpawned(str(error))
        return Spawned(child.pid)

    # sd_notify(3)

    def _open_socket(self) -> None:
        self._close_socket()
        uid = find_user(self._service.user).pw_uid if self._service.user else None
        self._socket = self._sockets.open(uid)
        self._loop.add_reader(self._socket.socket, self._on_readable, self._socket)

    def _on_readable(self, readable: NotifySocket) -> None:
        """Heard once, until the messages are taken: the task may be busy."""
        self._loop.remove_reader(readable.socket)
        self._inbox.put_nowait(_Readable())

    def _close_socket(self) -> None:
        if self._socket:
            self._loop.remove_reader(self._socket.socket)
            self._socket.close()
            self._socket = None

    def _messages(self) -> list[Event]:
        """Read the messages in the socket, those of senders that NotifyAccess= permits."""
        messages: list[Event] = []
        while self._socket and (message := self._socket.receive()):
            pid, text = message
            if self._may_notify(pid):
                messages.append(parse_message(text))
            else:
                access = self._service.notify_access
                line = (
                    f"Got notification message from PID {pid}, but NotifyAccess={access} does not permit it."
                )
                self._journal.append(self.name.text, "kirsch", line, time.time())
        if self._socket:
            self._loop.add_reader(self._socket.socket, self._on_readable, self._socket)
        return messages

    def _may_notify(self, pid: int) -> bool:
        match self._service.notify_access:
            case "main":
                permitted = {self._progress.main}
            case "exec":
                permitted = {self._progress.main, self._progress.control}
            case _:
                return descends_from(pid, {child.shim_pid for child in self._processes.left()})
        return pid in permitted - {0}  # 0 is nobody of this pid namespace

    # State

    def _show(self) -> None:
        progress, before = self._progress, self._state
        self._state = RuntimeState(
            load="bad-setting" if self._error else "loaded",
            active=progress.active,
            sub=progress.sub,
            result=progress.result,
            message=self._error or self._message(),
            hash=self._prepared.file.hash,
            pid=progress.main,
            restarts=progress.restarts,
            since=before.since if before.since and before.active == progress.active else time.time(),
            mark=self.mark,
        )
        if self._state != before:
            self._publish(self.name, self._state)

    def _message(self) -> str:
        progress = self._progress
        if progress.sub not in (*AT_REST, "auto-restart"):
            return progress.status.replace("\n", " ")
        recent = tuple(self._processes.recent)
        if not progress.reason or not recent:
            return progress.reason
        lines = " | ".join(line.strip() for line in recent if line.strip())
        return f"{progress.reason}; last lines: {lines[-LAST_CHARACTERS:]}" if lines else progress.reason
