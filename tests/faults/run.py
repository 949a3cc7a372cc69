"""`make faults`: rounds of faults on real machines, and what clients and a witness saw of them."""

import argparse
import os
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults import application, clock
from tests.faults.application import BALANCER, ONCE, PAGES, STORE
from tests.faults.checker import Client, Witness, ask, namespace, running
from tests.faults.inject import Faults
from tests.faults.plan import Fault, Kind, Round, plan, turns
from tests.machines.computer import Computer, traces, words_of
from tests.machines.trial import Trial, eventually, podman
from tests.port import free_port

from kirsch.cluster.provision.record import ClusterRecord

# Seconds in which all has to be well again once the last fault is over.
BOUND = 90.0
# A paused machine wakes up with what it ran, and stops it as soon as it sees what time it is.
WAKES = 3.0


class Violation(AssertionError):
    """What may not happen whatever breaks."""


@dataclass(frozen=True)
class Seen:
    """What a round was for clients, in seconds: the longest times without a page and without a number kept,
    and until all was well after the last fault."""

    round: Round
    page: float
    numbers: float
    well: float


class Run:
    """Machines with the application, its clients, and what they have seen."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.faults = Faults(trial)
        self.port = int(trial.record.published[0].rsplit(":", 2)[1])
        self._number = 0
        self.witness = Witness()
        application.start(trial)
        self.pages = Client(self.port, lambda: ("GET", "/page"))
        self.writer = Client(self.port, self._next)

    def _next(self) -> tuple[str, str]:
        self._number += 1
        return "POST", f"/numbers/{self._number}"

    def close(self) -> None:
        for each in (self.pages, self.writer, self.witness):
            each.close()

    def play(self, round: Round) -> Seen:
        """Break machines as planned, mend them, wait until all is well, and look at what it was.

        Raises Violation.
        """
        self.well(time.monotonic())
        began = time.monotonic()
        steps = [(fault.at, fault, self._begin) for fault in round.faults]
        # Only a majority of etcd's members can replace one.
        over = max(fault.ends for fault in round.faults)
        steps += [
            (over if fault.kind is Kind.WAL else fault.ends, fault, self._end) for fault in round.faults
        ]
        order = sorted(steps, key=lambda step: (step[0], step[2] == self._end, step[1].kind is Kind.WAL))
        for at, fault, step in order:
            time.sleep(max(0.0, began + at - time.monotonic()))
            step(fault)
        over_at = time.monotonic()
        self.well(over_at)
        now = time.monotonic()
        self.judge()
        return Seen(round, self.pages.longest_gap(began), self.writer.longest_gap(began), now - over_at)

    def _begin(self, fault: Fault) -> None:
        container = self.trial.machines[fault.machine].container
        if fault.kind is Kind.PAUSED:
            self.witness.paused.add(_namespace_of(container))
        self.faults.begin(fault)

    def _end(self, fault: Fault) -> None:
        container = self.trial.machines[fault.machine].container
        if fault.kind is Kind.WAL:
            # The others may still be without a leader.
            eventually(lambda: self._mended(fault), BOUND)
        else:
            self.faults.end(fault)
        if fault.kind is Kind.PAUSED:
            time.sleep(WAKES)
            self.witness.paused.discard(_namespace_of(container))

    def _mended(self, fault: Fault) -> bool:
        try:
            self.faults.end(fault)
        except AssertionError:
            return False
        return True

    def well(self, since: float) -> None:
        """Wait until all is as it should be. Raises Violation, with what is not."""
        problems: list[str] = []

        def all_well() -> bool:
            problems[:] = self.problems(since)
            return not problems

        try:
            eventually(all_well, BOUND)
        except AssertionError:
            raise Violation(f"not well after {BOUND:.0f} s: {'; '.join(problems)}") from None

    def problems(self, since: float) -> Iterator[str]:
        """What is not as it should be."""
        trial = self.trial
        ids = {machine.id: machine for machine in trial.machines}
        for id in ids.keys() - trial.present():
            yield f"{ids[id].name} is away"
        store = trial.client.get("/kirsch/v1/store")
        for member in store["members"]:
            if member["role"] not in ("leader", "follower"):
                yield f"etcd: {member}"
        lines = trial.lines()
        for name in (STORE, *PAGES, *ONCE, BALANCER):
            line = lines.get(name, {})
            if not (line.get("active") == "active" and line.get("ready", True)):
                yield f"{name} is {line.get('active')}, ready: {line.get('ready')}"
        places = running()
        for name in ONCE:
            mark = application.MARK + name.partition("@")[2].removesuffix(".service")
            if len(places.get(mark, ())) != 1:
                yield f"{name} runs {len(places.get(mark, ()))} times"
        for machine in trial.machines:
            here = sorted(name for name in PAGES if lines.get(name, {}).get("machine") == machine.id)
            counts = trial.shell(
                machine,
                "podman ps -q | wc -l; ip -o link show type veth | grep -cv ': eth0@' || :",
                check=False,
            ).split()
            if counts != [str(len(here))] * 2:
                yield f"{machine.name} has containers and links {counts}, and should run {here}"
        if not self.pages.answers_since(since):
            yield "no page is answered"
        if not self.writer.answers_since(since):
            yield "no number is kept"

    def judge(self) -> None:
        """Raises Violation if something happened that may not."""
        acknowledged = set(self.writer.acknowledged)
        body = ask(self.port, "GET", "/numbers", 30)
        if body is None:
            raise Violation("the numbers cannot be read")
        if lost := acknowledged - set(body.decode().split()):
            raise Violation(
                f"{len(lost)} of {len(acknowledged)} acknowledged numbers are lost: {sorted(lost)[:5]}"
            )
        if self.witness.twice:
            raise Violation(f"units ran twice: {dict(self.witness.twice)}")


def _namespace_of(container: str) -> str:
    return namespace(podman("inspect", "--format", "{{.State.Pid}}", container).stdout.strip())


@contextmanager
def machines(name: str, count: int, folder: Path) -> Iterator[Trial]:
    """A cluster that is there, or one of so many machines of its own, of which nothing is left."""
    if name:
        yield Trial(ClusterRecord.load(name), folder)
        return
    computer = Computer(folder, f"faults-{os.getpid()}")
    os.environ["XDG_DATA_HOME"] = str(computer.data)
    try:
        made = computer.create(
            "c",
            "--machines",
            str(count),
            "--metadata",
            "zone=a/b/c",
            "--publish",
            f"{free_port()}:{application.PORT}",
        )
        yield Trial(ClusterRecord.load(made), folder)
        words = words_of(made)
        computer.kirsch("cluster", "destroy", "--yes", made)
        if left := traces(made, words):
            raise Violation(f"left of the cluster: {left}")
    finally:
        computer.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Play rounds of faults, and print what was seen as a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=13, help="how many (13: each kind of fault once)")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="whose plan (any)")
    parser.add_argument("--first", type=int, default=0, help="the round to begin with (0)")
    parser.add_argument("--turns", type=int, default=0, help="instead: kill each machine so often, in turn")
    parser.add_argument("--machines", type=int, choices=(3, 5), default=3, help="how many (3)")
    parser.add_argument("--cluster", default="", help="use the machines of one that is there, so many")
    parser.add_argument("--plan", action="store_true", help="print the plan, and break nothing")
    asked = parser.parse_args(argv)
    count = asked.machines
    planned = (
        turns(asked.turns, count) if asked.turns else plan(asked.seed, asked.first + asked.rounds, count)
    )
    chosen = planned[asked.first :]
    print(f"seed {asked.seed}", flush=True)
    if asked.plan:
        for each in chosen:
            print(each.number, *each.faults, sep="\n    ")
        return 0
    with tempfile.TemporaryDirectory() as folder, machines(asked.cluster, count, Path(folder)) as trial:
        jumps = any(fault.kind is Kind.CLOCK for each in chosen for fault in each.faults)
        if jumps:
            clock.install(trial)
        run = Run(trial)
        try:
            return _rounds(run, chosen)
        finally:
            run.close()
            if asked.cluster:
                application.remove(trial)
                if jumps:
                    clock.remove(trial)


def _rounds(run: Run, rounds: Sequence[Round]) -> int:
    print("| round | faults | page s | write s | well s |\n| ---: | --- | ---: | ---: | ---: |", flush=True)
    for each in rounds:
        try:
            seen = run.play(each)
        except Violation as violation:
            print(f"round {each.number}: {violation}", *each.faults, sep="\n    ", flush=True)
            return 1
        print(
            f"| {each.number} | {each.title} | {seen.page:.1f} | {seen.numbers:.1f} | {seen.well:.1f} |",
            flush=True,
        )
    print(f"{len(run.writer.acknowledged)} acknowledged numbers, 0 lost; no unit ran twice", flush=True)
    return 0
