"""permessage-deflate: what is agreed on, what comes out of what goes in, and what a peer cannot do to us."""

import random
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.websocket.core.deflate import (
    PIECE,
    RATIO_FREE,
    TAIL,
    Agreement,
    Deflate,
    agree,
    negotiate,
    offer,
)
from kirsch.websocket.core.errors import HandshakeError, ProtocolError
from kirsch.websocket.core.headers import parse_extensions
from kirsch.websocket.core.limits import Limits

LIMITS = Limits()
NO_LIMITS = Limits(message=None, ratio=None)
BITS = st.none() | st.integers(8, 15)
WISHES = st.builds(
    Deflate,
    server_no_context_takeover=st.booleans(),
    client_no_context_takeover=st.booleans(),
    server_max_window_bits=BITS,
    client_max_window_bits=BITS,
    level=st.integers(-1, 9),
    memory_level=st.integers(1, 9),
)
# Text that repeats itself near and far, and bytes that do not.
MESSAGES = st.one_of(
    st.binary(max_size=200),
    st.lists(st.sampled_from([b'{"name": "', b"kirsch", b'", "value": ', b"0123456789" * 30, b"}\n"])).map(
        b"".join
    ),
    st.tuples(st.binary(min_size=1, max_size=400), st.integers(1, 300)).map(lambda pair: pair[0] * pair[1]),
)


def pair(agreement=Agreement(), limits=NO_LIMITS):  # noqa: B008
    return agreement.codec(client=True, limits=limits), agreement.codec(client=False, limits=limits)


def deflated(data, bits=15, end=zlib.Z_SYNC_FLUSH):
    """A message as another peer compresses it, without its tail."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -bits)
    return (deflater.compress(data) + deflater.flush(end)).removesuffix(TAIL)


def cut(data, cuts):
    places = sorted(min(place, len(data)) for place in cuts)
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


def failure(codec, frames):
    """The close code of the first of the frames that fails."""
    try:
        for data, final in frames:
            codec.decompress(data, final)
    except ProtocolError as error:
        return error.code
    return None


class TestLists:
    @pytest.mark.parametrize(
        ("text", "extensions"),
        [
            ("", []),
            (" , ,\t", []),
            ("a", [("a", ())]),
            ("a,b", [("a", ()), ("b", ())]),
            (" a ;b ; c=d ;e = f,, a", [("a", (("b", None), ("c", "d"), ("e", "f"))), ("a", ())]),
            ('a; b="c"; d="\\e"', [("a", (("b", "c"), ("d", "e")))]),
        ],
    )
    def test_a_list_is_read(self, text, extensions):
        assert parse_extensions(text) == extensions

    @pytest.mark.parametrize(
        "text",
        [
            "=",
            "a b",
            "a;",
            "a; ",
            "a;;b",
            "a; b=",
            'a; b="',
            'a; b="c',
            'a; b=""',
            'a; b="c d"',
            'a; b="c"d',
            "a/b",
            "a; b=c d",
        ],
    )
    def test_what_is_no_list_is_refused(self, text):
        with pytest.raises(ValueError):
            parse_extensions(text)
        with pytest.raises(HandshakeError) as caught:
            negotiate(text, Deflate())
        assert caught.value.status == 400
        with pytest.raises(HandshakeError) as caught:
            agree(text, Deflate())
        assert caught.value.status == 101

    @given(st.text(st.sampled_from('ab=;, \t"\\/'), max_size=30))
    def test_nothing_else_is_raised(self, text):
        try:
            status = negotiate(text, Deflate())
        except HandshakeError as error:
            status = error.status
        assert status in (None, 400)


class TestNegotiating:
    @pytest.mark.parametrize(
        ("wish", "offers", "answer"),
        [
            ({}, "permessage-deflate", "permessage-deflate"),
            ({}, "permessage-deflate; client_max_window_bits", "permessage-deflate"),
            (
                {},
                "permessage-deflate; client_max_window_bits=12",
                "permessage-deflate; client_max_window_bits=12",
            ),
            (
                {},
                "permessage-deflate; server_max_window_bits=15",
                "permessage-deflate; server_max_window_bits=15",
            ),
            (
                {},
                'permessage-deflate; server_max_window_bits="8"',
                "permessage-deflate; server_max_window_bits=8",
            ),
            (
                {},
                "permessage-deflate; server_no_context_takeover",
                "permessage-deflate; server_no_context_takeover",
            ),
            (
                {},
                "permessage-deflate; client_no_context_takeover",
                "permessage-deflate; client_no_context_takeover",
            ),
            # What the server wishes and the client did not offer.
            (
                {
                    "server_no_context_takeover": True,
                    "client_no_context_takeover": True,
                    "server_max_window_bits": 10,
                    "client_max_window_bits": 9,
                },
                "permessage-deflate",
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
                "server_max_window_bits=10",
            ),
            # The smaller of both.
            (
                {"server_max_window_bits": 10, "client_max_window_bits": 9},
                "permessage-deflate; client_max_window_bits; server_max_window_bits=9",
                "permessage-deflate; server_max_window_bits=9; client_max_window_bits=9",
            ),
            (
                {"server_max_window_bits": 10, "client_max_window_bits": 12},
                "permessage-deflate; client_max_window_bits=8; server_max_window_bits=14",
                "permessage-deflate; server_max_window_bits=10; client_max_window_bits=8",
            ),
            # The first of several that is acceptable.
            (
                {},
                "x, permessage-deflate; x, permessage-deflate; server_max_window_bits=16, "
                "permessage-deflate; server_max_window_bits=9, permessage-deflate",
                "permessage-deflate; server_max_window_bits=9",
            ),
        ],
    )
    def test_an_offer_is_answered(self, wish, offers, answer):
        agreement, told = negotiate(offers, Deflate(**wish))
        assert told == answer
        ((_, parameters),) = parse_extensions(told)
        values = dict(parameters)
        assert agreement.server_no_context_takeover == ("server_no_context_takeover" in values)
        assert agreement.client_no_context_takeover == ("client_no_context_takeover" in values)
        assert agreement.server_max_window_bits == int(values.get("server_max_window_bits", 15))
        assert agreement.client_max_window_bits == int(values.get("client_max_window_bits", 15))

    @pytest.mark.parametrize(
        "parameters",
        [
            "unknown",
            "server_no_context_takeover=1",
            "client_no_context_takeover=true",
            "server_no_context_takeover; server_no_context_takeover",
            "client_no_context_takeover; client_no_context_takeover",
            "server_max_window_bits",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=09",
            "server_max_window_bits=+9",
            "server_max_window_bits=9.0",
            "server_max_window_bits=9; server_max_window_bits=9",
            "client_max_window_bits=7",
            "client_max_window_bits=16",
            "client_max_window_bits=x",
            "client_max_window_bits; client_max_window_bits=9",
            "SERVER_NO_CONTEXT_TAKEOVER",
        ],
    )
    def test_what_is_no_offer_is_declined(self, parameters):
        assert negotiate(f"permessage-deflate; {parameters}", Deflate()) is None
        agreement, _ = negotiate(f"permessage-deflate; {parameters}, permessage-deflate", Deflate())
        assert agreement == Agreement()

    @pytest.mark.parametrize(
        "offers", ["", "x-webkit-deflate-frame", "permessage-bzip2, permessage", "Permessage-Deflate"]
    )
    def test_other_extensions_are_not_taken(self, offers):
        assert negotiate(offers, Deflate()) is None

    def test_our_own_choices_go_with_the_agreement(self):
        agreement, _ = negotiate("permessage-deflate", Deflate(level=6, memory_level=3, minimum=1000))
        assert (agreement.level, agreement.memory_level, agreement.minimum) == (6, 3, 1000)
        agreement = agree("permessage-deflate", Deflate(level=6, memory_level=3, minimum=1000))
        assert (agreement.level, agreement.memory_level, agreement.minimum) == (6, 3, 1000)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"server_max_window_bits": 7},
            {"client_max_window_bits": 16},
            {"level": 10},
            {"level": -2},
            {"memory_level": 0},
            {"memory_level": 10},
        ],
    )
    def test_a_wish_that_zlib_cannot_do_is_none(self, wrong):
        with pytest.raises(ValueError):
            Deflate(**wrong)


class TestAgreeing:
    @pytest.mark.parametrize(
        ("wish", "offered"),
        [
            ({}, "permessage-deflate; client_max_window_bits"),
            (
                {
                    "server_no_context_takeover": True,
                    "client_no_context_takeover": True,
                    "server_max_window_bits": 8,
                    "client_max_window_bits": 15,
                },
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
                "server_max_window_bits=8; client_max_window_bits=15",
            ),
        ],
    )
    def test_an_offer_says_what_is_wished(self, wish, offered):
        assert offer(Deflate(**wish)) == offered

    @pytest.mark.parametrize(
        ("wish", "answer", "agreement"),
        [
            ({}, "permessage-deflate", Agreement()),
            (
                {},
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
                "server_max_window_bits=8; client_max_window_bits=9",
                Agreement(True, True, 8, 9),
            ),
            # We may limit ourselves though the server does not ask for it.
            (
                {"client_no_context_takeover": True, "client_max_window_bits": 10},
                "permessage-deflate",
                Agreement(False, True, 15, 10),
            ),
            (
                {"client_max_window_bits": 10},
                "permessage-deflate; client_max_window_bits=12",
                Agreement(client_max_window_bits=10),
            ),
            (
                {"server_max_window_bits": 10},
                "permessage-deflate; server_max_window_bits=9",
                Agreement(server_max_window_bits=9),
            ),
            # It is what a server does that says nothing.
            ({"server_max_window_bits": 15}, "permessage-deflate", Agreement()),
        ],
    )
    def test_an_answer_that_fits_is_agreed_to(self, wish, answer, agreement):
        assert agree(answer, Deflate(**wish)) == agreement

    @pytest.mark.parametrize(
        ("wish", "answer"),
        [
            ({}, ""),
            ({}, "x"),
            ({}, "permessage-deflate, permessage-deflate"),
            ({}, "permessage-deflate, x"),
            ({}, "permessage-deflate; x"),
            ({}, "permessage-deflate; server_no_context_takeover=1"),
            ({}, "permessage-deflate; server_no_context_takeover; server_no_context_takeover"),
            ({}, "permessage-deflate; client_max_window_bits"),
            ({}, "permessage-deflate; client_max_window_bits=7"),
            ({}, "permessage-deflate; client_max_window_bits=9; client_max_window_bits=9"),
            ({}, "permessage-deflate; server_max_window_bits"),
            ({}, "permessage-deflate; server_max_window_bits=16"),
            ({"server_no_context_takeover": True}, "permessage-deflate"),
            ({"server_max_window_bits": 14}, "permessage-deflate"),
            ({"server_max_window_bits": 10}, "permessage-deflate"),
            ({"server_max_window_bits": 10}, "permessage-deflate; server_max_window_bits=11"),
        ],
    )
    def test_an_answer_that_does_not_fit_is_refused(self, wish, answer):
        with pytest.raises(HandshakeError) as caught:
            agree(answer, Deflate(**wish))
        assert caught.value.status == 101
        assert "\n" not in caught.value.reason

    @given(WISHES, WISHES)
    def test_two_of_ours_agree_on_the_same(self, client, server):
        there, answer = negotiate(offer(client), server)
        here = agree(answer, client)
        for name in ("server_no_context_takeover", "server_max_window_bits"):
            assert getattr(here, name) == getattr(there, name)
        # A client may hold itself to more than the server knows.
        assert here.client_no_context_takeover >= there.client_no_context_takeover
        assert here.client_max_window_bits <= there.client_max_window_bits


class TestCodec:
    def test_the_rfcs_examples_come_out(self):
        """RFC 7692, 7.2.3."""
        ours, peer = pair()
        assert peer.decompress(bytes.fromhex("f248cdc9c90700"), True) == b"Hello"
        assert peer.decompress(bytes.fromhex("f200110000"), True) == b"Hello"
        for message in (
            "f248cdc9c90700",
            "000500faff48656c6c6f00",
            "f348cdc9c9070000",
            "f248050000 00ffffcac9c90700",
        ):
            assert pair()[1].decompress(bytes.fromhex(message), True) == b"Hello"
        assert ours.compress(b"") == b"\x00"
        assert peer.decompress(b"\x00", True) == b""

    def test_a_message_may_come_in_any_pieces(self):
        _, peer = pair()
        assert (
            peer.decompress(bytes.fromhex("f248cd"), False) + peer.decompress(bytes.fromhex("c9c90700"), True)
            == b"Hello"
        )
        data = bytes.fromhex("f248cdc9c90700")
        pieces = [peer.decompress(data[at : at + 1], False) for at in range(len(data))]
        assert b"".join(pieces) + peer.decompress(b"", True) == b"Hello"

    def test_context_takeover_makes_the_second_message_smaller(self):
        message = bytes(range(256))
        ours, _ = pair()
        assert len(ours.compress(message)) > 256 > 20 > len(ours.compress(message))

    @pytest.mark.parametrize("client", [True, False])
    def test_without_takeover_each_message_stands_alone(self, client):
        agreement = Agreement(client_no_context_takeover=client, server_no_context_takeover=not client)
        codec = agreement.codec(client=client, limits=LIMITS)
        message = bytes(range(256))
        for _ in range(3):
            assert zlib.decompress(codec.compress(message) + TAIL + b"\x03\x00", -15) == message

    def test_without_takeover_a_peer_cannot_refer_back(self):
        deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
        first, second = (
            (deflater.compress(bytes(range(200))) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4] for _ in range(2)
        )
        codec = Agreement(client_no_context_takeover=True).codec(client=False, limits=LIMITS)
        assert codec.decompress(first, True) == bytes(range(200))
        with pytest.raises(ProtocolError) as caught:
            codec.decompress(second, True)
        assert caught.value.code == 1007

    def test_a_compressor_that_others_used_says_nothing_of_them(self):
        agreement = Agreement(server_no_context_takeover=True)
        secret = bytes(range(256))
        for _ in range(8):
            assert len(agreement.codec(client=False, limits=LIMITS).compress(secret)) > 256

    def test_messages_between_fragments_of_others_do_not_mix(self):
        agreement = Agreement(server_no_context_takeover=True)
        one, other = (agreement.codec(client=False, limits=LIMITS) for _ in range(2))
        reader, second = (agreement.codec(client=True, limits=LIMITS) for _ in range(2))
        begun = one.compress(b"abcd", final=False)
        assert second.decompress(other.compress(b"xyz"), True) == b"xyz"
        assert reader.decompress(begun, False) == b"abcd"
        assert reader.decompress(one.compress(b"efgh"), True) == b"efgh"

    def test_what_is_sent_before_the_end_can_be_read_before_the_end(self):
        ours, peer = pair()
        assert peer.decompress(ours.compress(b"abc", final=False), False) == b"abc"
        assert peer.decompress(ours.compress(b"", final=False), False) == b""
        assert peer.decompress(ours.compress(b"", final=True), True) == b""
        assert peer.decompress(ours.compress(b"abc"), True) == b"abc"

    def test_memory_is_taken_when_it_is_needed(self):
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            codecs = [Agreement().codec(client=False, limits=LIMITS) for _ in range(100)]
            assert tracemalloc.get_traced_memory()[0] - before < 100 * 512
        finally:
            tracemalloc.stop()
        assert codecs[0].compress(b"a" * 100)

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_bytes_may_be_of_any_kind(self, kind):
        ours, peer = pair()
        for message in (b"abc" * 100, bytes(range(256)) * 2000):
            got = peer.decompress(kind(ours.compress(kind(message))), True)
            assert got == message
            assert type(got) is bytes

    @pytest.mark.parametrize("size", [PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 << 20])
    @pytest.mark.parametrize("unit", [b"\x00", bytes(range(251))])
    def test_large_messages_come_whole(self, size, unit):
        ours, peer = pair()
        message = (unit * (size // len(unit) + 1))[:size]
        payload = ours.compress(message)
        assert peer.decompress(payload, True) == message
        # What zlib had no room for is not the next message's.
        assert peer.decompress(ours.compress(b"next"), True) == b"next"
        pieces = list(peer.pieces(ours.compress(message), True))
        assert b"".join(pieces) == message
        assert max(map(len, pieces)) <= PIECE


# Every combination of windows, takeover and role, zlib's levels among them.
@given(WISHES, WISHES, st.booleans(), st.lists(MESSAGES, min_size=1, max_size=5), st.data())
def test_what_goes_in_comes_out(client, server, from_client, messages, data):
    there, answer = negotiate(offer(client), server)
    sender, receiver = (
        agree(answer, client).codec(client=True, limits=NO_LIMITS),
        there.codec(client=False, limits=NO_LIMITS),
    )
    if not from_client:
        sender, receiver = receiver, sender
    for message in messages:
        parts = cut(message, data.draw(st.lists(st.integers(0, 300), max_size=3)))
        payloads = [sender.compress(part, final=False) for part in parts[:-1]] + [sender.compress(parts[-1])]
        # Frames are cut anew on the way, as a proxy may.
        payload = b"".join(payloads)
        frames = cut(payload, data.draw(st.lists(st.integers(0, 300), max_size=3)))
        got = [receiver.decompress(frame, number == len(frames) - 1) for number, frame in enumerate(frames)]
        assert b"".join(got) == message


@pytest.mark.parametrize("bits", range(8, 16))
@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_no_window_is_larger_than_was_agreed(bits, level):
    """An inflater that has no more than the window agreed on, and no room beside it, reads all of it."""
    codec = Agreement(server_max_window_bits=bits, level=level).codec(client=False, limits=LIMITS)
    inflater = zlib.decompressobj(-bits)
    # Each message refers back as far as it can: units that come again after nearly every distance.
    for step in (*range(240, 270), 500, 512, 1000, 4000, 16000, 32000):
        message = (bytes((at * at + step) % 251 for at in range(step)) * 3)[: 3 * step]
        data, out = codec.compress(message) + TAIL, bytearray()
        while data:
            out += inflater.decompress(data, 1)
            data = inflater.unconsumed_tail
        while piece := inflater.decompress(b"", 1):
            out += piece
        assert out == message


class TestFinalBlocks:
    """Some compressors mark a message's last block as final (RFC 7692, 7.2.3.4)."""

    @pytest.mark.parametrize("rest", [b"\x00", b""])
    def test_a_message_may_end_in_one(self, rest):
        _, peer = pair()
        for _ in range(3):
            assert peer.decompress(deflated(b"Hello" * 10, end=zlib.Z_FINISH) + rest, True) == b"Hello" * 10
        assert peer.decompress(deflated(b"other"), True) == b"other"

    def test_others_may_follow_it(self):
        _, peer = pair()
        final = deflated(b"Hello", end=zlib.Z_FINISH)
        assert peer.decompress(final + final + deflated(b"you"), True) == b"HelloHelloyou"
        assert peer.decompress(final, False) == b"Hello"
        assert peer.decompress(final + b"\x00", True) == b"Hello"

    def test_too_many_of_them_are_refused(self):
        _, peer = pair()
        with pytest.raises(ProtocolError) as caught:
            peer.decompress(b"\x03\x00" * (1 << 20), True)
        assert caught.value.code == 1007

    @pytest.mark.parametrize(("count", "room"), [(16, 0), (17, 0), (17, 1 << 13), (500, 0)])
    def test_however_it_is_cut(self, count, room):
        """It was a bug: as many were borne with in each piece, and four bytes after one could get lost."""
        final = deflated(b"a", end=zlib.Z_FINISH)
        message = deflated(random.Random(5).randbytes(room)) + final * count + b"\x00\x00\xff\xff\x00"
        found = set()
        for size in (1, 3, len(final), 100, len(message)):
            _, peer = pair()
            out, code = b"", None
            try:
                for at in range(0, len(message), size):
                    out += peer.decompress(message[at : at + size], at + size >= len(message))
            except ProtocolError as error:
                code, out = error.code, b""
            found.add((out, code))
        assert len(found) == 1


class TestBombs:
    @pytest.mark.parametrize("size", [1, 100, 65536, RATIO_FREE, RATIO_FREE + 1])
    def test_the_limit_holds_to_the_byte(self, size):
        limits = Limits(message=size, ratio=None)
        data = deflated(b"a" * size)
        assert Agreement().codec(client=False, limits=limits).decompress(data, True) == b"a" * size
        data = deflated(b"a" * (size + 1))
        with pytest.raises(ProtocolError) as caught:
            Agreement().codec(client=False, limits=limits).decompress(data, True)
        assert caught.value.code == 1009

    def test_the_limit_is_for_all_fragments_together_and_for_each_message(self):
        limits = Limits(message=1000, ratio=None)
        ours, peer = pair(limits=limits)
        for _ in range(3):
            assert peer.decompress(ours.compress(b"a" * 1000), True)
        assert len(peer.decompress(ours.compress(b"a" * 600, final=False), False)) == 600
        with pytest.raises(ProtocolError) as caught:
            peer.decompress(ours.compress(b"a" * 600), True)
        assert caught.value.code == 1009

    def test_a_ratio_is_no_matter_up_to_a_mebibyte(self):
        limits = Limits(message=None, ratio=2)
        data = deflated(b"a" * RATIO_FREE)
        assert len(Agreement().codec(client=False, limits=limits).decompress(data, True)) == RATIO_FREE
        with pytest.raises(ProtocolError, match="2 times") as caught:
            Agreement().codec(client=False, limits=limits).decompress(deflated(b"a" * (RATIO_FREE + 1)), True)
        assert caught.value.code == 1009

    def test_what_is_within_the_ratio_passes(self):
        limits = Limits(message=None, ratio=256)
        message = random.Random(5).randbytes(10000) + b"a" * RATIO_FREE
        data = deflated(message)
        assert 10 < len(message) / len(data) < 256
        assert Agreement().codec(client=False, limits=limits).decompress(data, True) == message

    def test_the_ratio_is_that_of_all_fragments_together(self):
        ours, peer = pair(Agreement(level=9), Limits(message=None, ratio=256))
        assert peer.decompress(ours.compress(random.Random(5).randbytes(10000), final=False), False)
        assert peer.decompress(ours.compress(b"a" * RATIO_FREE), True) == b"a" * RATIO_FREE
        with pytest.raises(ProtocolError):
            peer.decompress(ours.compress(b"a" * (RATIO_FREE + 1)), True)

    @pytest.mark.parametrize("pieces", [1, 7])
    def test_a_bomb_takes_no_more_than_the_limit_and_a_piece(self, pieces):
        bomb = deflated(bytes(256 << 20))
        codec = Agreement().codec(client=False, limits=Limits(message=4 << 20, ratio=None))
        size = len(bomb) // pieces + 1
        tracemalloc.start()
        try:
            with pytest.raises(ProtocolError) as caught:  # noqa: PT012
                for at in range(0, len(bomb), size):
                    codec.decompress(bomb[at : at + size], at + size >= len(bomb))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert caught.value.code == 1009
        # zlib's output is in blocks before it is one piece.
        assert peak < (4 << 20) * 1.2 + 3 * PIECE

    def test_a_message_in_pieces_takes_a_piece(self):
        codec = Agreement().codec(client=False, limits=NO_LIMITS)
        data = deflated(bytes(64 << 20))
        tracemalloc.start()
        try:
            size = sum(len(piece) for piece in codec.pieces(data, True))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert size == 64 << 20
        assert peak < 5 * PIECE


class TestCorruption:
    @given(st.lists(st.tuples(st.binary(max_size=100), st.booleans()), max_size=6), st.booleans())
    def test_whatever_comes_nothing_but_a_protocol_error_is_raised(self, frames, alone):
        codec = Agreement(client_no_context_takeover=alone).codec(client=False, limits=LIMITS)
        assert failure(codec, frames) in (None, 1007, 1009)

    @given(MESSAGES.filter(len), st.data())
    def test_a_changed_byte_raises_nothing_else(self, message, data):
        payload = bytearray(deflated(message))
        at = data.draw(st.integers(0, len(payload) - 1))
        payload[at] ^= data.draw(st.integers(1, 255))
        codec = Agreement().codec(client=False, limits=Limits(message=1 << 20))
        assert failure(codec, [(payload, True)]) in (None, 1007, 1009)

    @pytest.mark.parametrize("data", [b"\xff\xff", b"\x06", b"\x01\x05\x00\x00\x00Hello", b"\x4b\x04\x82"])
    def test_what_is_no_deflate_is_refused(self, data):
        with pytest.raises(ProtocolError, match="corrupt") as caught:
            Agreement().codec(client=False, limits=LIMITS).decompress(data, True)
        assert caught.value.code == 1007


class TestEnd:
    """A message whose last bytes are missing is refused, not delivered."""

    @pytest.mark.parametrize("alone", [False, True])
    @pytest.mark.parametrize("message", [b"Hello", b'{"id": 1, "name": "x"}' * 20, bytes(range(256)) * 20])
    @pytest.mark.parametrize("level", [0, 1, 6])
    def test_each_byte_that_is_missing_is_missed(self, alone, message, level):
        agreement = Agreement(client_no_context_takeover=alone, level=level)
        whole = agreement.codec(client=True, limits=LIMITS).compress(message)
        for length in range(1, len(whole)):
            reader = agreement.codec(client=False, limits=LIMITS)
            if whole[:length] == b"\x00":
                # That is a message of its own, an empty one.
                continue
            code, said = 1007, message
            try:
                said = reader.decompress(whole[:length], True)
            except ProtocolError as error:
                code = error.code
            # Where it is taken, only bits that mean nothing are missing.
            assert (code, said) == (1007, message)
        assert agreement.codec(client=False, limits=LIMITS).decompress(whole, True) == message

    def test_what_follows_can_still_refer_back(self):
        ours, peer = pair()
        for _ in range(3):
            assert peer.decompress(ours.compress(bytes(range(256))), True) == bytes(range(256))
        assert len(ours.compress(bytes(range(256)))) < 20

    def test_an_empty_message_may_have_no_bytes_at_all(self):
        ours, peer = pair()
        assert peer.decompress(b"", True) == b""
        assert peer.decompress(ours.compress(b"next"), True) == b"next"
