"""Masks and headers, in Python and compiled."""

import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.websocket.implementations import MISSING, implementation, laid

from kirsch.websocket.core.frame import header, mask, sendable


@pytest.fixture(scope="module")
def compiled():
    return implementation("cython")


class TestMask:
    def test_lays_the_key_over_the_data_again_and_again(self, core):
        assert core.mask(b"Hello", bytes.fromhex("37fa213d")) == bytes.fromhex("7f9f4d5158")

    @pytest.mark.parametrize("size", [*range(40), 4095, 4096, 4097, 65537])
    def test_is_what_the_rfc_says_for_every_size_and_offset(self, core, size):
        data, key = bytes(i * 7 & 0xFF for i in range(size)), b"\x00\x80\xff\x5a"
        for offset in (0, 1, 2, 3, 4, 5, 1002):
            turned = key[offset % 4 :] + key[: offset % 4]
            expected = bytes(octet ^ turned[i % 4] for i, octet in enumerate(data))
            assert core.mask(data, key, offset) == expected
            assert core.mask(expected, key, offset) == data

    def test_where_data_begins_does_not_matter(self, core):
        data = bytes(range(200))
        for start in range(17):
            view = memoryview(data)[start:150]
            assert core.mask(view, b"abcd") == laid(data[start:150], b"abcd")

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_takes_what_holds_bytes(self, core, kind):
        assert core.mask(kind(b"abc"), b"\0\0\0\0") == b"abc"

    @pytest.mark.parametrize("key", [b"", b"abc", b"abcde"])
    def test_a_key_has_four_bytes(self, core, key):
        with pytest.raises(ValueError, match="a key has 4 bytes"):
            core.mask(b"abc", key)

    @pytest.mark.parametrize("data", [5, "text", None])
    def test_what_holds_no_bytes_is_refused(self, core, data):
        with pytest.raises(TypeError):
            core.mask(data, b"abcd")

    def test_never_writes_to_the_objects_of_one_byte_that_all_share(self, core):
        shared = [bytes((i,)) for i in range(256)]
        for i in range(256):
            assert core.mask(bytes((i,)), b"\xff\xff\xff\xff") == bytes((i ^ 0xFF,))
        assert [one[0] for one in shared] == list(range(256))

    @given(st.binary(max_size=300), st.binary(min_size=4, max_size=4), st.integers(0, 1 << 40))
    def test_both_are_the_same(self, compiled, data, key, offset):
        assert compiled.mask(data, key, offset) == mask(data, key, offset)


class TestHeader:
    @pytest.mark.parametrize(
        ("length", "expected"),
        [
            (0, "8200"),
            (125, "827d"),
            (126, "827e007e"),
            (65535, "827effff"),
            (65536, "827f0000000000010000"),
            (1 << 40, "827f0000010000000000"),
        ],
    )
    def test_a_length_takes_as_few_bytes_as_it_can(self, length, expected):
        assert header(0x82, length, False) == bytes.fromhex(expected)
        masked = bytearray.fromhex(expected)
        masked[1] |= 0x80
        assert header(0x82, length, True) == masked


def test_which_close_codes_may_be_sent():
    codes = {code for code in range(70000) if sendable(code)}
    assert codes == {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}


def test_the_compiled_core_is_there():
    """Wherever it can be: tests of it are passed over only without a compiler, or where it is not wanted."""
    if os.environ.get("KIRSCH_PURE", "0") not in ("", "0") or not (shutil.which("cc") or shutil.which("gcc")):
        pytest.skip("it is not wanted, or there is no compiler")
    assert MISSING == ""
