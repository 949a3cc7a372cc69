"""A CherryPy module in development: a process, or a container that has its code mounted."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kirsch.bus.process.command import Command as ChildCommand
from kirsch.cluster.dev import syntax
from kirsch.cluster.network.inotify import wanted
from kirsch.cluster.provision.command import Command, CommandError, Runner
from kirsch.cluster.provision.podman import limits, podman, remove_machines, ulimits

HOME = "/home/web"
# In a container, beside what the image has.
CONFIGURATION = "/cherryd-dev.conf"
PORT = 8080


def there(folder: Path, module: str) -> bool:
    """Return True if a folder has a module, which may be in a package."""
    *packages, name = module.split(".")
    place = folder.joinpath(*packages)
    return (place / name).is_dir() or (place / f"{name}.py").is_file()


def code(folder: Path) -> list[Path]:
    """Return what a container mounts of a folder: its modules, and all folders that may belong to them."""
    return sorted(
        path
        for path in folder.iterdir()
        if wanted(path.name) and ":" not in path.name and (path.is_dir() or path.suffix == ".py")
    )


def configuration(address: str, port: int) -> str:
    """Return cherryd's configuration. CherryPy's own reloading is off: it ends with the first mistake."""
    return (
        f'[global]\nserver.socket_host: "{address}"\nserver.socket_port: {port}\n'
        "server.shutdown_timeout: 2\nengine.autoreload.on: False\n"
    )


@dataclass(frozen=True, slots=True)
class Process:
    """cherryd with the Python that runs kirsch."""

    folder: Path
    module: str
    port: int
    settings: Path

    def command(self) -> ChildCommand:
        """Write cherryd's configuration and return the command."""
        self.settings.write_text(configuration("127.0.0.1", self.port))
        argv = (sys.executable, "-m", "cherrypy", "-c", str(self.settings), "-i", self.module)
        return ChildCommand(argv, directory=str(self.folder))

    def check(self, texts: Mapping[str, str]) -> Mapping[str, str]:
        """Return the syntax errors of texts by path, for this Python."""
        return syntax.check(texts)

    def remove(self) -> None:
        """Do nothing: the process has ended."""


@dataclass(frozen=True, slots=True)
class Container:
    """cherryd in a container of an image, with the Python that is there."""

    folder: Path
    module: str
    port: int
    settings: Path
    image: str
    name: str

    def command(self) -> ChildCommand:
        """podman's command: in the foreground, so that the container ends with it."""
        self.settings.write_text(configuration("0.0.0.0", PORT))  # noqa: S104 (in the container)
        # The user of the container reads them, whatever our umask is.
        self.settings.parent.chmod(0o755)
        self.settings.chmod(0o644)
        argv = podman(
            "run", "--rm", "--replace", "--name", self.name, "--publish", f"127.0.0.1:{self.port}:{PORT}",
            *(w for p in code(self.folder) for w in ("--volume", f"{p.resolve()}:{HOME}/{p.name}:ro")),
            "--volume", f"{self.settings}:{CONFIGURATION}:ro", "--workdir", HOME,
            "--no-healthcheck", "--stop-timeout", "5", *ulimits(limits()),
            self.image, "cherryd", "-c", CONFIGURATION, "-i", self.module,
        ).argv  # fmt: skip
        return ChildCommand(argv)

    def check(self, texts: Mapping[str, str]) -> Mapping[str, str]:
        """Return the syntax errors of texts by path, for the container's Python, or ours."""
        source = Path(syntax.__file__).read_text()
        asked = podman(
            "exec", "--interactive", self.name, "python", "-c", source,
            input=json.dumps(dict(texts)).encode(), timeout=30,
        )  # fmt: skip
        try:
            wrong: dict[str, str] = json.loads(Runner().run(asked))
        except (CommandError, ValueError):
            return syntax.check(texts)
        return wrong

    def remove(self) -> None:
        """Remove what a podman that was killed has left."""
        removal: Command = remove_machines([self.name])
        Runner().run(removal)
