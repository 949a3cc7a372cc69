"""What the kernel tells, and what other machines are told."""

import asyncio
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.cluster.network.flat import frame
from kirsch.cluster.network.subnet import hardware_address
from kirsch.cluster.network.watch import NetworkWatch, matters

LINK, NEIGHBOUR, GONE = 16, 28, 29
BRIDGE_FAMILY, INET = 7, 2


def message(kind: int, body: bytes) -> bytes:
    length = 16 + len(body)
    return struct.pack("=IHHII", length, kind, 0, 0, 0) + body + bytes(-length % 4)


def neighbour(kind: int, family: int, hardware: str) -> bytes:
    address = bytes.fromhex(hardware.replace(":", ""))
    attribute = struct.pack("=HH", 4 + len(address), 2) + address + bytes(-len(address) % 4)
    other = struct.pack("=HHI", 8, 1, 7)
    return message(kind, struct.pack("=BBHiHBB", family, 0, 0, 4, 0x80, 0, 0) + other + attribute)


ANYBODY, SOMEBODY = "00:00:00:00:00:00", "02:6b:0a:d2:80:05"


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (message(LINK, bytes(16)), True),
        (neighbour(NEIGHBOUR, BRIDGE_FAMILY, ANYBODY), True),
        (neighbour(GONE, BRIDGE_FAMILY, ANYBODY), True),
        # Who is where is learned and forgotten all day.
        (neighbour(NEIGHBOUR, BRIDGE_FAMILY, SOMEBODY), False),
        (neighbour(NEIGHBOUR, INET, SOMEBODY), False),
        (neighbour(NEIGHBOUR, BRIDGE_FAMILY, SOMEBODY) + neighbour(GONE, BRIDGE_FAMILY, ANYBODY), True),
        (neighbour(NEIGHBOUR, BRIDGE_FAMILY, SOMEBODY) + message(LINK, bytes(16)), True),
        (b"", False),
    ],
)
def test_what_was_learned_is_no_news(data: bytes, wanted: bool):
    assert matters(data) is wanted


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_end(data: bytes):
    assert matters(data) in (True, False)


def test_an_announcement_is_as_rfc_5227_has_it():
    sent = frame("10.210.128.5")
    hardware = bytes.fromhex(hardware_address("10.210.128.5").replace(":", ""))
    target, source, kind = struct.unpack("!6s6sH", sent[:14])
    assert (target, source, kind) == (b"\xff" * 6, hardware, 0x0806)
    fields = struct.unpack("!HHBBH6s4s6s4s", sent[14:])
    at = socket.inet_aton("10.210.128.5")
    assert fields == (1, 0x0800, 6, 4, 1, hardware, at, bytes(6), at)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="makes a network device: needs root")
def test_devices_tables_and_podmans_networks_are_told_of(tmp_path: Path):
    async def work() -> None:
        changed, networks = asyncio.Event(), asyncio.Event()
        watch = NetworkWatch(tmp_path / "networks", changed.set, networks.set)
        name = f"kt{os.getpid()}"
        try:
            commands = [f"ip link add {name} type bridge", f"ip link delete {name}"]
            if shutil.which("nft"):
                commands += [f"nft add table ip {name}", f"nft delete table ip {name}"]
            for command in commands:
                changed.clear()
                await asyncio.to_thread(subprocess.run, command.split(), check=True)
                await asyncio.wait_for(changed.wait(), 10)
            networks.clear()
            (tmp_path / "networks" / "kirsch.json").write_text("{}")
            await asyncio.wait_for(networks.wait(), 10)
        finally:
            watch.close()

    asyncio.run(work())


# In a user namespace with a limit of its own (user_namespaces(7), /proc/sys/user/max_inotify_instances).
WITHOUT_INOTIFY = """
import asyncio, sys
from pathlib import Path
from kirsch.cluster.network.watch import NetworkWatch

LIMIT = Path("/proc/sys/user/max_inotify_instances")

async def work(folder):
    LIMIT.write_text("0")
    changed = asyncio.Event()
    watch = NetworkWatch(folder, lambda: None, changed.set)
    print(watch.problem)
    LIMIT.write_text("10")
    watch.watch_files()
    print(f"then {watch.problem!r}")
    changed.clear()
    (folder / "kirsch.json").write_text("{}")
    await asyncio.wait_for(changed.wait(), 10)
    watch.close()

asyncio.run(work(Path(sys.argv[1])))
"""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="makes a user namespace: needs root")
def test_without_inotify_it_goes_on_and_says_which_limit_is_reached(tmp_path: Path):
    unshare = ["unshare", "--user", "--map-root-user", "--net"]
    done = subprocess.run(
        [*unshare, sys.executable, "-c", WITHOUT_INOTIFY, tmp_path / "networks"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    problem, then = done.stdout.splitlines()
    limit = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    assert problem == (
        f"cannot watch files: the limit fs.inotify.max_user_instances is reached ({limit}): "
        f"`sysctl fs.inotify.max_user_instances={max(4 * limit, 1024)}` raises it"
    )
    assert then == "then ''"
