"""Whether a port that a unit publishes is somebody else's, at whatever address."""

import os
import socket

import pytest
from tests.port import free_port

from kirsch.cluster.agent.ports import taken
from kirsch.unit.port import Published

OWN = f"(process {os.getpid()})"


def listener(address: str, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """Somebody who listens, at a port that nobody is given for a connection in the meantime."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    try:
        if ":" in address:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address != "::")
        sock.bind((address, free_port()))
    except OSError as error:
        sock.close()
        pytest.skip(f"{address} cannot be had here: {error}")
    if kind == socket.SOCK_STREAM:
        sock.listen()
    return sock


@pytest.mark.parametrize(
    ("listens", "process", "container"),
    [
        ("127.0.0.1", True, True),
        ("0.0.0.0", True, True),
        ("127.0.0.9", False, True),
        ("::", True, True),
        ("::1", True, False),
    ],
)
def test_a_listener_at_any_address_that_the_unit_would_have(listens: str, process: bool, container: bool):
    with listener(listens) as sock:
        port = Published(None, sock.getsockname()[1], 80)
        for is_process, expected in ((True, process), (False, container)):
            found = taken(port, process=is_process)
            assert (OWN in (found or "")) is expected, (is_process, found)
    assert taken(port, process=True) is None
    assert taken(port, process=False) is None


def test_a_container_that_publishes_at_one_address_alone():
    with listener("127.0.0.9") as sock:
        number = sock.getsockname()[1]
        assert OWN in (taken(Published("127.0.0.9", number, 80), process=False) or "")
        assert taken(Published("127.0.0.8", number, 80), process=False) is None
        # podman says what is wrong with an address that is not there.
        assert taken(Published("192.0.2.1", number, 80), process=False) is None


def test_datagrams_have_ports_of_their_own():
    with listener("0.0.0.0", socket.SOCK_DGRAM) as sock:
        number = sock.getsockname()[1]
        assert OWN in (taken(Published(None, number, 80, "udp"), process=False) or "")
        assert taken(Published(None, number, 80), process=False) is None
