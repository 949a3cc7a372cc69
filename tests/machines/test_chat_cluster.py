"""The chat as containers: `kirsch up examples/chat --on CLUSTER`, and people at different machines."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.deadline import eventually
from tests.machines.conftest import kirsch

from kirsch.cluster.provision.record import ClusterRecord
from kirsch.websocket import Closed, HandshakeError
from kirsch.websocket.threaded import Connection, connect

pytestmark = [pytest.mark.machines, pytest.mark.root, pytest.mark.soak]

CHAT = str(Path(__file__).parents[2] / "examples" / "chat")
PATIENCE = 90


@pytest.fixture(scope="module")
def addresses(cluster: ClusterRecord) -> Iterator[list[str]]:
    """Where the chat is: HAProxy on each machine."""
    kirsch("up", CHAT, "--on", cluster.name, "--timeout", "600")
    yield [f"ws://{machine.address}:8888/ws" for machine in cluster.machines]
    kirsch("down", CHAT, "--on", cluster.name)


class Person:
    """Somebody in a room, by whichever balancer; comes back when the connection is lost."""

    def __init__(self, url: str, name: str, room: str) -> None:
        self.url = url
        self.name = name
        self.room = room
        self.key = f"{name}-{time.time_ns()}-key"
        self.number = 0
        self.heard: list[str] = []
        self._offset: int | None = None
        self._connection: Connection | None = None
        self.come()

    def come(self) -> None:
        """Connect, and be in the room."""

        def opened() -> Connection | None:
            try:
                return connect(self.url, timeout=20)
            except (HandshakeError, OSError):
                return None

        self._connection = eventually(opened, PATIENCE, "a connection")
        self._say(type="hello", key=self.key, name=self.name)
        since = {"last": 50} if self._offset is None else {"since": self._offset}
        self._say(type="join", room=self.room, **since)

    def say(self, text: str) -> None:
        self.number += 1
        self._say(type="send", room=self.room, number=self.number, data={"text": text})

    def hear(self, text: str) -> None:
        """Wait until somebody has said so."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.heard:
            assert time.monotonic() < deadline, f"{self.name} has heard {self.heard}, not {text}"
            try:
                said = json.loads(self._open.recv(timeout=PATIENCE))
            except Closed:
                self.come()
                continue
            if said["type"] == "message":
                self._offset = said["offset"]
                self.heard.append(said["data"]["text"])
            elif said["type"] == "joined" and self._offset is None:
                self._offset = said["offset"]

    def go(self) -> None:
        self._open.close()

    @property
    def _open(self) -> Connection:
        assert self._connection is not None
        return self._connection

    def _say(self, **said: Any) -> None:
        self._open.send(json.dumps(said))


def test_people_at_different_machines_talk(addresses: list[str], cluster: ClusterRecord):
    room = f"room-{time.time_ns()}"
    people = [Person(url, f"person{n}", room) for n, url in enumerate(addresses)]
    for person in people:
        person.say(f"{person.name} is here")
    for person in people:
        for other in people:
            person.hear(f"{other.name} is here")
    # Each instance is stopped once: whoever was connected through it comes back, and misses nothing.
    for unit in ("chat@1", "chat@2"):
        kirsch("stop", unit, "--cluster", cluster.name)
        people[0].come()
        people[0].say(f"without {unit}")
        for person in people:
            person.hear(f"without {unit}")
        kirsch("start", unit, "--cluster", cluster.name)
    # What was said is in a volume: another container of the broker has it.
    kirsch("restart", "rabbitmq", "--cluster", cluster.name)
    late = Person(addresses[-1], "late", room)
    late.hear("without chat@2")
    assert late.heard[: len(people)] == people[0].heard[: len(people)]
    assert all(len(person.heard) == len(set(person.heard)) for person in [*people, late])
    for person in [*people, late]:
        person.go()
