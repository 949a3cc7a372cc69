"""A person's order that units are to move, checked and written down; kirsch.cluster.engine.moves does it."""

import asyncio
from collections.abc import Mapping

from kirsch.cluster.engine.rebalance import Unmet
from kirsch.cluster.engine.rebalance import planned as rebalanced
from kirsch.cluster.model import Cluster, Move, keys
from kirsch.cluster.node.machines import find
from kirsch.cluster.node.units import TRIES, Refused
from kirsch.cluster.registry.base import Delete, Put, Registry, Unchanged
from kirsch.cluster.registry.mirror import Mirror
from kirsch.cluster.registry.snapshot import Snapshots
from kirsch.unit import UnitName


def planned(name: UnitName, target: str, cluster: Cluster) -> Move:
    """The move of a unit from where it is to the machine a person means, to any other if `target` is empty.

    To where it is: that calls off a move that could not be made yet. Raises Refused (404, 409). Pure."""
    unit = cluster.units.get(name)
    if unit is None:
        raise Refused(404, f"there is no unit {name}")
    if unit.options.is_global:
        raise Refused(409, f"{name} is on every machine that it may be on: there is nothing to move")
    on = cluster.schedule.get(name, {})
    if not on:
        raise Refused(409, f"{name} is on no machine; `kirsch start {name}` puts it on one")
    machine = find(target, cluster) if target else None
    source = min(on)
    if machine is not None and machine.id == source and name not in cluster.moves:
        raise Refused(409, f"{name} is on {target} already")
    return Move(source, machine.id if machine else "")


# Seconds for which the next move of a rebalance waits for the one before it to be over.
PATIENCE = 10.0


async def rebalance(
    registry: Registry, mirror: Mirror, snapshots: Snapshots
) -> tuple[Unmet | None, Mapping[str, str]]:
    """Have one unit moved to where its Spread= wants it. Return the move, None if none can be made, and for
    each service that stays as it is why. Raises Refused, RegistryError."""
    try:
        async with asyncio.timeout(PATIENCE):
            while snapshots.now().moves:
                await mirror.reached(mirror.revision + 1)
    except TimeoutError:
        pass
    moves, refusals = rebalanced(snapshots.now())
    if not moves:
        return None, refusals
    await order(moves[0].unit, moves[0].target, registry, mirror, snapshots)
    return moves[0], refusals


async def order(
    name: UnitName, target: str, registry: Registry, mirror: Mirror, snapshots: Snapshots
) -> Move:
    """Have a unit moved. Raises Refused, RegistryError."""
    for _ in range(TRIES):
        move = planned(name, target, snapshots.now())
        entry = mirror.entries.get(keys.unit(name.text))
        condition = Unchanged(keys.unit(name.text), entry.modified if entry else 0)
        known = mirror.revision
        key = keys.move(name.text)
        write = Delete(key) if move.source == move.target else Put(key, move.to_json())
        revision = await registry.transact([write], [condition])
        if revision is not None:
            await mirror.reached(revision)
            return move
        await mirror.reached(known + 1)
    raise Refused(409, "others change the same unit at the same time; try again")
