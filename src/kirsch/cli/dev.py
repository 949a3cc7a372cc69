"""dev: code that runs anew when it changes."""

import re
import shlex
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kirsch.cli.completion import images
from kirsch.cli.errors import Failure, Misuse, interruptible
from kirsch.cli.journal import printable
from kirsch.cli.up import DIRECTORY
from kirsch.cli.values import count, timeout
from kirsch.cli.verb import Options, flag, option, verb
from kirsch.cluster.application import FILE, Application, load

if TYPE_CHECKING:
    from kirsch.cluster.api.client import Client
    from kirsch.cluster.dev.reload import Change
    from kirsch.cluster.network.inotify import Watch

MODULE = "webapp"
PORT = 8080
# What a folder without a Containerfile is served in.
IMAGE = "localhost/kirsch/web"


@verb(
    "dev",
    DIRECTORY,
    option("--module", metavar="MODULE", help="what cherryd serves (webapp)"),
    option("--port", metavar="PORT", type=count, help="where cherryd serves it (8080)"),
    flag("--container", help="serve the module in a container"),
    option(
        "--image",
        metavar="IMAGE",
        help="of this image (built of DIR's Containerfile; else kirsch/web)",
        complete=images,
    ),
    timeout(180, "give up after this time"),
    text="Its units run as with `kirsch up`; those that run code of the folder are restarted when it "
    "changes. While a file has a syntax error, which is shown, all goes on as it was.\n\n"
    "A folder without unit files is served as a CherryPy module that mounts itself, by cherryd; with "
    "--container in a container of the folder's image that has the code mounted. The image is built anew "
    "when its Containerfile or requirements.txt changes.",
    example="kirsch dev examples/notes",
)
def dev(options: Options) -> int:
    """Run an application, or a module of CherryPy's, and take changes up."""
    from kirsch.cli.up import only_here

    only_here(options, "dev")
    folder = Path(options.directory)
    if not folder.is_dir():
        raise Failure(f"{folder}: no such directory")
    if options.image and not options.container:
        raise Misuse("--image is for a container: give --container too")
    if not options.container and not options.module and _has_units(folder):
        if options.port is not None:
            raise Misuse("--port is for a module: units say themselves where they listen")
        return _units(options, folder)
    return _module(options, folder.resolve())


def _has_units(folder: Path) -> bool:
    from kirsch.cluster.application import is_unit

    units = folder / "units" if (folder / "units").is_dir() else folder
    return (folder / FILE).exists() or any(is_unit(path.name) for path in units.iterdir())


def _units(options: Options, folder: Path) -> int:
    """`kirsch up`, and beside it a thread that watches."""
    from kirsch.cli.up import bring_up
    from kirsch.cluster.application.embedded import running
    from kirsch.cluster.network.inotify import Watch

    if running(load(folder).state) is not None:
        raise Failure(f"{folder} is up already: `kirsch down {folder}` first")
    watch = Watch(folder)

    def beside(application: Application, show: Callable[[str], None]) -> None:
        def say(text: str) -> None:
            show("\n".join(f"dev: {line}" for line in text.splitlines()))

        say(f"{folder} is watched")
        following = Following(application, watch, options.timeout, say)
        threading.Thread(target=following.run, name="watch", daemon=True).start()

    options.detach = False
    return bring_up(options, beside)


@dataclass(slots=True)
class Following:
    """Takes changes of an application's files up, while it runs."""

    application: Application
    watch: "Watch"
    timeout: float
    say: Callable[[str], None]

    def run(self) -> None:
        """Until the application has stopped."""
        from kirsch.cluster.network.inotify import WatchError

        try:
            self._follow()
        except WatchError as error:
            self.say(f"{error}; changes are not seen any more")

    def _follow(self) -> None:
        from kirsch.cluster.api.client import ClientError
        from kirsch.cluster.application import ApplicationError
        from kirsch.cluster.application.embedded import running
        from kirsch.cluster.dev import syntax
        from kirsch.cluster.dev.reload import Reload
        from kirsch.unit import UnitError

        reload = Reload(self.application.directory, syntax.check)
        for paths in self.watch.changes():
            _say_requirements(self.application.directory, paths, self.say)
            change = reload.changed(paths)
            for wrong in change.wrong.values():
                self.say(wrong)
            if change.wrong:
                self.say("everything goes on as it was until that is mended")
            client = running(self.application.state)
            if client is None:
                return
            try:
                self._take_up(client, change)
            except (ApplicationError, ClientError, Failure, UnitError) as error:
                self.say(str(error))

    def _take_up(self, client: "Client", change: "Change") -> None:
        from kirsch.cli.releases import wait
        from kirsch.cli.up import apply
        from kirsch.cli.waiting import is_up
        from kirsch.cli.waiting import wait as wait_until
        from kirsch.cluster.api.client import UNITS
        from kirsch.cluster.dev.reload import units_of_code

        named = change.shown
        if change.units:
            self.application = load(self.application.directory)
            started, number = apply(client, self.application)
            if number is not None:
                row = {"application": self.application.name, "number": number, "start": started}
                wait(client, row, self.timeout)
            self.say(f"{named} changed: the application is up to date")
        if not change.code:
            return
        launched = [line["name"] for line in client.get(UNITS)["units"] if line["desired"] == "launched"]
        # One after another, so that those behind a balancer are never away together.
        for name in units_of_code(self.application, launched):
            self.say(f"{named} changed: restarting {name}")
            change_of = {"name": name, "desiredState": "launched", "again": True}
            for row in client.patch(UNITS, {"change": [change_of]})["releases"]:
                wait(client, row, self.timeout)
            wait_until(client, [name], is_up, self.timeout)
            self.say(f"{name} is ready")


def _module(options: Options, folder: Path) -> int:
    from kirsch.cluster.dev.serve import checked, serve
    from kirsch.cluster.provision.podman import free

    module = options.module or MODULE
    port = PORT if options.port is None else options.port
    if not 0 < port < 65536 or not free(port):
        raise Failure(f"port {port} of this computer is taken, or none: give another with --port")
    checked(folder, module)
    interruptible()
    image = _image(options, folder) if options.container else ""

    def renew(paths: frozenset[Path]) -> str:
        return _renewed(options, folder, paths)

    try:
        serve(folder, module, port, image, renew, _say, lambda line: print(printable(line), flush=True))
    except KeyboardInterrupt:
        print("stopped")
    return 0


def _image(options: Options, folder: Path) -> str:
    """The image to serve the folder in: its own, as it is built now, or the one that all begin with."""
    from kirsch.cli.image import failures_shown
    from kirsch.cli.output import Steps
    from kirsch.cluster.dev.inputs import containerfile
    from kirsch.cluster.image.build import build, installed, own_image, planned
    from kirsch.cluster.image.store import known
    from kirsch.cluster.provision.command import Runner
    from kirsch.cluster.provision.image import Images

    installed()
    steps, runner = Steps(sys.stdout), Runner()
    with failures_shown(steps):
        if options.image:
            return known(options.image, runner)
        if containerfile(folder):
            name = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-")
            return str(build(planned(folder, [name or MODULE], {}), steps, runner).names[0])
        if not Images(runner).exists(IMAGE):
            own_image(IMAGE, steps, runner)
    return known(IMAGE, runner)


def _renewed(options: Options, folder: Path, paths: frozenset[Path]) -> str:
    """The image to go on with after a change of what it is built from; empty if there is no other."""
    from kirsch.cluster.dev.inputs import containerfile, of_image, requirements
    from kirsch.cluster.provision.record import ProvisionError

    if not options.container:
        _say_requirements(folder, paths, _say)
        return ""
    built = containerfile(folder) is not None and not options.image
    changed = ", ".join((of_image if built else requirements)(folder, paths))
    if changed and built:
        _say(f"{changed} changed: building the image anew")
        try:
            return _image(options, folder)
        except ProvisionError as error:
            _say(f"{error}\nit goes on as it was until that is mended")
    elif changed and options.image:
        _say(f"{changed} changed: once {options.image} is built anew, the next change of code takes it up")
    elif changed:
        lines = f"FROM {IMAGE}, COPY . ., RUN pip install -r {changed}"
        _say(f"{changed} changed: a Containerfile in {folder} brings what it names ({lines})")
    return ""


def _say_requirements(folder: Path, paths: Iterable[Path], say: Callable[[str], None]) -> None:
    """For a process: what is installed for our own Python is not ours to change."""
    from kirsch.cluster.dev.inputs import requirements
    from kirsch.cluster.image.wheels import REQUIREMENTS

    for name in requirements(folder, paths):
        file = folder / name if Path(name).name == REQUIREMENTS else folder / REQUIREMENTS
        if file.is_file():
            pip = shlex.join([sys.executable, "-m", "pip", "install", "-r", str(file)])
            say(f"{name} changed: `{pip}` brings what it names; the next change of code takes it up")


def _say(text: str) -> None:
    for line in text.splitlines():
        print(f"dev: {line}", flush=True)
