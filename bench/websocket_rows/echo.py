"""Messages there and back over one connection: as they are, and compressed."""

import json
import tempfile
import zlib
from functools import partial

from .row import Figure, Row, Run, short, size
from .servers import Skipped
from .subjects import KIRSCH_SUBJECTS, PEER_SUBJECTS, SUBJECTS

SIZES = (64, 1 << 10, 64 << 10, 1 << 20)
PEERS = tuple(subject.name for subject in PEER_SUBJECTS)
KIRSCH = tuple(subject.name for subject in KIRSCH_SUBJECTS)
# ws4py needs a second for a few messages of this size.
SLOW = ("ws4py", "ws4py-gevent")
UNCOMPRESSED = ("raw", "picows", "picows-uvloop", *SLOW)
DOCUMENT = json.dumps(
    [
        {"id": 7919 * n % 10007, "name": f"cherry {n}", "price": round(n * 3.7 % 11, 2), "ripe": n % 3 == 0}
        for n in range(30)
    ]
)[:1024].encode()


def echo(bytes: int, flight: int, name: str, run: Run) -> tuple[float]:
    raw = int(SUBJECTS[name].floor)
    rate, _ = run.messages("echo", run.servers.echo(name), size=bytes, flight=flight, raw=raw)
    return (rate,)


def deflate(agreement: int, name: str, run: Run) -> tuple[float]:
    server = run.servers.echo(name)
    with tempfile.NamedTemporaryFile() as file:
        file.write(compress(DOCUMENT))
        file.flush()
        rate, found = run.messages("echo", server, payload=file.name, flight=100, deflate=agreement)
    answer = zlib.decompressobj(-15).decompress(bytes.fromhex(str(found["sample"])) + b"\0\0\xff\xff")
    if answer != DOCUMENT:
        raise Skipped("the answer is not what was sent")
    return (rate,)


def compress(message: bytes) -> bytes:
    """A message's payload (RFC 7692, 7.2.1)."""
    deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
    return (deflater.compress(message) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


def rows() -> list[Row]:
    found = []
    for flight in (100, 1):
        for count in SIZES:
            peers = tuple(name for name in PEERS if count < 64 << 10 or name not in SLOW)
            figure = Figure(f"echo, {flight} in flight", size(count), "messages/s")
            key = f"echo-{short(count)}-{flight}"
            found.append(Row(key, (figure,), (*peers, *KIRSCH), partial(echo, count, flight)))
    subjects = (*(name for name in PEERS if name not in UNCOMPRESSED), *KIRSCH)
    # 1 as the client offers it; 2 for those who keep a context whatever is offered: the same document again
    # is then little work, so the two do not compare.
    for agreement, key, column in (
        (1, "deflate", "1 KiB of JSON"),
        (2, "deflate-context", "1 KiB of JSON, context kept"),
    ):
        figure = Figure("permessage-deflate, 100 in flight", column, "messages/s")
        found.append(Row(key, (figure,), subjects, partial(deflate, agreement)))
    return found
