"""Messages between browsers and the Bridge: JSON objects with a `type` (docs/protocol.md). No I/O."""

import hashlib
import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

VERSION: Final = 1

# Close codes of the Bridge's own (RFC 6455, 7.4.2), beside 1001, 1003, 1009, 1011 and 1013.
MALFORMED: Final = 4400
UNAUTHENTICATED: Final = 4401
BANNED: Final = 4403
NO_HELLO: Final = 4408
REPLACED: Final = 4409
TOO_MANY: Final = 4429
SLOW: Final = 1013
TEXT_ONLY: Final = 1003

# Largest page of a room's history, in messages.
PAGE: Final = 100

# Types of messages on the broker.
MESSAGE: Final = "kirsch.message"
MARK: Final = "kirsch.mark"
# Header of a message on the broker: a hash of its room and data, which tells a message that was sent again
# from another one with the same number.
CONTENT: Final = "kirsch-content"

# A room is a routing key: words between dots, no wildcards (AMQP 0-9-1, 3.1.3.3), 255 bytes at most.
_ROOM = re.compile(r"[^\s*#\x00-\x1f\x7f]{1,100}")
_NAME: Final = 64
_KEY = re.compile(r"[A-Za-z0-9_-]{16,128}")
_NUMBERS: Final = 1 << 53
_STREAM = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Malformed(Exception):
    """A message that the protocol does not have: the reason, in a line."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of a connection.

    Attributes:
        key: the client's secret, by which it is recognised when it comes back; "" has one made.
        name: name that the client asks for.
        token: any JSON, for the application's `authenticate`; None without one.
    """

    key: str = ""
    name: str = ""
    token: Any = None

    @property
    def client(self) -> str:
        """Public name of the client, which does not reveal the key."""
        return urlsafe_b64encode(hashlib.sha256(self.key.encode()).digest()[:12]).decode()


@dataclass(frozen=True, slots=True)
class Join:
    """Join a room: receive messages after the offset `since` of `stream`, or the `last` ones, and new ones.

    `process` is the process that told the client the offset. A private room needs a `ticket`.
    """

    room: str
    since: int | None = None
    last: int = 0
    presence: bool = True
    stream: str = ""
    process: str = ""
    ticket: str = ""


@dataclass(frozen=True, slots=True)
class History:
    """Ask for the `limit` messages of a room that precede the offset `before`."""

    room: str
    before: int
    limit: int


@dataclass(frozen=True, slots=True)
class Leave:
    """Leave a room, and receive nothing more from it."""

    room: str


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message to a room, to be kept; `number` grows with each message of a client."""

    room: str
    number: int
    data: Any


@dataclass(frozen=True, slots=True)
class Signal:
    """Send something to a room that is not kept, such as that somebody is typing."""

    room: str
    data: Any


@dataclass(frozen=True, slots=True)
class Ping:
    """Ask for a sign of life: a page cannot send WebSocket pings."""


@dataclass(frozen=True, slots=True)
class Refresh:
    """Authenticate again, with another token, before the first one expires."""

    token: Any


Command = Hello | Join | History | Leave | Send | Signal | Ping | Refresh


def read(text: str) -> Command:
    """Parse a client's message. Raises Malformed."""
    try:
        said = loads(text)
    except (ValueError, RecursionError):
        raise Malformed("this is not JSON") from None
    if not isinstance(said, dict):
        raise Malformed("a message is an object with a type")
    kind = said.get("type")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise Malformed(f"type is one of {', '.join(_READERS)}")
    return reader(said)


def _hello(said: Mapping[str, Any]) -> Hello:
    key, name = said.get("key", ""), said.get("name", "")
    if not isinstance(key, str) or (key and not _KEY.fullmatch(key)):
        raise Malformed("key has 16 to 128 letters, digits, - and _")
    if not isinstance(name, str):
        raise Malformed("name is a text")
    return Hello(key, " ".join(name.split())[:_NAME], said.get("token"))


def _join(said: Mapping[str, Any]) -> Join:
    since, last, presence = said.get("since"), said.get("last", 0), said.get("presence", True)
    stream, process, ticket = said.get("stream", ""), said.get("process", ""), said.get("ticket", "")
    # -1 is what `joined` says where nothing was said before.
    if since is not None and not (type(since) is int and -1 <= since < _NUMBERS):
        raise Malformed("since is a whole number, the offset of the last message you have")
    if not _whole(last):
        raise Malformed("last is a whole number of messages")
    if not isinstance(presence, bool):
        raise Malformed("presence is true or false")
    if not isinstance(stream, str):
        raise Malformed("stream is a text, that of joined")
    if not isinstance(process, str):
        raise Malformed("process is a text, that of joined")
    if not isinstance(ticket, str):
        raise Malformed("ticket is a text")
    return Join(_room(said), since, last, presence, stream, process, ticket)


def _history(said: Mapping[str, Any]) -> History:
    before, limit = said.get("before"), said.get("limit", 50)
    if not isinstance(before, int) or not _whole(before):
        raise Malformed("before is a whole number, the offset of the first message you have")
    if not _whole(limit) or not 1 <= limit <= PAGE:
        raise Malformed(f"limit is a number of messages, 1 to {PAGE}")
    return History(_room(said), before, limit)


def _leave(said: Mapping[str, Any]) -> Leave:
    return Leave(_room(said))


def _send(said: Mapping[str, Any]) -> Send:
    number: Any = said.get("number")
    if not _whole(number) or number == 0:
        raise Malformed("number is a whole number from 1 on")
    if "data" not in said:
        raise Malformed("there is no data")
    return Send(_room(said), number, said["data"])


def _signal(said: Mapping[str, Any]) -> Signal:
    return Signal(_room(said), said.get("data"))


def _ping(_: Mapping[str, Any]) -> Ping:
    return Ping()


def _refresh(said: Mapping[str, Any]) -> Refresh:
    return Refresh(said.get("token"))


_READERS: dict[str, Callable[[Mapping[str, Any]], Command]] = {
    "hello": _hello,
    "join": _join,
    "history": _history,
    "leave": _leave,
    "send": _send,
    "signal": _signal,
    "ping": _ping,
    "refresh": _refresh,
}


def _room(said: Mapping[str, Any]) -> str:
    room = said.get("room")
    if not isinstance(room, str) or not is_room(room):
        raise Malformed("room has 1 to 100 characters, and no space, * or #")
    return room


def is_room(name: str) -> bool:
    """Return True for a possible name of a room."""
    try:
        return _ROOM.fullmatch(name) is not None and len(name.encode()) <= 255
    except UnicodeEncodeError:
        return False


def _whole(value: object) -> bool:
    return type(value) is int and 0 <= value < _NUMBERS


def loads(text: str) -> Any:
    """Parse JSON. Raises ValueError, also for numbers that are not finite, and RecursionError."""
    return json.loads(text, parse_constant=_no_number, parse_float=_finite)


def _no_number(name: str) -> Any:
    raise ValueError(name)


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0:
        raise ValueError(text)
    return number


# Messages of the server.


def text(**said: Any) -> str:
    """Return a message as JSON; `type` comes first."""
    return dumps(said)


def dumps(value: Any) -> str:
    """Return JSON without spaces, in characters that UTF-8 can encode."""
    written = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        written.encode()
    except UnicodeEncodeError:
        # A lone surrogate is written as an escape.
        written = json.dumps(value, separators=(",", ":"))
    return written


def envelope(room: str, client: str, name: str, send: Send, at: int, user: str = "") -> bytes:
    """Return a message as the stream has it: as browsers get it, but without its offset."""
    sender = {"client": client, "name": name} | ({"user": user} if user else {})
    return text(type="message", room=room, **sender, number=send.number, at=at, data=send.data).encode()


def content(room: str, data: Any) -> str:
    """Return a hash of a message's room and data."""
    written = json.dumps([room, data], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(written.encode()).hexdigest()[:16]


def page(room: str, messages: Sequence[str], before: int, more: bool) -> str:
    """Return a page of history; its messages are stamped envelopes, which are not parsed for it."""
    head = text(type="history", room=room, before=before, more=more)
    return f'{head[:-1]},"messages":[{",".join(messages)}]}}'


def foreign(room: str, body: bytes, content_type: str | None) -> bytes:
    """Wrap a message of another program in an envelope; b"" if it is neither JSON nor text."""
    if not is_room(room):
        return b""
    try:
        data: Any = body.decode()
        if content_type is not None and content_type.partition(";")[0].strip() == "application/json":
            data = loads(data)
        return text(type="message", room=room, client="", name="", number=0, at=None, data=data).encode()
    except (ValueError, RecursionError):
        return b""


def stamped(body: bytes, offset: int) -> str:
    """Return an envelope with its offset, without parsing it."""
    return f'{{"offset":{offset},{body[1:].decode()}'


@dataclass(frozen=True, slots=True)
class Marked:
    """Contents of a mark; "" and None for what it does not have.

    Attributes:
        stream: name that is stated.
        proposed: name that is proposed.
        born: offset of the proposal of the stated name.
        replaces: name that the stated one replaces, because the stream has lost messages.
    """

    stream: str = ""
    proposed: str = ""
    born: int | None = None
    replaces: str = ""


def marked(body: bytes) -> Marked:
    """Parse a mark; one of any other form has no contents."""
    try:
        said = loads(body.decode())
    except (ValueError, RecursionError):
        return Marked()
    if not isinstance(said, dict):
        return Marked()
    born = said.get("born")
    return Marked(
        _stream(said.get("stream")),
        _stream(said.get("proposed")),
        born if isinstance(born, int) and _whole(born) else None,
        _stream(said.get("replaces")),
    )


def _stream(name: object) -> str:
    return name if isinstance(name, str) and _STREAM.fullmatch(name) else ""


def message_id(client: str, number: int) -> str:
    return f"{client}:{number}"


def sender(message_id: str | None) -> tuple[str, int]:
    """Return client and number of a message_id; ("", 0) if it has another form."""
    client, _, number = (message_id or "").rpartition(":")
    return (client, int(number)) if number.isascii() and number.isdecimal() and client else ("", 0)


def members(found: Sequence[tuple[str, str, str]]) -> list[dict[str, str]]:
    """Return clients, names and users as JSON objects; guests have no user."""
    return [
        {"client": client, "name": name} | ({"user": user} if user else {}) for client, name, user in found
    ]
