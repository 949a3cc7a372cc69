"""Succession of a lost voter, carried out: the leader changes etcd's members, the successor starts its etcd,
and every machine goes over to the members that there are.

A machine that was away while all addresses that it knows were replaced asks other machines for the new ones.

kirschd may write neither etcd's settings nor its own (ProtectSystem=), so what a machine has to change is
done by a program of its own, which systemd starts: kirsch.cluster.provision.join.
"""

import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kirsch.cluster.api.client import Client, ClientError
from kirsch.cluster.api.transport import Https
from kirsch.cluster.engine.voters import Action, Add, Promote, Remove, Succession, View, Write, step
from kirsch.cluster.model import Machine, keys
from kirsch.cluster.model.certificates import Certificates
from kirsch.cluster.node.units import Refused
from kirsch.cluster.registry.base import Created, Put, RegistryError, Unchanged
from kirsch.cluster.registry.etcd import EtcdRegistry
from kirsch.cluster.registry.health import StoreHealth
from kirsch.cluster.registry.mirror import Mirror
from kirsch.cluster.secrets.files import write_file

log = logging.getLogger(__name__)

# Seconds from one look at the members to the next while all is well; and during a succession.
LOOK, PAUSE = 15.0, 2.0
# Seconds that a successor has until another machine is tried.
STUCK = 600.0
JOIN = "kirsch.cluster.provision.join"
# Machines that are remembered, and seconds that one of them has to answer.
REMEMBERED, ASKED = 64, 10.0


@dataclass
class Voters:
    """One machine's part in it. `patience` is how long a voter is away before another takes its place, in
    seconds; 0: only people replace one. `sign` gets the authority's key, `change` changes this machine."""

    registry: EtcdRegistry
    mirror: Mirror
    machine: Machine
    machines: Callable[[], Mapping[str, Machine]]
    cluster: str
    patience: float
    sign: Callable[[], Awaitable[None]]
    change: Callable[[Mapping[str, Any]], Awaitable[None]]
    _away_since: dict[int, float] = field(default_factory=dict, init=False)
    _begun: tuple[str, float] = field(default=("", 0.0), init=False)
    _joined: int = field(default=0, init=False)

    async def run(self) -> None:
        """Lead and follow until cancelled."""
        await asyncio.gather(self._lead(), self._follow())

    async def _lead(self) -> None:
        """Look after the members while this machine leads."""
        while self.patience:
            pause = min(LOOK, self.patience / 4)
            if self._leader() is None:
                self._away_since.clear()
            else:
                try:
                    if await self.act() or self.plan.machine:
                        pause = PAUSE
                except RegistryError as error:
                    log.info("etcd's members cannot be looked after: %s", error)
            await asyncio.sleep(pause)

    async def act(self) -> Action | None:
        """Take one step as the leader, and return it. Raises RegistryError."""
        action = step(await self._view())
        match action:
            case Write(plan):
                await self._write(plan)
            case Remove(member):
                log.warning("%s leaves etcd", member.name or member.peer)
                await self.registry.remove_member(member.id)
            case Add(peer):
                await self.registry.add_learner(peer)
            case Promote(member):
                await self.registry.promote(member.id)
        return action

    async def _follow(self) -> None:
        wake = asyncio.Event()
        wake.set()

        def notice(changed: frozenset[str]) -> None:
            if keys.VOTERS in changed:
                wake.set()

        self.mirror.listen(notice)
        try:
            while True:
                await wake.wait()
                wake.clear()
                try:
                    await self.take_part()
                except (OSError, ValueError, RegistryError, Refused) as error:
                    log.warning("this machine's part in a change of etcd's members: %s", error)
                    asyncio.get_running_loop().call_later(PAUSE, wake.set)
        finally:
            self.mirror.ignore(notice)

    async def take_part(self) -> None:
        """Do what the plan asks of this machine, once. Raises OSError, ValueError, RegistryError, Refused."""
        plan, machine = self.plan, self.machine
        if plan.machine == machine.id and plan.member and plan.member != self._joined:
            await self.sign()
            await self.change(
                {
                    "name": machine.metadata.get("hostname", machine.id),
                    "address": machine.address,
                    "cluster": self.cluster,
                    "peers": plan.peers,
                    "member": f"{plan.member:x}",
                }
            )
            self._joined = plan.member
            log.warning("this machine keeps etcd from now on, in place of one that has been away")
        if plan.urls and set(plan.urls) != set(self.registry.urls):
            await self.change({"etcd": plan.urls})
            log.info("etcd is at %s from now on", ", ".join(plan.urls))
            await self.registry.use(plan.urls)

    async def _view(self) -> View:
        now, voters, plan = asyncio.get_running_loop().time(), await self.registry.voters(), self.plan
        self._away_since = {v.id: self._away_since.get(v.id, now) for v in voters if not v.answers}
        away = frozenset(id for id, since in self._away_since.items() if now - since >= self.patience)
        if self._begun[0] != plan.machine:
            self._begun = (plan.machine, now)
        stuck = bool(plan.machine) and now - self._begun[1] > STUCK
        return View(voters, self.machines(), away, plan, stuck)

    @property
    def plan(self) -> Succession:
        """The plan as the registry has it."""
        entry = self.mirror.entries.get(keys.VOTERS)
        return Succession.parse(entry.value) if entry else Succession()

    async def _write(self, plan: Succession) -> None:
        known, leader = self.mirror.entries.get(keys.VOTERS), self._leader()
        if leader is None:
            return
        before = Unchanged(keys.VOTERS, known.modified if known else 0)
        revision = await self.registry.transact([Put(keys.VOTERS, plan.to_json())], [before, leader])
        if revision is not None:
            await self.mirror.reached(revision)
            if plan.machine and not plan.member:
                log.warning("machine %s is to keep etcd in place of one that has been away", plan.machine)

    def _leader(self) -> Created | None:
        """Return the condition that this machine leads; None if it does not."""
        entry = self.mirror.entries.get(keys.LEADER)
        return Created(keys.LEADER, entry.created) if entry and entry.value == self.machine.id else None


@dataclass
class Elsewhere:
    """Addresses of other machines, remembered in a file; they are asked where etcd is once no member that is
    known here has answered for a while. `silence` is since when, in seconds."""

    registry: EtcdRegistry
    mirror: Mirror
    machine: Machine
    certificates: Certificates
    path: Path
    silence: Callable[[], float]
    change: Callable[[Mapping[str, Any]], Awaitable[None]]

    async def run(self) -> None:
        """Remember and ask until cancelled."""
        self.mirror.listen(self._notice)
        try:
            while True:
                await asyncio.sleep(LOOK)
                if self.silence() >= LOOK:
                    await self._go_over(await asyncio.to_thread(self._ask))
        finally:
            self.mirror.ignore(self._notice)

    async def _go_over(self, urls: list[str]) -> None:
        if not urls or set(urls) == set(self.registry.urls):
            return
        log.warning("etcd is at %s by now, as another machine says", ", ".join(urls))
        try:
            await self.registry.use(urls)
            await self.change({"etcd": urls})
        except (OSError, RegistryError) as error:
            log.warning("this machine's settings are as before: %s", error)

    def _notice(self, changed: frozenset[str]) -> None:
        if not any(keys.kind(key) == keys.MACHINES for key in changed):
            return
        there = [Machine.parse(entry.value) for entry in self.mirror.below(keys.MACHINES)]
        before = self._remembered()
        # Last is who was seen last.
        known = before | {m.id: [m.address, m.api] for m in there if m.api and m.id != self.machine.id}
        if known != before:
            text = json.dumps(dict(list(known.items())[-REMEMBERED:]))
            try:
                write_file(self.path, text.encode())
            except OSError as error:
                log.warning("%s cannot be written: %s", self.path, error.strerror)

    def _remembered(self) -> dict[str, list[Any]]:
        try:
            return dict(json.loads(self.path.read_bytes()))
        except (OSError, ValueError):
            return {}

    def _ask(self) -> list[str]:
        """Return where etcd's members are, by a machine that has a quorum; empty if none says so."""
        for address, port in self._remembered().values():
            client = Client(Https(((address, port),), self.certificates), timeout=ASKED)
            try:
                health = StoreHealth.from_dict(client.get("/kirsch/v1/store"))
            except (ClientError, KeyError, TypeError):
                continue
            finally:
                client.close()
            if health.quorum:
                return [member.url for member in health.members]
        return []


async def change_machine(given: Mapping[str, Any]) -> None:
    """Have systemd start the program that changes this machine's settings. Raises OSError."""
    words = ("systemd-run", "--quiet", "--wait", "--collect", "--pipe", sys.executable, "-m", JOIN)
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate(json.dumps(given).encode())
    if process.returncode:
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        raise OSError(f"{JOIN} ended with status {process.returncode}: {last}")
