"""What a kirschd is made of, wherever it runs."""

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from kirsch.cluster.model.certificates import Certificates
from kirsch.cluster.node.node import Node


class DaemonError(Exception):
    """Why kirschd cannot run here: one line."""


@dataclass(frozen=True, slots=True)
class Setup:
    """How the one kirschd differs from the other.

    `make` opens the registry and the runtime, and may raise what they raise. `socket` is the API's; over TCP
    it is at `listen`, with `tls`, and it speaks to other machines with `certificates`. `member`: it is one
    machine of several, so it waits for a store that is away, and leaves its units running when it ends.
    """

    make: Callable[[], Awaitable[Node]]
    socket: Path
    member: bool = False
    listen: tuple[str, int] | None = None
    tls: ssl.SSLContext | None = None
    certificates: Certificates | None = None
