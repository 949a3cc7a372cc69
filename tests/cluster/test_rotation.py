"""Trust while a cluster's keys are rotated: etcd, gRPC and the API's TLS take two authorities of one name."""

import asyncio
import itertools
import os
import socket
import ssl
import subprocess
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from tests.cluster.etcd_server import free_ports, needs_etcd

from kirsch.cluster.model.certificates import Certificates
from kirsch.cluster.node.authority import Pair, authority, issue
from kirsch.cluster.provision.rotate import Phase, trusted
from kirsch.cluster.registry.etcd import EtcdRegistry

OLD, NEW = authority("one"), authority("one")
ADDRESS = "127.0.77.1"
# Each machine is in one of these: before, in each phase, with the certificate that it has then.
STATES: list[tuple[bytes, Pair]] = [
    (OLD.certificate, OLD),
    (trusted(Phase.TRUST, OLD.certificate, NEW.certificate), OLD),
    (trusted(Phase.USE, OLD.certificate, NEW.certificate), NEW),
    (trusted(Phase.DROP, OLD.certificate, NEW.certificate), NEW),
]
# What is there at one time: a machine that is through with a phase, and one that is not.
TOGETHER = [pair for at in range(3) for pair in itertools.permutations((at, at + 1))]


def certificates(folder: Path, state: int, name: str) -> Certificates:
    """The files of a machine in a state."""
    folder.mkdir(parents=True, exist_ok=True)
    trust, signer = STATES[state]
    pair = issue(signer, name, name, ADDRESS, "localhost", role="machine", lifetime=timedelta(days=1))
    found = Certificates(folder / "ca.crt", folder / "machine.crt", folder / "machine.key")
    found.authority.write_bytes(trust)
    found.certificate.write_bytes(pair.certificate)
    found.key.write_bytes(pair.key)
    return found


def hear(context: ssl.SSLContext, connection: socket.socket) -> None:
    """Read a byte over TLS. Raises OSError, ssl.SSLError among them."""
    with context.wrap_socket(connection, server_hostname=ADDRESS) as secured:
        if not secured.recv(1):
            raise OSError("closed")


@pytest.mark.parametrize(("server", "client"), TOGETHER)
def test_machines_of_two_phases_shake_hands(tmp_path: Path, server: int, client: int):
    listening = certificates(tmp_path / "server", server, "n1").server()
    connecting = certificates(tmp_path / "client", client, "n2").client()
    ours, theirs = socket.socketpair()
    answers: list[str] = []

    def serve() -> None:
        with listening.wrap_socket(theirs, server_side=True) as connection:
            answers.append(dict(part[0] for part in connection.getpeercert()["subject"])["commonName"])
            connection.sendall(b"hello")

    thread = threading.Thread(target=serve)
    thread.start()
    with connecting.wrap_socket(ours, server_hostname=ADDRESS) as connection:
        assert connection.recv(5) == b"hello"
    thread.join()
    assert answers == ["n2"]


def test_whoever_has_only_the_old_is_refused_in_the_end(tmp_path: Path):
    listening = certificates(tmp_path / "server", 3, "n1").server()
    connecting = certificates(tmp_path / "client", 1, "n2").client()
    ours, theirs = socket.socketpair()
    refused: list[str] = []

    def serve() -> None:
        try:
            listening.wrap_socket(theirs, server_side=True).close()
        except ssl.SSLError as error:
            refused.append(error.reason)

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(OSError, match=r"closed|UNKNOWN_CA|DECRYPT_ERROR|reset|Broken"):
        hear(connecting, ours)
    thread.join()
    assert refused == ["CERTIFICATE_VERIFY_FAILED"]


@needs_etcd
@pytest.mark.services
@pytest.mark.parametrize("state", [1, 2])
def test_etcd_takes_machines_before_and_after_it(tmp_path: Path, state: int):
    client, peer = free_ports(ADDRESS, 2)
    url, between = f"https://{ADDRESS}:{client}", f"http://{ADDRESS}:{peer}"
    own = certificates(tmp_path / "etcd", state, "n1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind("")
        ready.settimeout(60)
        process = subprocess.Popen(
            [
                "etcd", "--name=n1", f"--data-dir={tmp_path / 'data'}", f"--listen-client-urls={url}",
                f"--advertise-client-urls={url}", f"--listen-peer-urls={between}", "--log-level=error",
                f"--initial-advertise-peer-urls={between}", f"--initial-cluster=n1={between}",
                f"--cert-file={own.certificate}", f"--key-file={own.key}", "--client-cert-auth",
                f"--trusted-ca-file={own.authority}", "--logger=zap",
            ],
            env={"PATH": os.environ["PATH"], "NOTIFY_SOCKET": "@" + ready.getsockname()[1:].decode()},
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert b"READY=1" in ready.recv(4096)

            async def use(number: int) -> None:
                mine = certificates(tmp_path / f"machine{number}", number, "n2")
                registry = await EtcdRegistry.open([url], mine)
                try:
                    assert await registry.put(f"/{number}", "there") is not None
                finally:
                    await registry.close()

            for number in (state - 1, state, state + 1):
                asyncio.run(use(number))
        finally:
            process.kill()
            process.wait()
