"""Published ports of an application: which there are, and texts in which they are others. Pure but for
`free_port` and `is_free`."""

import random
import re
import socket
from collections.abc import Collection, Mapping
from pathlib import Path

from kirsch.unit import Options, UnitFile, UnitName

ADDRESS = "127.0.0.1"
FIRST = 20000
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def published(units: Mapping[str, str]) -> tuple[int, ...]:
    """The ports of the machine that units' PublishPort= name, in order. `units` maps names to texts."""
    ports = [
        port.host
        for name, text in units.items()
        for port in Options.parse(UnitFile.parse(text, name), UnitName.parse(name)).published
    ]
    return tuple(dict.fromkeys(ports))


def replace_ports(text: str, ports: Mapping[int, int]) -> str:
    """A text in which each number that is one of `ports` is what that maps to.

    A number is one only as a whole: neither a part of a longer number, of a word nor of an address.
    """
    if not ports:
        return text
    numbers = "|".join(str(port) for port in ports)
    return re.sub(rf"(?<![\w.])(?:{numbers})(?!\w|\.\d)", lambda found: str(ports[int(found[0])]), text)


def free_port(taken: Collection[int] = ()) -> int:
    """A port that nobody listens on.

    Below those the kernel gives to clients: what stops and starts again must find its port free.
    """
    last = int(EPHEMERAL.read_text().split()[0]) - 1
    while True:
        port = random.randint(FIRST, max(FIRST + 1000, last))  # noqa: S311
        if port not in taken and is_free(port):
            return port


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of this computer."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return False
    return True
