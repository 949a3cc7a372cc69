"""What people do with a simulated cluster: each order goes to some kirschd, as from the command line."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random

from tests.simulation.host import CRASHES
from tests.simulation.machine import SimulatedMachine
from tests.simulation.scenario import Act
from tests.simulation.truth import Truth

from kirsch.cluster.model.release import with_scale
from kirsch.cluster.node import releases
from kirsch.cluster.node.machines import SettingsChange
from kirsch.cluster.node.node import Node
from kirsch.cluster.node.orders import order
from kirsch.cluster.node.units import Note, Refused, Request
from kirsch.cluster.registry.base import RegistryError
from kirsch.unit import UnitName
from kirsch.unit.release import read_policy

# How long somebody waits for an answer, and how often they try.
PATIENCE = 8.0
TRIES = 3
# Seconds until all releases are over, once people end what waits for them.
SETTLED = 200
# Seconds after which no order is on its way any more.
LATE = PATIENCE * TRIES

OF_RELEASES = ("release", "steer", "scale", "rollback")
OF_UNITS = ("submit", "start", "restart", "load", "unload", "destroy", "change", "move")
OF_MACHINES = ("drain", "cordon", "uncordon", "set")
VERBS = frozenset((*OF_RELEASES, *OF_UNITS, *OF_MACHINES))


class People:
    """They ask whichever machine answers; an order that none takes is given up."""

    def __init__(
        self,
        machines: Mapping[str, SimulatedMachine],
        texts: Mapping[str, str],
        truth: Truth,
        random: Random,
        trace: Callable[[str, str], None],
    ) -> None:
        self.machines = machines
        self.texts = texts
        self.truth = truth
        self.random = random
        self.trace = trace
        self._versions = 0

    async def want(self, act: Act) -> None:
        """One order."""
        if act.argument == "settle":
            await self._settle(act)
            return
        self._versions += 1
        version = self._versions
        for _ in range(TRIES):
            nodes = [m.kirschd.node for m in self.machines.values() if m.kirschd and m.link.up]
            nodes = [node for node in nodes if node.mirror.revision]
            if nodes:
                try:
                    async with asyncio.timeout(PATIENCE):
                        await self._ask(act, self.random.choice(nodes), version)
                    self.trace("people", f"{act.verb} {act.subject} {act.argument}: done")
                    return
                except Refused as refused:
                    self.trace("people", f"{act.verb} {act.subject}: {refused.message}")
                    return
                except (RegistryError, TimeoutError) as error:
                    self.trace("people", f"{act.verb} {act.subject}: {error or 'no answer'}")
            await asyncio.sleep(1)

    async def _ask(self, act: Act, node: Node, version: int) -> None:
        match act.verb:
            case "drain":
                await node.machines.change({act.subject: SettingsChange(drained=True)})
            case "cordon":
                await node.machines.change({act.subject: SettingsChange(cordoned=True)})
            case "uncordon":
                await node.machines.change({act.subject: SettingsChange(cordoned=False)})
            case "set":
                key, _, value = act.argument.partition("=")
                await node.machines.change({act.subject: SettingsChange({key: value})})
            case "move":
                await self._move(UnitName.parse(act.subject), act.argument, node)
            case "release":
                await self._release(act, node, version)
            case "steer":
                await self._steer(act, node)
            case "scale":
                template = UnitName.parse(f"{act.subject}@.service")
                await node.units.scale({template: int(act.argument)}, Note(who="people"))
            case "rollback":
                await node.units.bring_back(act.subject, None, Note(who="people"))
            case "destroy":
                await node.units.destroy(UnitName.parse(act.subject))
            case _:
                await node.units.change([self._request(act, node, version)])

    async def _move(self, name: UnitName, target: str, node: Node) -> None:
        places = self.truth.cluster().schedule.get(name, {})
        unit = self.truth.cluster().units.get(name)
        sticky = unit is not None and unit.options.sticky
        if sticky and not all(self.truth.there(machine) for machine in places):
            # Whoever takes data from a machine that is away has to see to it that it is not used there.
            raise Refused(409, f"the machine of {name} is away")
        await order(name, target, node.registry, node.mirror, node.snapshots)

    async def _release(self, act: Act, node: Node, version: int) -> None:
        """Another text for all instances of a service; of HOW NUMBER only that one is not well. As by
        `kirsch up`, the number of instances is that to which people have scaled the service."""
        given = [name for name in self.texts if name.startswith(f"{act.subject}@")]
        templates = [name for name in given if UnitName.parse(name).is_template]
        how, *words = act.argument.split()
        numbers = {word for word in words if word.isdecimal()}
        there = {name.text for name in node.cluster().units if name.service == act.subject}
        start = [name for name in given if name not in templates]
        scale: Mapping[str, int] | None = None
        if templates:
            start, scale, _ = with_scale(start, releases.scale_of(act.subject, node.cluster()), there)
        requests = []
        for name in (*templates, *start):
            parsed = UnitName.parse(name)
            mine = how if not numbers or parsed.instance in numbers else "runs"
            text = self.texts.get(name) or self.texts[templates[0]]
            desired = None if name in templates else "launched"
            requests.append(Request(parsed, f"{text}# {mine} {version}\n", desired))
        command = self.random.choice(("", "", "migrate", f"migrate {CRASHES}"))
        options = dict(word.split("=") for word in words if "=" in word)
        note = Note(
            policy=read_policy({**options, **({"command": command} if command else {})}),
            at_once=self.random.random() < 0.3,
        )
        await node.units.release(act.subject, requests, note, scale=scale)

    async def _steer(self, act: Act, node: Node) -> None:
        mine = [each for each in node.cluster().active if each.application == act.subject]
        for verb in releases.VERBS:
            if mine and verb == act.argument:
                await node.units.steer(mine[0], verb)

    async def _settle(self, act: Act) -> None:
        """Leave no release that waits for a person."""
        verbs = {"paused": "abort", "canary": "promote"}
        for turn in range(SETTLED):
            states = [each.state for each in self.truth.cluster().active]
            if not states and turn > LATE:
                return
            if verb := verbs.get(states[0] if states else ""):
                await self.want(replace(act, argument=verb))
            await asyncio.sleep(1)

    def _request(self, act: Act, node: Node, version: int) -> Request:
        name, text = UnitName.parse(act.subject), self.texts[act.subject]
        there = node.cluster().units.get(name)
        match act.verb:
            case "submit":
                return Request(name, text)
            case "change":
                return Request(name, f"{text}# version {version}\n")
            case "start":
                return Request(name, None if there else text, "launched")
            case "restart":
                return Request(name, None if there else text, "launched", again=True)
            case "load":
                return Request(name, None if there else text, "loaded")
            case _:
                return Request(name, None if there else text, "inactive")
