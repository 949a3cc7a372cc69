"""Access to rooms: users' own rooms, tickets of private rooms, and bans. No I/O, no clock.

`@USER` is a user's own room: everybody may send there, and the user alone may read it. `!NAME` is a private
room: whoever has no ticket may neither read nor send. Everything else is up to the application. A client to
which the application has given no id is a guest, a user of its own: `~CLIENT`.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Direction = Literal["read", "write"]

# Bans that are remembered, lifted ones too; seconds that an order may lie in the future.
BANS, AHEAD = 10_000, 60.0
# First character of a guest's user: no id begins with it, or it could be another's public name.
GUEST = "~"


@dataclass(frozen=True, slots=True)
class Identity:
    """The application's `authenticate` returns one for a Hello.

    Attributes:
        name: name that others in a room see.
        user: any object of the application, for `authorise` and `check`; it is never sent.
        id: name of the user, the same for all connections of one; others in a room see it. "": each client is
            a guest. It cannot begin with "~".
        roles: roles of the user, for `authorise` and `check`; they are never sent.
        expires: seconds since 1970 after which the connection is closed, unless it was refreshed.
    """

    name: str = ""
    user: Any = None
    id: str = ""
    roles: frozenset[str] = frozenset()
    expires: float = math.inf


@dataclass(frozen=True, slots=True)
class Ticket:
    """Right to read a private room, and to send there if `write`, until `expires` (seconds since 1970)."""

    write: bool = True
    expires: float = math.inf


def user_of(identity: str, client: str) -> str:
    """Return the name of the user: its id, or a guest's."""
    return identity or GUEST + client


def why_no_id(identity: str) -> str:
    """Say why this cannot be the id of a user; empty if it can."""
    return f"the id of a user cannot begin with {GUEST}" if identity.startswith(GUEST) else ""


def is_private(room: str) -> bool:
    return room.startswith("!")


def refusal(user: str, room: str, direction: Direction, ticket: Ticket | None, now: float) -> str:
    """Return why a user may not read a room, or send there; "" if the room's name does not forbid it."""
    if room.startswith("@") and direction == "read" and room != f"@{user}":
        return "only its user may read this room"
    if is_private(room):
        if ticket is None:
            return "this room is private: join it with a ticket"
        if ticket.expires <= now:
            return "the ticket has expired"
        if direction == "write" and not ticket.write:
            return "the ticket is for reading only"
    return ""


@dataclass(frozen=True, slots=True)
class Order:
    """An order to shut somebody out; it goes to all processes.

    Attributes:
        do: "kick" ends connections, or memberships of the room; "ban" does so and lets nobody back in until
            it has expired; "lift" ends a ban of the same user and room.
        user: user who is meant; "" means everybody in the room.
        room: room that is meant; "" means everything.
        until: seconds since 1970 when a ban expires.
        reason: text for whoever is shut out.
        at: seconds since 1970 when the order was given; the latest order about a user and room holds.
    """

    do: Literal["kick", "ban", "lift"]
    user: str = ""
    room: str = ""
    until: float = math.inf
    reason: str = ""
    at: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return members of an event; a ban without an end has no `until`."""
        return {name: value for name, value in asdict(self).items() if value not in ("", math.inf)}


def read_order(event: Mapping[str, Any], now: float) -> Order | None:
    """Read an order from an event of any program; None if it is none."""
    do, until, at = event.get("do"), event.get("until", math.inf), event.get("at", now)
    texts = [event.get(name, "") for name in ("user", "room", "reason")]
    if do not in ("kick", "ban", "lift") or not all(isinstance(text, str) for text in texts):
        return None
    if any(isinstance(each, bool) or not isinstance(each, int | float) for each in (until, at)):
        return None
    try:
        until, at = float(until), float(at)
    except OverflowError:
        return None
    user, room, reason = texts
    if math.isnan(until) or math.isnan(at) or not (user or room):
        return None
    return Order(do, user, room, until, reason[:100], min(at, now + AHEAD))


def _age(order: Order) -> tuple[float, str, float, str]:
    return order.at, order.do, order.until, order.reason


class Bans:
    """The bans that stand. Processes that hear the same orders in any sequence have the same bans."""

    def __init__(self) -> None:
        # The latest order about each user and room, oldest order first.
        self._orders: OrderedDict[tuple[str, str], Order] = OrderedDict()

    def take(self, order: Order) -> bool:
        """Take a ban or lift; return False if it, or a later order about the same, is known."""
        about = order.user, order.room
        known = self._orders.get(about)
        if known is not None and _age(known) >= _age(order):
            return False
        self._orders[about] = order
        self._orders.move_to_end(about)
        if len(self._orders) > BANS:
            self._orders.popitem(last=False)
        return True

    def reason(self, user: str, room: str, now: float) -> str:
        """Return why a user may not be in a room, or with room "" why it may not connect; "" if it may."""
        for about in ((user, ""), (user, room), ("", room)):
            order = self._orders.get(about)
            if order is not None and order.do == "ban" and order.until > now:
                return order.reason or ("this room is closed" if not order.user else "you are banned")
        return ""

    def standing(self, now: float) -> Iterator[Order]:
        """Yield the orders that another process has to know."""
        return (order for order in self._orders.values() if order.until > now)
