"""Certificates of machines: renewed by kirschd itself, and refused once they are revoked."""

import json
import os
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from tests.cli.application import wait_for
from tests.cluster.etcd_server import EtcdServer, needs_etcd
from tests.cluster.members import MemberMachine, Members

from kirsch.cluster.api.client import Client, ClientError
from kirsch.cluster.engine.voters import Succession
from kirsch.cluster.model import keys
from kirsch.cluster.model.certificates import Certificates, Issued, revoked_machines
from kirsch.cluster.node.authority import (
    LEAF,
    LEEWAY,
    Pair,
    authority,
    due,
    facts,
    issue,
    renew,
    revocations,
)
from kirsch.cluster.provision.endpoint import Where, transport_to
from kirsch.cluster.provision.keyring import make_keys
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord

CERTIFICATES = "/kirsch/v1/certificates"


def test_a_renewed_certificate_is_of_the_same_key_name_role_and_hosts():
    signer = authority("blue")
    old = issue(signer, "n1", "n1", "10.0.0.1", role="machine", lifetime=timedelta(hours=1))
    new = renew(signer, old.certificate)
    before, after = facts(old.certificate), facts(new)
    assert (after.name, after.role) == (before.name, before.role) == ("n1", "machine")
    assert after.serial != before.serial
    assert after.until - after.start == (LEAF + LEEWAY).total_seconds()
    parsed = [x509.load_pem_x509_certificate(each) for each in (old.certificate, new)]
    assert parsed[0].public_key() == parsed[1].public_key()
    kinds = (x509.SubjectAlternativeName, x509.ExtendedKeyUsage)
    for kind in kinds:
        values = [each.extensions.get_extension_for_class(kind).value for each in parsed]
        assert values[0] == values[1]


@pytest.mark.parametrize(("now", "expected"), [(0, False), (19, False), (21, True), (31, True)])
def test_a_certificate_is_renewed_after_two_thirds_of_its_time(now: float, expected: bool):
    assert due(0, 30, now) is expected


def test_revoked_certificates_are_in_a_list_that_the_authority_signed():
    signer = authority("blue")
    found = x509.load_der_x509_crl(revocations(signer, ["1F", "ABC"]))
    assert {revoked.serial_number for revoked in found} == {0x1F, 0xABC}
    parent = x509.load_pem_x509_certificate(signer.certificate)
    assert found.is_signature_valid(parent.public_key())
    assert len(list(x509.load_der_x509_crl(revocations(signer, [])))) == 0


def test_a_machine_is_revoked_once_all_its_certificates_are():
    def of(machine: str, revoked: bool) -> Issued:
        return Issued("n", "machine", 1.0, machine, revoked)

    assert revoked_machines([]) == frozenset()
    assert revoked_machines([of("a", True), of("b", False), of("", True)]) == {"a"}
    assert revoked_machines([of("a", True), of("a", False)]) == frozenset()


def test_whoever_made_a_cluster_gets_a_new_certificate_by_the_next_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    machine = MachineRecord("n1", "1", "127.0.0.1")
    record = ClusterRecord("blue", "c0ffee", "2026-12-02", "", (machine,), complete=True)
    record.save()
    make_keys(record)
    file = record.certificates.certificate
    young = file.read_bytes()
    month_ago = time.time() - 30 * 86400
    os.utime(file, (month_ago, month_ago))
    transport_to(Where(cluster="blue"))
    # It was copied, or restored: its file is older than it.
    assert file.read_bytes() == young
    signer = Pair.read(record.certificates.authority, record.certificates.authority.with_name("ca.key"))
    old = renew(signer, young, timedelta(hours=1))
    file.write_bytes(old)
    os.utime(file, (month_ago, month_ago))
    transport_to(Where(cluster="blue"))
    assert facts(file.read_bytes()).until > facts(old).until
    assert file.stat().st_mode & 0o777 == 0o600
    record.certificates.client()


class Issuer:
    """An authority of kirsch's own, in a folder; machines' certificates are about to end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.pair = authority("test")
        (folder / "ca.crt").write_bytes(self.pair.certificate)
        (folder / "ca.key").write_bytes(self.pair.key)
        (folder / "revoked.crl").write_bytes(revocations(self.pair, []))

    def certificates(self, name: str, *addresses: str) -> Certificates:
        machine = bool(addresses) and name.startswith("n")
        role, lifetime = ("machine", timedelta(hours=1)) if machine else ("admin", LEAF)
        pair = issue(self.pair, name, name, *addresses, role=role, lifetime=lifetime)
        paths = Certificates(self.folder / "ca.crt", self.folder / f"{name}.crt", self.folder / f"{name}.key")
        paths.certificate.write_bytes(pair.certificate)
        paths.key.write_bytes(pair.key)
        return paths


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Members]:
    """Two machines whose certificates are about to end; only the first has the authority's key."""
    issuer = Issuer(tmp_path / "tls")
    etcd = EtcdServer(tmp_path / "etcd", 1, issuer, [f"--client-crl-file={tmp_path / 'tls/revoked.crl'}"])
    made = Members(tmp_path, etcd, issuer, 2)
    (tmp_path / "n2/ca.crt").write_bytes(issuer.pair.certificate)
    second = made.machines[1].config
    second.write_text(second.read_text().replace(str(tmp_path / "tls/ca.crt"), str(tmp_path / "n2/ca.crt")))
    try:
        for machine in made.machines:
            machine.start()
        yield made
    finally:
        for machine in made.machines:
            machine.close()
        etcd.stop()


def shown(cluster: Members, machine: MemberMachine) -> str:
    """The serial number of the certificate that a machine's API shows."""
    with (
        socket.create_connection((machine.address, machine.port), 10) as plain,
        cluster.certificates.client().wrap_socket(plain, server_hostname=machine.address) as secure,
    ):
        encoded = secure.getpeercert(binary_form=True)
        assert encoded
        return facts(ssl.DER_cert_to_PEM_cert(encoded).encode()).serial


def serial(machine: MemberMachine) -> str:
    """The serial number of the certificate that a machine has."""
    return facts(machine.certificates.certificate.read_bytes()).serial


def is_new(machine: MemberMachine) -> bool:
    known = facts(machine.certificates.certificate.read_bytes())
    return known.until - known.start > LEAF.total_seconds()


def ids(client: Client) -> list[str]:
    """The machines that are listed."""
    return [machine["id"] for machine in client.get("/kirsch/v1/machines")["machines"]]


def answered(certificates: Certificates, url: str) -> bytes:
    """What etcd answers to one with these certificates."""
    host, port = url.removeprefix("https://").split(":")
    with (
        socket.create_connection((host, int(port)), 10) as plain,
        certificates.client().wrap_socket(plain, server_hostname=host) as secure,
    ):
        secure.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        return secure.recv(100)


@needs_etcd
@pytest.mark.services
@pytest.mark.slow
def test_machines_renew_their_certificates_and_one_that_is_revoked_is_refused(cluster: Members):
    first, second = cluster.machines
    [etcd] = cluster.etcd.endpoints
    admin = first.client(cluster.certificates)
    for machine in cluster.machines:
        wait_for(lambda machine=machine: is_new(machine), "a new certificate")
        wait_for(lambda machine=machine: shown(cluster, machine) == serial(machine), "the API shows it")
    # What is connected anew is connected with the new one: etcd too.
    [member] = cluster.etcd.members
    member.kill()
    cluster.etcd.start(member)
    wait_for(
        lambda: len(first.client(cluster.certificates).get("/kirsch/v1/machines")["machines"]) == 2, "both"
    )
    assert answered(second.certificates, etcd).startswith(b"HTTP/1.1 200")

    theirs = [c for c in admin.get(CERTIFICATES)["certificates"] if c["machine"] == second.id]
    assert {c["name"] for c in theirs} == {"n2"}
    assert serial(second) in {c["serial"] for c in theirs}
    asks = first.client(second.certificates)
    assert asks.get("/kirsch/v1/machines")
    # The authority's key goes to a machine that is to take a lost voter's place, and to no other.
    assert "authority" not in asks.post(CERTIFICATES)
    cluster.etcd.etcdctl("put", keys.VOTERS, Succession(machine=second.id).to_json())
    answer = asks.post(CERTIFICATES)
    signer = Pair(answer["certificate"].encode(), answer["authority"].encode())
    assert signer.key == (cluster.folder / "tls/ca.key").read_bytes()
    with pytest.raises(ClientError, match="person is no machine"):
        admin.post(CERTIFICATES)

    def known() -> list[str]:
        listed = admin.get(CERTIFICATES)["certificates"]
        return [each["serial"] for each in listed if each["machine"] == second.id]

    wait_for(lambda: signer.serial in known(), "the certificate is known")
    for each in known():
        admin.delete(f"{CERTIFICATES}/{each}")
    # At once, though its connection to etcd is still there: others list it no more.
    with pytest.raises(ClientError, match="the certificate of n2 was revoked"):
        asks.get("/kirsch/v1/machines")
    wait_for(lambda: ids(admin) == [first.id], "it is listed no more")
    wait_for(lambda: refused(second.certificates, etcd), "etcd refuses it")
    assert answered(first.certificates, etcd).startswith(b"HTTP/1.1 200")
    # It comes back, and is refused by the store.
    second.kill()
    second.spawn()
    second.await_told(b"STATUS=waits for the store")
    assert "Traceback" not in second.log.read_text() + first.log.read_text()
    assert ids(admin) == [first.id]
    refusals = [e for e in json.loads(cluster.ok("audit", "--json"))["entries"] if e["who"] == "n2"]
    assert refusals[-1]["status"] == 403


def refused(certificates: Certificates, url: str) -> bool:
    try:
        return not answered(certificates, url)
    except (ssl.SSLError, ConnectionResetError):
        return True
