"""SL4A's JSON-RPC, one object a line: requests to bytes, bytes to answers. No I/O.

A request is {"id", "method", "params"}, its answer {"error", "id", "result"}; the first call of a connection
is `_authenticate`.
"""

import json
from dataclasses import dataclass
from typing import Any

from kirsch.device.error import BadAnswer, one_line

MOST = 1 << 20  # bytes of a line


@dataclass(frozen=True, slots=True)
class Answer:
    """Result of a call; `error` is empty unless it failed."""

    id: int
    result: Any
    error: str = ""


def request(number: int, method: str, *params: Any) -> bytes:
    """Encode a call for the wire."""
    return json.dumps({"id": number, "method": method, "params": params}).encode() + b"\n"


class Answers:
    """Parser of answers: bytes in, complete answers out."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, received: bytes) -> list[Answer]:
        """The answers that end in these bytes. Raises BadAnswer; nothing can be read after that."""
        *lines, self._rest = (self._rest + received).split(b"\n")
        if max(map(len, [*lines, self._rest])) > MOST:
            raise BadAnswer(f"an answer has more than {MOST:,} bytes")
        return [_answer(line) for line in lines if line.strip()]


def _answer(line: bytes) -> Answer:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        raise BadAnswer(f"an answer is not JSON: {one_line(line.decode('utf-8', 'replace'), 60)}") from None
    if not isinstance(fields, dict):
        raise BadAnswer("an answer is no JSON object")
    number, error = fields.get("id"), fields.get("error")
    if isinstance(number, bool) or not isinstance(number, int):
        raise BadAnswer("an answer does not say to which call it belongs (id)")
    if error is not None:
        return Answer(number, None, one_line(error) or "an error without words")
    return Answer(number, fields.get("result"))
