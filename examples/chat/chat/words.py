"""What people may be called, which rooms there can be, and what may be said there. Values in, values out."""

import re
import unicodedata
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Any

from kirsch.amqp import Identity, Refused

# Always there, in this order.
ROOMS = ("lobby", "kitchen", "garden")
# Where those who open another room say so: every page is in it.
DIRECTORY = "~rooms"
LONGEST_NAME = 40
LONGEST_TEXT = 4000
_PERSON = re.compile("[A-Za-z0-9_-]{32}")
_ROOM = re.compile(r"[\w][\w-]{0,39}")
# Joiners, which scripts and emoji need: invisible between characters of ASCII.
_JOINERS = "\u200c\u200d"
# Controls but for line ends and tabs, halves of surrogate pairs, and what would turn the line around it.
_UNSEEMLY = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def named(name: str, person: Any = None) -> Identity:
    """Who calls themselves so. Raises Refused.

    `person` is a secret of the browser's, the same in all its windows: they are one user.
    """
    if not name.strip():
        raise Refused("Say what you are called.")
    if len(name) > LONGEST_NAME:
        raise Refused(f"A name has {LONGEST_NAME} characters at most.")
    if _UNSEEMLY.search(name) or _invisible(name) or not any(letter.isalnum() for letter in name):
        raise Refused("A name has letters or digits, and nothing that cannot be seen.")
    return Identity(name, id=_public(person))


def _public(person: Any) -> str:
    """Return a name of the person for everybody, which does not tell the secret."""
    if not isinstance(person, str) or not _PERSON.fullmatch(person):
        return ""
    return urlsafe_b64encode(sha256(f"chat person {person}".encode()).digest()[:12]).decode()


def _invisible(name: str) -> bool:
    """Return True for a name with characters that are not seen, and so looks like another one."""
    for number, letter in enumerate(name):
        if letter in _JOINERS:
            around = name[number - 1 : number] + name[number + 1 : number + 2]
            if len(around) < 2 or any(each.isascii() or each in _JOINERS for each in around):
                return True
        elif unicodedata.category(letter) in ("Cf", "Zl", "Zp") or letter in "\u115f\u1160\u3164\uffa0\u2800":
            return True
    return False


def is_room(room: str) -> bool:
    """Whether there can be such a room: letters of any script, digits, dashes."""
    return room == DIRECTORY or bool(_ROOM.fullmatch(room))


def checked(room: str, data: Any) -> dict[str, str]:
    """What is sent of what somebody says: a text, in the directory the name of a room. Raises Refused."""
    if not isinstance(data, dict):
        raise Refused("This is no message.")
    if room == DIRECTORY:
        name = data.get("room")
        if not isinstance(name, str) or name == DIRECTORY or not is_room(name):
            raise Refused("A room's name has letters, digits and dashes, 40 at most.")
        return {"room": name}
    text = data.get("text")
    if not isinstance(text, str) or not text.strip():
        raise Refused("A message cannot be empty.")
    if len(text) > LONGEST_TEXT:
        raise Refused(f"A message has {LONGEST_TEXT:,} characters at most.")
    return {"text": _UNSEEMLY.sub("\N{REPLACEMENT CHARACTER}", text)}
