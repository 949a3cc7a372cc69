"""A CherryPy module in development: as a process of ours, or in a container that has its folder mounted."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kirsch.bus.command import Command as ChildCommand
from kirsch.cluster.dev import syntax
from kirsch.cluster.provision.command import Command, CommandError, Runner
from kirsch.cluster.provision.host import limits
from kirsch.cluster.provision.podman import podman, remove_machines, ulimits

HOME = "/home/web"
# In a container, beside what the image has.
CONFIGURATION = f"{HOME}/cherryd-dev.conf"
PORT = 8080


def configuration(address: str, port: int) -> str:
    """cherryd's: CherryPy's own reloading ends with the first mistake, so it is off."""
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
        """Its command."""
        self.settings.write_text(configuration("127.0.0.1", self.port))
        argv = (sys.executable, "-m", "cherrypy", "-c", str(self.settings), "-i", self.module)
        return ChildCommand(argv, directory=str(self.folder))

    def check(self, texts: Mapping[str, str]) -> Mapping[str, str]:
        """What is wrong with texts, for this Python."""
        return syntax.check(texts)

    def remove(self) -> None:
        """Nothing is left of it."""


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
        # The user of the container reads them.
        self.settings.parent.chmod(0o755)
        package = (self.folder / self.module).is_dir()
        place = self.module if package else f"{self.module}.py"
        code = (self.folder / place).resolve()
        argv = podman(
            "run", "--rm", "--replace", "--name", self.name, "--publish", f"127.0.0.1:{self.port}:{PORT}",
            "--volume", f"{code}:{HOME}/{place}:ro",
            "--volume", f"{self.settings}:{CONFIGURATION}:ro",
            "--no-healthcheck", "--stop-timeout", "5", *ulimits(limits()),
            self.image, "cherryd", "-c", CONFIGURATION, "-i", self.module,
        ).argv  # fmt: skip
        return ChildCommand(argv)

    def check(self, texts: Mapping[str, str]) -> Mapping[str, str]:
        """What is wrong with texts, for the container's Python; ours if it does not run."""
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
