"""One request and its answer, HTTP/1.1 (RFC 9112) as kirschd speaks it.

The standard library's client takes longer to import than most verbs take to run.
"""

import socket
from typing import BinaryIO

MAX_HEAD = 64 * 1024


class BadAnswer(Exception):
    """Error: the answer is not valid HTTP, or it broke off."""


class Silent(BadAnswer):
    """The connection ended before a byte of the answer came: the server had closed it."""


def exchange(
    connection: socket.socket, method: str, target: str, host: str, body: bytes | None
) -> tuple[int, bytes, bool]:
    """The answer's status and body, and whether the connection is good for another request.

    Raises BadAnswer, and OSError as the socket does.
    """
    head = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
    if body is not None:
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    request = "\r\n".join([*head, "", ""]).encode("ascii") + (body or b"")
    try:
        connection.sendall(request)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it may have answered before it had read all
    with connection.makefile("rb") as answer:
        return _read(answer)


def _read(answer: BinaryIO) -> tuple[int, bytes, bool]:
    try:
        line = answer.readline(MAX_HEAD)
    except ConnectionResetError:
        raise Silent("the connection was reset") from None
    if not line:
        raise Silent("no answer came")
    version, _, rest = line.partition(b" ")
    if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
        raise BadAnswer("what answers there does not speak HTTP")
    fields: dict[bytes, bytes] = {}
    while (line := answer.readline(MAX_HEAD)) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        fields[name.strip().lower()] = value.strip().lower()
    if not line:
        raise BadAnswer("the answer broke off")
    kept = fields.get(b"connection") != b"close"
    if fields.get(b"transfer-encoding") == b"chunked":
        return int(rest[:3]), _read_chunks(answer), kept
    if b"content-length" not in fields:
        return int(rest[:3]), b"" if rest[:3] == b"204" else answer.read(), kept and rest[:3] == b"204"
    return int(rest[:3]), _exactly(answer, int(fields[b"content-length"])), kept


def _read_chunks(answer: BinaryIO) -> bytes:
    pieces = []
    while size := int(answer.readline(MAX_HEAD).partition(b";")[0] or b"0", 16):
        pieces.append(_exactly(answer, size))
        answer.readline(MAX_HEAD)
    while answer.readline(MAX_HEAD) not in (b"\r\n", b""):
        pass
    return b"".join(pieces)


def _exactly(answer: BinaryIO, size: int) -> bytes:
    data = answer.read(size)
    if len(data) < size:
        raise BadAnswer("the answer broke off")
    return data
