"""Gratuitous ARP (RFC 5227, section 3): who has an address now, told to all that remember another place."""

import socket
from ipaddress import IPv4Address

from kirsch.cluster.network.subnet import hardware_address
from kirsch.cluster.network.wanted import BRIDGE

ARP = 0x0806
EVERYBODY = b"\xff" * 6


def frame(address: str) -> bytes:
    """An ARP announcement (RFC 5227): a request for itself, from its hardware address. Pure."""
    hardware, packed = bytes.fromhex(hardware_address(address).replace(":", "")), IPv4Address(address).packed
    request = bytes.fromhex("0001 0800 06 04 0001")
    return EVERYBODY + hardware + ARP.to_bytes(2, "big") + request + hardware + packed + bytes(6) + packed


def announce(address: str, device: str = BRIDGE) -> None:
    """Send it, once. Raises OSError."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ARP)) as sender:
        sender.bind((device, 0))
        sender.send(frame(address))
