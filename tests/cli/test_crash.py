"""kill -9 of kirschd at any moment: what was acknowledged is there, what should run runs, once each."""

import os
import random
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.cli.application import Application, alive, descendants, wait_for

from kirsch.cluster.api.client import Client, ClientError
from kirsch.cluster.application import load
from kirsch.cluster.application.embedded import launch

ROUNDS = 50
NAMES = [f"u{number}.service" for number in range(6)]
UNITS = "/kirsch/v1/units"


@dataclass
class People:
    """Somebody who submits, starts, stops and destroys without a pause, and remembers what was acknowledged.

    `known` is what each unit's state was acknowledged to be, `doubt` what it may be instead, because the
    answer to the last request never came.
    """

    client: Client
    mark: str
    random: random.Random
    known: dict[str, str] = field(default_factory=dict)
    doubt: dict[str, str] = field(default_factory=dict)
    done: int = 0
    refused: bool = False

    def work(self) -> None:
        """Until kirschd does not answer any more."""
        while True:
            name = self.random.choice(NAMES)
            wanted = self.random.choice(["launched", "launched", "loaded", "inactive", "gone"])
            if name not in self.known and wanted == "gone":
                continue
            self.doubt[name] = wanted
            try:
                if wanted == "gone":
                    self.client.delete(f"{UNITS}/{name}")
                else:
                    text = f"[Service]\nExecStart=sleep {self.mark} {NAMES.index(name)}\n"
                    self.client.put(f"{UNITS}/{name}", {"text": text, "desiredState": wanted})
            except ClientError as error:
                self.refused = error.status != 0
                return
            del self.doubt[name]
            self.done += 1
            if wanted == "gone":
                del self.known[name]
            else:
                self.known[name] = wanted

    def settle(self, found: dict[str, str]) -> None:
        """What is found must be what was acknowledged, or asked for last; from now on that is known."""
        for name in NAMES:
            possible = {self.known.get(name, "gone"), self.doubt.get(name, self.known.get(name, "gone"))}
            assert found.get(name, "gone") in possible, name
        self.known, self.doubt = dict(found), {}


def running(mark: str) -> list[str]:
    """The numbers of the units that run, each as often as it does."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        # sleep(1) adds its arguments up: the first is this test's, the second the unit's.
        if words[0] == b"sleep" and words[1] == mark.encode():
            found.append(words[2].decode())
    return sorted(found)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_kill_9_at_any_moment(application: Application):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    application.sleeper("unused.service")
    loaded = load(application.directory)
    client = Client(application.directory / ".kirsch/kirsch.sock")
    people = People(client, str(random.randrange(10**8, 10**9)), random.Random(seed))
    moments = random.Random(seed + 1)

    for _ in range(ROUNDS):
        embedded = launch(loaded, attached=False)
        people.settle({line["name"]: line["desired"] for line in client.get(UNITS)["units"]})

        expected = sorted(
            str(NAMES.index(name)) for name, state in people.known.items() if state == "launched"
        )
        wait_for(lambda expected=expected: running(people.mark) == expected, f"{expected} run, once each")

        worker = threading.Thread(target=people.work)
        worker.start()
        time.sleep(moments.uniform(0, 0.25))  # the moment is what is tested
        pids = descendants(embedded.process.pid)
        os.kill(embedded.process.pid, signal.SIGKILL)
        embedded.wait()
        worker.join()
        assert not people.refused
        # It may have started another between the look and the end.
        wait_for(lambda pids=pids: not alive(pids) and not running(people.mark), "nothing of it is left")
    assert people.done > ROUNDS
