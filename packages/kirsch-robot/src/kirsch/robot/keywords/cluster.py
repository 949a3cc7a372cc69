"""Keywords about clusters: made, used, broken, taken away."""

import json
import time
from datetime import timedelta
from pathlib import Path

from kirsch.robot.application import free_port, is_free
from kirsch.robot.cluster import Cluster, OnCluster
from kirsch.robot.keywords.session import PATIENCE, Keywords
from kirsch.robot.output import Moment
from kirsch.robot.units import Line, find, is_in
from robot.api import logger
from robot.api.deco import keyword

# A lost machine's units are elsewhere after its lease and some seconds, and then they start.
MOVED = timedelta(seconds=60)
BOOT = timedelta(seconds=90)


class ClusterKeywords(Keywords):
    """One cluster a suite. Its machines are containers of podman, and root's."""

    @keyword
    def create_cluster(self, name: str, *options: str) -> None:
        """Runs ``kirsch cluster create``; the cluster is destroyed at the suite's end, if not before.

        | Create Cluster    story    --machines    3    --publish    7070:8091
        """
        self.session.cluster = Cluster.create(name, *options)

    @keyword
    def this_port_or_another(self, port: int) -> int:
        """A port of this computer, if nobody listens there, else one that is free.

        | ${port} =    This Port Or Another    7070
        """
        return port if is_free(port) else free_port()

    @keyword
    def destroy_cluster(self) -> str:
        """Runs ``kirsch cluster destroy``; returns what it said."""
        cluster = self._cluster()
        self.session.cluster = None
        said = cluster.destroy()
        logger.info(said)
        return said

    @keyword
    def use_application_on_cluster(self, directory: Path) -> str:
        """From here on commands and paths are those of an application on the cluster; returns its address.

        The folder is used as it is, not a copy of it.
        """
        session = self.session
        session.current = OnCluster.of(directory.resolve(), self._cluster().name)
        session.applications[directory.resolve()] = session.current
        return session.current.address

    @keyword
    def machine_of(self, unit: str) -> str:
        """The name of the machine that a unit is on."""
        line = find(self.session.application.unit_lines(), unit)
        if line is None or not line["machine"]:
            raise AssertionError(f"{unit} is on no machine")
        return self._cluster().machine(str(line["machine"])).name

    @keyword
    def kill_machine(self, name: str) -> Moment:
        """Ends a machine as a power cut does; returns the moment.

        | ${machine} =    Machine Of    notes@1
        | ${killed} =     Kill Machine    ${machine}
        """
        moment = self._cluster().kill(name)
        logger.info(str(moment))
        return moment

    @keyword
    def boot_machine(self, name: str, timeout: timedelta = BOOT) -> None:
        """Switches a machine on that was killed, and waits until it is in the cluster again."""
        self._cluster().boot(name)
        wanted = self._cluster().machine(name).id
        deadline = time.monotonic() + timeout.total_seconds()
        while wanted not in self._present():
            if time.monotonic() > deadline:
                raise AssertionError(f"machine {name} is not in the cluster within {timeout}")
            time.sleep(0.2)

    @keyword
    def wait_until_unit_is_ready_on(self, unit: str, machine: str, timeout: timedelta = BOOT) -> None:
        """Waits until a unit that is on every machine is ready on one.

        | Wait Until Unit Is Ready On    lb    n2
        """
        wanted = self._cluster().machine(machine).id
        deadline = time.monotonic() + timeout.total_seconds()
        while True:
            done = self.session.application.kirsch("list-units", "--json", timeout=PATIENCE.total_seconds())
            lines = json.loads(done.stdout) if done.returncode == 0 else []
            mine = [
                each for each in lines if each["machine"] == wanted and each["name"].startswith(f"{unit}.")
            ]
            if mine and is_in(mine[0], "ready"):
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"{unit} is not ready on {machine} within {timeout}")
            time.sleep(0.2)

    @keyword
    def wait_until_unit_is_elsewhere(self, unit: str, machine: str, timeout: timedelta = MOVED) -> None:
        """Waits until a unit is ready on another machine than one."""
        left = self._cluster().machine(machine).id

        def moved(line: Line) -> bool:
            return is_in(line, "ready") and line["machine"] not in ("", left)

        states = self.session.application.states
        assert states is not None
        if not states.wait_for(unit, moved, timeout.total_seconds()):
            raise AssertionError(f"{unit} is not elsewhere within {timeout}: it is {states.last(unit)}")

    def _present(self) -> set[str]:
        done = self.session.application.kirsch("list-machines", "--json", timeout=PATIENCE.total_seconds())
        return {machine["id"] for machine in json.loads(done.stdout)} if done.returncode == 0 else set()

    def _cluster(self) -> Cluster:
        if self.session.cluster is None:
            raise AssertionError("there is no cluster: `Create Cluster` makes one")
        return self.session.cluster
