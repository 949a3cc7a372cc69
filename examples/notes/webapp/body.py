"""The body of a request: read to its end, within limits, and its media type checked."""

from typing import Any

import cherrypy
from cheroot.errors import MaxSizeExceeded

from .problem import Problem

MAX_BYTES = 1 << 20
# A client that is still sending may not see our answer: what a person may have sent is taken in first.
_PATIENCE_BYTES = 8 << 20
_PIECE = 1 << 16


def receive() -> None:
    """The hook that reads the body of every request, whether or not anybody wants it, into `request.content`.

    What is left on the connection would be taken for the next request. Raises Problem: 413 beyond a mebibyte,
    408 when it does not come, 400 when its chunks cannot be told apart.
    """
    request = cherrypy.serving.request
    try:
        request.content = request.rfile.read(MAX_BYTES + 1)
        if len(request.content) > MAX_BYTES:
            _discard(request.rfile)
            raise Problem(413, "The request is larger than 1 MiB.")
    except TimeoutError:
        raise Problem(408, "The request's body did not come.", {"Connection": "close"}) from None
    except (MaxSizeExceeded, OSError):
        raise Problem(413, "The request is far larger than 1 MiB.") from None
    except ValueError:
        raise Problem(400, "The request's chunks are malformed.", {"Connection": "close"}) from None


def body_of(*accepted: str) -> bytes:
    """The present request's body, which must be of a media type `accepted`. Raises Problem: 415."""
    request = cherrypy.serving.request
    field = request.headers.get("Content-Type", "").lower()
    media_type, *parameters = (part.strip() for part in field.split(";"))
    # RFC 5789 asks for Accept-Patch; RFC 9110 allows Accept for every other method.
    told = {"Accept-Patch" if request.method == "PATCH" else "Accept": ", ".join(accepted)}
    if media_type not in accepted:
        raise Problem(415, f"The body must be {' or '.join(accepted)}, not {media_type or 'untyped'}.", told)
    for parameter in parameters:
        if parameter.startswith("charset=") and parameter.removeprefix("charset=").strip('"') != "utf-8":
            raise Problem(415, "JSON is UTF-8 (RFC 8259): no other charset is read.", told)
    content: bytes = request.content
    return content


def _discard(rfile: Any) -> None:
    left = _PATIENCE_BYTES
    while left > 0 and (piece := rfile.read(_PIECE)):
        left -= len(piece)
