"""Runs a program, and runs it anew when its code changes and has no mistakes."""

import tempfile
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from kirsch.bus.child import Child, ChildError, Exit
from kirsch.bus.command import Command
from kirsch.cluster.application import ApplicationError
from kirsch.cluster.dev.program import Container, Process, there
from kirsch.cluster.dev.reload import Check, Reload
from kirsch.cluster.network.inotify import Watch

# Seconds that it has to answer what is under way.
GRACE = 8.0

# What is done about changes of other files than code: the image to go on with, empty if it is the same.
Renew = Callable[[frozenset[Path]], str]


class Program(Protocol):
    """What is run."""

    @property
    def check(self) -> Check:
        """What is wrong with texts."""

    def command(self) -> Command:
        """The command."""

    def remove(self) -> None:
        """Remove what is left of it."""


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
        run(program, watch, renewed, Reload(folder, program.check), lambda: there(folder, module), say, write)


def run(
    program: Program,
    watch: Watch,
    renewed: Callable[[frozenset[Path]], Program | None],
    reload: Reload,
    complete: Callable[[], bool],
    say: Callable[[str], None],
    write: Callable[[str], None],
) -> None:
    """The loop itself. While the code is not `complete`, its module gone, nothing is run anew. `renewed` is
    the program to go on with, where a change of files makes it another one."""
    stopping: set[int] = set()
    # It is another program than the one that runs, for its code is not right yet.
    waiting = False

    def ended(child: Child, how: Exit) -> None:
        if child.pid not in stopping:
            say(f"it has ended ({how}); it is started again with the next change")

    def start() -> Child:
        child = Child(
            program.command(),
            lambda stream, line: write(line),
            on_main_exit=lambda how: ended(child, how),
            grace=GRACE,
        )
        child.start()
        return child

    def stop(child: Child) -> None:
        stopping.add(child.pid)
        child.stop()
        child.wait()

    child = start()
    try:
        for paths in watch.changes():
            new = renewed(paths)
            program, waiting = new or program, waiting or bool(new)
            change = reload.changed(paths)
            for wrong in change.wrong.values():
                say(wrong)
            if reload.wrong:
                if change.wrong or new:
                    say("it goes on as it was until that is mended")
            elif not (change.code or waiting):
                continue
            elif not complete():
                say("the module is gone: it goes on as it was until that is back")
            else:
                say(f"{change.shown} changed: reloading" if change.code else "the image is new: reloading")
                stop(child)
                child, waiting = start(), False
    except ChildError as error:
        raise ApplicationError(str(error)) from None
    finally:
        try:
            stop(child)
        except KeyboardInterrupt:
            # Who asks twice does not want to wait for what is under way.
            child.kill()
            child.wait()
        finally:
            program.remove()
