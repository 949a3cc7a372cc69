"""Who is behind a connection, and what the application's hooks say."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Identity:
    """What an application's `authenticate` makes of a Hello.

    Attributes:
        name: what others in a room see.
        user: anything of the application's own, for `authorise` and `check`; it is never sent.
    """

    name: str = ""
    user: Any = None


class Refused(Exception):
    """What a hook raises to say no: its text is sent to the client."""
