"""Stand-ins for phones, and the example run as people run it."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.deadline import eventually
from tests.device.sl4a_stand_in import Sl4aStandIn
from tests.port import free_port

EXAMPLE = Path(__file__).parents[4] / "examples" / "location"
PATIENCE = 30


@pytest.fixture
def sl4a() -> Iterator[Sl4aStandIn]:
    with Sl4aStandIn() as server:
        yield server


@dataclass
class Termux:
    """The stand-in for termux-location, in a folder of its own."""

    folder: Path

    @property
    def command(self) -> str:
        return str(self.folder / "termux-location")

    @property
    def log(self) -> list[str]:
        file = self.folder / "log"
        return file.read_text().splitlines() if file.exists() else []

    def says(self, answers: dict[str, Any]) -> None:
        """ "PROVIDER REQUEST", or "*" -> out, err, status, and hang."""
        for asked, answer in answers.items():
            folder = self.folder / ("any" if asked == "*" else asked.replace(" ", "-"))
            folder.mkdir(exist_ok=True)
            for name, otherwise in (("out", ""), ("err", ""), ("status", 0)):
                (folder / name).write_text(str(answer.get(name, otherwise)))
            if answer.get("hang"):
                (folder / "hang").touch()


@pytest.fixture
def termux(tmp_path: Path) -> Termux:
    folder = tmp_path / "termux"
    folder.mkdir()
    command = folder / "termux-location"
    command.write_text((Path(__file__).parent / "termux_stand_in.sh").read_text())
    command.chmod(0o755)
    return Termux(folder)


@dataclass
class Running:
    """The application, as a process."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def said(self) -> str:
        return self.log.read_text()

    @property
    def token(self) -> str:
        return re.search(r"^Token: (\S+)$", self.said, re.MULTILINE)[1]


Start = Callable[..., Running]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts `python -m location` with arguments, and what is added to its environment."""
    running: list[Running] = []

    def start_it(
        *arguments: str, command: tuple[str, ...] = (sys.executable, "-m", "location"), **environment: str
    ) -> Running:
        port = free_port()
        log = tmp_path_factory.mktemp("location") / "log"
        foreign = ("AP_", "KIRSCH", "LOCATION", "PORT")
        env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*command, "--port", str(port), *arguments],
                cwd=EXAMPLE,
                env=env | environment,
                stdout=out,
                stderr=out,
            )
        started = Running(process, port, log)
        running.append(started)

        def serves() -> bool:
            assert process.poll() is None, started.said
            return "Bus STARTED" in started.said

        eventually(serves, PATIENCE, "the application")
        return started

    yield start_it
    for each in running:
        each.process.terminate()
    for each in running:
        assert each.process.wait(PATIENCE) == 0, each.said
        assert "Traceback" not in each.said
