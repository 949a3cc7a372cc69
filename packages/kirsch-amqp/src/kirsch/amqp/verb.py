"""The verb `kirsch room`: rooms of a Bridge, from the command line.

An entry point of the group kirsch.verbs.
"""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime

from kirsch.amqp.broker import Broker, BrokerError, broker_from
from kirsch.amqp.client import RoomClient, RoomError, RoomMessage
from kirsch.cli.errors import Failure, Misuse
from kirsch.cli.journal import printable
from kirsch.cli.values import JSON, count
from kirsch.cli.verb import Noun, Options, argument, flag, option

room = Noun("room")
BRIDGE = option("--bridge", metavar="NAME", default="kirsch", help="the name of the Bridge (kirsch)")
URL = option(
    "--url", metavar="URL", help="the broker, amqp://HOST/; its password belongs in AMQP_URL, and not here"
)
REASON = option("--reason", metavar="TEXT", default="", help="what the user is told")
WHERE = (
    "The broker is the one of AMQP_URL, or of the link of a unit: `kirsch exec chat@1 kirsch room ...` has "
    "what that unit has."
)


@room.verb(
    "send",
    "send a message to a room",
    argument("room", "ROOM", "the room"),
    argument("message", "TEXT", "the message; without it standard input, a message a line", optional=True),
    flag("--json", help="the message is JSON"),
    BRIDGE,
    URL,
    text=f"It returns once the broker has the message. {WHERE}",
    example="kirsch room send lobby 'The kettle is on.' --bridge chat",
)
def send(options: Options) -> int:
    """Send one message, or one for each line of standard input."""
    texts = [options.message] if options.message is not None else (line.rstrip("\n") for line in sys.stdin)
    with _connected(options) as rooms:
        for text in texts:
            try:
                rooms.send(options.room, json.loads(text) if options.json else text)
            except json.JSONDecodeError as error:
                raise Misuse(f"the message is not JSON: {error}") from None
            except ValueError as error:
                raise Misuse(str(error)) from None
    return 0


@room.verb(
    "tail",
    "print messages as they come",
    argument("rooms", "ROOM", "the rooms (all)", many=True, optional=True),
    option(
        "--since", metavar="WHEN", default="next", help="first, an offset, or a time back: 90s, 5m, 1h, 7D"
    ),
    option("-n", "--messages", metavar="NUMBER", type=count, help="end after so many"),
    BRIDGE,
    URL,
    JSON,
    text=f"It goes on until Ctrl-C. {WHERE}",
    example="kirsch room tail lobby --bridge chat --since 1h",
)
def tail(options: Options) -> int:
    """Print messages until Ctrl-C."""
    since = int(options.since) if options.since.isdecimal() else options.since
    if isinstance(since, int) and since >= 2**63:
        raise Misuse(f"--since {since}: an offset is less than 2**63")
    with _connected(options) as rooms:
        try:
            for number, message in enumerate(rooms.tail(options.rooms, since), 1):
                print(_line(message, options.json), flush=True)
                if number == options.messages:
                    break
        except ValueError as error:
            raise Misuse(str(error)) from None
    return 0


@room.verb(
    "kick",
    "have a user leave a room, or everything",
    argument("user", "USER", "the user's id"),
    argument("room", "ROOM", "the room (all)", optional=True, default=""),
    flag("--ban", help="let nobody of that name back in"),
    REASON,
    BRIDGE,
    URL,
    text=f"A process that is not connected to the broker hears of it later, from one that is. {WHERE}",
    example="kirsch room kick eve lobby --reason 'No advertising.'",
)
def kick(options: Options) -> int:
    """Kick or ban a user."""
    with _connected(options) as rooms:
        rooms.order("ban" if options.ban else "kick", options.user, options.room, reason=options.reason)
    return 0


@room.verb(
    "lift",
    "lift the ban of a user",
    argument("user", "USER", "the user's id"),
    argument("room", "ROOM", "the room (all)", optional=True, default=""),
    BRIDGE,
    URL,
    text=WHERE,
    example="kirsch room lift eve lobby",
)
def lift(options: Options) -> int:
    """Let a banned user back in."""
    with _connected(options) as rooms:
        rooms.order("lift", options.user, options.room)
    return 0


@contextmanager
def _connected(options: Options) -> Iterator[RoomClient]:
    """Connect for the time of a with statement. Raises Failure."""
    # The error says it all.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    try:
        broker = Broker.parse(options.url) if options.url else broker_from()
        with RoomClient(broker, options.bridge) as rooms:
            yield rooms
    except (BrokerError, RoomError) as error:
        raise Failure(str(error)) from None


def _line(message: RoomMessage, as_json: bool) -> str:
    if as_json:
        return json.dumps(asdict(message), ensure_ascii=False)
    at = "" if message.at is None else f"{datetime.fromtimestamp(message.at / 1000):%H:%M:%S} "
    data = message.data if isinstance(message.data, str) else json.dumps(message.data, ensure_ascii=False)
    who = f"{message.name or message.client}: " if message.client else ""
    return printable(f"{at}{message.room} {who}{data}")
