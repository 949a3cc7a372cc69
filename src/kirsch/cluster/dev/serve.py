"""A program that is run anew when its code changes and has no syntax errors."""

import tempfile
import uuid
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from kirsch.bus.process.child import Child, ChildError, Exit
from kirsch.bus.process.command import Command
from kirsch.cluster.application import ApplicationError
from kirsch.cluster.dev.program import Container, Process, there
from kirsch.cluster.dev.reload import Check, Reload
from kirsch.cluster.network.inotify import Watch

# Seconds that it has to answer what is under way.
GRACE = 8.0

# What is done about changes of other files than code: the image to go on with, empty if it is the same.
Renew = Callable[[frozenset[Path]], str]


class Program(Protocol):
    """The command that serves the folder, and its checks."""

    @property
    def check(self) -> Check:
        """Return the syntax errors of texts by path."""

    def command(self) -> Command:
        """Return the command to run."""

    def remove(self) -> None:
        """Remove what the command has left."""


def checked(folder: Path, module: str) -> None:
    """Raises ApplicationError where a folder has no such module."""
    if not there(folder, module):
        raise ApplicationError(
            f"{folder} has neither unit files nor a module {module}: name another with --module"
        )


def serve(
    folder: Path,
    module: str,
    port: int,
    image: str,
    renew: Renew,
    say: Callable[[str], None],
    write: Callable[[str], None],
) -> None:
    """Serve a folder's module until KeyboardInterrupt: in a container of `image`, or as a process if that is
    empty. `renew` is told which files change, `say` what happens, `write` gets the program's lines.

    Raises ApplicationError, ChildError, WatchError."""
    checked(folder, module)
    with tempfile.TemporaryDirectory(prefix="kirsch-dev-") as temporary, closing(Watch(folder)) as watch:
        settings = Path(temporary) / "cherryd.conf"
        name = f"kirsch-dev-{uuid.uuid4().hex[:8]}"
        program: Program = (
            Container(folder, module, port, settings, image, name)
            if image
            else Process(folder, module, port, settings)
        )

        def renewed(paths: frozenset[Path]) -> Program | None:
            new = renew(paths)
            return replace(program, image=new) if new and isinstance(program, Container) else None

        say(f"{module} is served at http://localhost:{port}/")
        reload = Reload(folder, program.check)
        Loop(program, renewed, reload, lambda: there(folder, module), say, write).run(watch.changes())


@dataclass(slots=True)
class Loop:
    """The program that runs, restarted after changes while the code is `complete`.

    `renewed` returns another program if a change of files asks for one.
    """

    program: Program
    renewed: Callable[[frozenset[Path]], Program | None]
    reload: Reload
    complete: Callable[[], bool]
    say: Callable[[str], None]
    write: Callable[[str], None]
    # True when `program` is not the one that runs, because the code has had errors since.
    waiting: bool = False
    child: Child | None = None

    def run(self, changes: Iterable[frozenset[Path]]) -> None:
        """Run until KeyboardInterrupt. Raises ApplicationError."""
        try:
            self.start()
            for paths in changes:
                self.changed(paths)
        except ChildError as error:
            raise ApplicationError(str(error)) from None
        finally:
            self.end()

    def changed(self, paths: frozenset[Path]) -> None:
        """Restart the program if a change asks for it and the code has no syntax errors."""
        new = self.renewed(paths)
        self.program, self.waiting = new or self.program, self.waiting or bool(new)
        change = self.reload.changed(paths)
        for wrong in change.wrong.values():
            self.say(wrong)
        if self.reload.wrong:
            if change.wrong or new:
                self.say("it goes on as it was until that is mended")
        elif not (change.code or self.waiting):
            return
        elif not self.complete():
            self.say("the module is gone: it goes on as it was until that is back")
        else:
            self.say(f"{change.shown} changed: reloading" if change.code else "the image is new: reloading")
            self.stop()
            self.start()
            self.waiting = False

    def start(self) -> None:
        """Start the program. Raises ChildError."""
        child = Child(
            self.program.command(),
            lambda stream, line: self.write(line),
            on_main_exit=lambda how: self.ended(child, how),
            grace=GRACE,
        )
        # Before it starts, for it may end at once.
        self.child = child
        try:
            child.start()
        except BaseException:
            self.child = None
            raise

    def ended(self, child: Child, how: Exit) -> None:
        """Tell that the program ended, unless it was stopped."""
        if child is self.child:
            self.say(f"it has ended ({how}); it is started again with the next change")

    def stop(self) -> None:
        """Stop the program and wait until it has ended."""
        child, self.child = self.child, None
        if child is not None:
            child.stop()
            child.wait()

    def end(self) -> None:
        """Stop the program for good; a second Ctrl-C does not wait for requests in flight."""
        child = self.child
        try:
            self.stop()
        except KeyboardInterrupt:
            if child is not None:
                child.kill()
                child.wait()
        finally:
            self.program.remove()
