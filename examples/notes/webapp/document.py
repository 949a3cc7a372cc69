"""The JSON document a client sends: {"text": "…"}, and every way it can be wrong."""

import json
import re
from typing import Any

# A note is something a person wrote: this is a book's worth of characters.
MAX_TEXT = 200_000
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class DocumentError(ValueError):
    """The document is not one of a note; the message says why."""


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object in `body` (UTF-8, RFC 8259), with no field but `text`. Raises DocumentError."""
    try:
        document = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DocumentError(f"The body is not UTF-8: byte {error.start} cannot be read.") from None
    except json.JSONDecodeError as error:
        raise DocumentError(
            f"The body is not JSON: {error.msg}, line {error.lineno}, column {error.colno}."
        ) from None
    except (ValueError, RecursionError):
        # Numbers of thousands of digits, brackets nested thousands deep.
        raise DocumentError("The body is JSON that is too large to be a note.") from None
    if not isinstance(document, dict):
        raise DocumentError('The body is not a JSON object such as {"text": "…"}.')
    if unknown := sorted(document.keys() - {"text"}):
        raise DocumentError(
            f"Unknown field {json.dumps(unknown[0][:80])}: a note has a text and nothing else to set."
        )
    return document


def text_of(document: dict[str, Any]) -> str:
    """The text of a new or replaced note, byte for byte as it was sent. Raises DocumentError."""
    if "text" not in document:
        raise DocumentError('The field "text" is missing.')
    text = document["text"]
    if not isinstance(text, str):
        raise DocumentError('The field "text" is not a string.')
    if not text.strip():
        raise DocumentError("A note cannot be empty.")
    if len(text) > MAX_TEXT:
        raise DocumentError(f"The note has {len(text):,} characters; {MAX_TEXT:,} is the most it can have.")
    if not is_storable(text):
        raise DocumentError(
            "The note holds a character that cannot be kept (NUL, or half of a surrogate pair)."
        )
    return text


def is_storable(text: str) -> bool:
    """Whether PostgreSQL can hold `text`: it refuses NUL, and UTF-8 has no surrogates."""
    return not _UNSTORABLE.search(text)
