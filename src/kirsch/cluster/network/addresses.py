"""Loopback addresses: each unit's slot one of its own in 127.0.0.0/8, for life. Pure.

Two instances can so listen on one port, and two applications do not meet: each state folder begins at
another block. 127.0.0.0/16 is left to everybody else.
"""

import hashlib
from collections.abc import Collection
from ipaddress import IPv4Address

PUBLISHED = "127.0.0.1"
FIRST = int(IPv4Address("127.1.0.0"))
LAST = int(IPv4Address("127.254.255.255"))
BLOCK = 256


def block(seed: str) -> str:
    """The first address of the block that a state folder's name leads to: 127.x.y.0."""
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big")
    return str(IPv4Address(FIRST + number % ((LAST - FIRST) // BLOCK) * BLOCK))


def allocate(first: str, taken: Collection[str]) -> str:
    """The first free address of a block, or of those that follow it. Last bytes 0 and 255 are not given.

    Raises ValueError when all of 127.0.0.0/8 is taken.
    """
    start = int(IPv4Address(first))
    for offset in range(1, LAST - FIRST):
        number = FIRST + (start - FIRST + offset) % (LAST - FIRST)
        address = str(IPv4Address(number))
        if number % BLOCK not in (0, BLOCK - 1) and address not in taken:
            return address
    raise ValueError("no loopback address is free")
