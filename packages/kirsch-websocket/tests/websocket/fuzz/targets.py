"""What is fuzzed: each target takes bytes, and raises if they bring about what nothing a peer sends may."""

from collections.abc import Callable
from typing import Any

from kirsch.websocket.core import frame, parser, protocol
from kirsch.websocket.core.deflate import Agreement, Deflate, agree, negotiate
from kirsch.websocket.core.errors import HandshakeError, ProtocolError
from kirsch.websocket.core.handshake import ClientHandshake, Policy, Redirect, accept, refusal
from kirsch.websocket.core.headers import HeadReader
from kirsch.websocket.core.limits import Limits
from kirsch.websocket.core.message import Chunk, Close
from kirsch.websocket.core.url import BadUrl, Url

try:
    from kirsch.websocket import compiled
except ImportError:
    compiled = None  # type: ignore[assignment]

LIMITS = Limits(message=5000, frame=3000, fragments=8, handshake=2000, headers=20, queue=10_000)
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
PARSERS: list[Any] = [parser.Parser, *([compiled.Parser] if compiled else [])]
PROTOCOLS: list[Any] = [protocol.Protocol, *([compiled.Protocol] if compiled else [])]
MASKS: list[Any] = [frame.mask, *([compiled.mask] if compiled else [])]


def cut(data: bytes, how: int) -> list[bytes]:
    """Cut as the lower bits of `how` say: as a whole, byte by byte, or in pieces."""
    size = (len(data) or 1, 1, 3, 7)[how & 3]
    return [data[i : i + size] for i in range(0, len(data), size)]


def codec(client: bool) -> Any:
    return Agreement().codec(client=client, limits=LIMITS)


def same(found: list[Any]) -> Any:
    """What all have found."""
    assert all(one == found[0] for one in found), found
    return found[0]


def one_line(error: Exception, right: bool = True) -> None:
    """An error is told in one line, with the right code."""
    assert right, error
    assert "\n" not in str(error)


def fuzz_parser(data: bytes) -> None:
    """Python's and the compiled parser say the same of all bytes, and raise ProtocolError only."""
    if not data:
        return
    how, data = data[0], data[1:]
    client, stream, deflated = bool(how & 4), bool(how & 8), bool(how & 16)
    found = []
    for kind in PARSERS:
        reader = kind(client=client, stream=stream, limits=LIMITS, codec=codec(client) if deflated else None)
        seen: list[Any] = []
        for piece in cut(data, how):
            try:
                reader.feed(piece)
            except ProtocolError as error:
                seen.append((error.code, error.reason))
                one_line(error, frame.sendable(error.code))
            seen.append(reader.needed)
        held = sum(len(event) for event in reader.events if isinstance(event, str | bytes | memoryview))
        # Compression aside nothing grows.
        assert deflated or held <= len(data)
        assert not stream or all(not isinstance(event, str | bytes) for event in reader.events)
        for chunk in reader.events:
            assert not isinstance(chunk, Chunk) or chunk.data or chunk.final
        found.append((seen, reader.events))
        reader.close()
    same(found)


def fuzz_protocol(data: bytes) -> None:
    """Both sides of both cores bear all bytes, and answer with a little only."""
    if not data:
        return
    how, data = data[0], data[1:]
    client, deflated = bool(how & 4), bool(how & 16)
    found = []
    for kind in PROTOCOLS:
        deflater = codec(client) if deflated else None
        side = kind(client=client, limits=LIMITS, codec=deflater, entropy=bytes)
        side.send("hello")
        said = b""
        for number, piece in enumerate(cut(data, how)):
            for event in side.receive(piece):
                side.answer(event)
            assert side.queued <= LIMITS.queue + 200
            if number % 3 == 0:
                said += b"".join(side.take())
        said += b"".join(side.take())
        # The peer of this one understands all it says.
        other = kind(client=not client, limits=LIMITS, codec=codec(not client) if deflated else None)
        events = other.receive(said)
        assert other.error is None
        assert side.error is None or (side.close_sent and events and isinstance(events[-1], Close))
        found.append((said, side.state, side.error and (side.error.code, side.error.reason)))
        side.end()
        other.end()
    same(found)


def fuzz_mask(data: bytes) -> None:
    """Both masks are one, wherever a payload begins, and undo themselves."""
    if len(data) < 5:
        return
    key, offset, payload = data[:4], data[4], memoryview(data)[5:]
    masked = same([mask(payload, key, offset) for mask in MASKS])
    assert all(mask(masked, key, offset) == payload for mask in MASKS)


def read(data: bytes, how: int, client: bool) -> tuple[Any, Any]:
    """A head, and what is wrong with it."""
    reader = HeadReader(LIMITS, client)
    for piece in cut(data, how):
        try:
            head = reader.feed(piece)
        except HandshakeError as error:
            return None, error
        if head is not None:
            return head, reader.rest
    return None, None


def fuzz_request(data: bytes) -> None:
    """A server says yes or no to all bytes, in one line."""
    if not data:
        return
    how, data = data[0], data[1:]
    request, rest = read(data, how, False)
    if len(data) < LIMITS.handshake:
        # However it was cut.
        assert read(data, 0, False)[0] == request
    if request is None:
        check_refusal(rest)
        return
    assert how & 3 or data.endswith(rest)
    policy = Policy(subprotocols=("a", "b"), origins=("http://a",) if how & 4 else None)
    try:
        accepted = accept(request, policy)
    except HandshakeError as error:
        check_refusal(error)
        return
    assert accepted.response.startswith(b"HTTP/1.1 101 ")
    assert accepted.response.count(b"\r\n\r\n") == 1
    response = HeadReader(LIMITS, client=True).feed(accepted.response)
    assert response is not None
    assert accepted.subprotocol in (None, "a", "b")


def check_refusal(error: Any) -> None:
    if error is None:
        return
    assert 400 <= error.status < 600, error
    one_line(error)
    head, _, body = refusal(error).partition(b"\r\n\r\n")
    assert HeadReader(LIMITS, client=True).feed(head + b"\r\n\r\n") is not None
    assert body.count(b"\n") <= 1


CLIENT = ClientHandshake(
    Url.parse("ws://example.com/"), subprotocols=("a",), deflate=Deflate(), nonce=b"the sample nonce"
)


def fuzz_response(data: bytes) -> None:
    """A client agrees to nothing it has not asked for, and says in one line what is wrong."""
    if not data:
        return
    how, data = data[0], data[1:]
    response, error = read(data, how, True)
    if response is None:
        assert error is None or error.status == 0
        return
    try:
        agreed = CLIENT.check(response)
    except Redirect as redirect:
        try:
            Url.parse("wss://u:p@example.com/").join(redirect.location)
        except BadUrl as error:
            one_line(error)
    except HandshakeError as error:
        one_line(error)
    else:
        assert response.status == 101
        assert agreed.subprotocol in (None, "a")


def fuzz_deflate(data: bytes) -> None:
    """Nothing decompresses to more than is allowed, or depends on how it was cut."""
    if not data:
        return
    how, data = data[0], data[1:]
    try:
        whole = codec(False).decompress(data, True)
    except ProtocolError as error:
        one_line(error, error.code in (1007, 1009))
        whole = None
    else:
        assert len(whole) <= LIMITS.message  # type: ignore[operator]
    found = b""
    other = codec(False)
    pieces = cut(data, how) or [b""]
    try:
        for number, piece in enumerate(pieces):
            found += b"".join(other.pieces(piece, number == len(pieces) - 1))
    except ProtocolError:
        assert whole is None
    else:
        assert found == whole
        for text in (b"hello" * 20, b""):
            assert codec(False).decompress(codec(True).compress(text), True) == text


def fuzz_extensions(data: bytes) -> None:
    """Any list of extensions is one, or none."""
    text = data.decode("latin-1")
    for act in (negotiate, agree):
        try:
            agreed = act.__wrapped__(text, Deflate())
        except HandshakeError as error:
            one_line(error)
        else:
            if act is negotiate and agreed is not None:
                agree.__wrapped__(agreed[1], Deflate())


def fuzz_url(data: bytes) -> None:
    """An address is read back as it is written, or refused in one line."""
    text = data.decode(errors="surrogateescape")
    try:
        url = Url.parse(text)
    except BadUrl as error:
        one_line(error)
        return
    assert url.target.isascii()
    assert not set(url.target) & set(" \r\n\t")
    handshake = ClientHandshake(url, nonce=bytes(16))
    assert handshake.request.count(b"\r\n\r\n") == 1
    try:
        again = url.join(text.partition("://")[2])
    except BadUrl:
        return
    assert again.trusts(again)
    assert again.secure in (url.secure, True)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "parser": fuzz_parser,
    "protocol": fuzz_protocol,
    "mask": fuzz_mask,
    "request": fuzz_request,
    "response": fuzz_response,
    "deflate": fuzz_deflate,
    "extensions": fuzz_extensions,
    "url": fuzz_url,
}
