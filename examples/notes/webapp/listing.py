"""One page of the list of notes: which notes a query string asks for, and the link to the next page."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from .document import is_storable

DEFAULT_LIMIT = 20
MAX_LIMIT = 100
MAX_QUERY = 1000
_ID = re.compile(r"[1-9][0-9]{0,17}")


class ListingError(ValueError):
    """The query string asks for something that is not a page of notes; the message says why."""


@dataclass(frozen=True, slots=True)
class Listing:
    """At most `limit` notes, newest first, older than the note `after`, with `query` somewhere in them."""

    limit: int = DEFAULT_LIMIT
    after: int | None = None
    query: str = ""

    @classmethod
    def parse(cls, parameters: Mapping[str, object]) -> "Listing":
        """Read the parameters `limit`, `after` and `q`. Raises ListingError."""
        if unknown := sorted(parameters.keys() - {"limit", "after", "q"}):
            raise ListingError(f"Unknown parameter {unknown[0][:80]!r}: there are limit, after and q.")
        for name, value in parameters.items():
            if not isinstance(value, str):
                raise ListingError(f"The parameter {name} is given more than once.")
        return cls(
            limit=_limit(str(parameters.get("limit", DEFAULT_LIMIT))),
            after=_after(str(parameters["after"])) if "after" in parameters else None,
            query=_query(str(parameters.get("q", ""))),
        )

    def next(self, last: int) -> str:
        """The path and query of the page that follows the note `last`."""
        parameters = {"limit": str(self.limit), "after": str(last)} | (
            {"q": self.query} if self.query else {}
        )
        return f"/api/notes?{urlencode(parameters)}"


def parse_id(text: str) -> int | None:
    """A note's number as a path shows it, or None: digits, no sign, no leading zero."""
    return int(text) if _ID.fullmatch(text) else None


def _limit(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,3}", text, re.ASCII) or not 1 <= int(text) <= MAX_LIMIT:
        raise ListingError(f"limit is a number from 1 to {MAX_LIMIT}.")
    return int(text)


def _after(text: str) -> int:
    number = parse_id(text)
    if number is None:
        raise ListingError("after is the number of the last note seen; follow the link in next.")
    return number


def _query(text: str) -> str:
    if len(text) > MAX_QUERY:
        raise ListingError(f"q has {len(text):,} characters; {MAX_QUERY:,} is the most it can have.")
    if not is_storable(text):
        raise ListingError("q holds a character that no note can hold.")
    return text
