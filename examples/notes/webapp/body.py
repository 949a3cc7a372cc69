"""The body of a request: read within limits, and its media type checked."""

import cherrypy

from kirsch.web import Problem

MAX_BYTES = 1 << 20


def body_of(*accepted: str) -> bytes:
    """The present request's body, which must be of a media type `accepted`.

    Raises Problem: 413 beyond a mebibyte, 415 when it is something else.
    """
    request = cherrypy.serving.request
    content: bytes = request.rfile.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise Problem(413, "The request is larger than 1 MiB.")
    field = request.headers.get("Content-Type", "").lower()
    media_type, *parameters = (part.strip() for part in field.split(";"))
    # RFC 5789 asks for Accept-Patch; RFC 9110 allows Accept for every other method.
    told = {"Accept-Patch" if request.method == "PATCH" else "Accept": ", ".join(accepted)}
    if media_type not in accepted:
        raise Problem(415, f"The body must be {' or '.join(accepted)}, not {media_type or 'untyped'}.", told)
    for parameter in parameters:
        if parameter.startswith("charset=") and parameter.removeprefix("charset=").strip('"') != "utf-8":
            raise Problem(415, "JSON is UTF-8 (RFC 8259): no other charset is read.", told)
    return content
