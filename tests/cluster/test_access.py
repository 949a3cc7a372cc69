"""Who may do what over a machine's API, and the audit log of who did."""

import json
import socket
import ssl
import tarfile
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.cluster.etcd_server import Authority, EtcdServer, needs_etcd
from tests.cluster.members import Members, running
from tests.dashboard.conftest import opened

from kirsch.cluster.api.access import ROLES, Identity, needed_role, refusal
from kirsch.cluster.api.openapi import OPERATIONS
from kirsch.cluster.model.certificates import USERS_OF, Certificates, Issued
from kirsch.cluster.node.audit import AuditEntry, AuditLog, merged, superfluous
from kirsch.cluster.node.authority import authority
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord
from kirsch.cluster.provision.users import User, users

SLEEPER = "[Service]\nExecStart=sleep 1000\n"
UNITS = "/kirsch/v1/units"


def test_every_operation_has_its_role():
    described = set()
    for operation in OPERATIONS:
        method, path = operation.request.split()
        described.add(f"{method.upper()} /kirsch/v1{path}")
    assert {request for request in ROLES if " /kirsch/" in request} == described


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "/kirsch/v1/units", "view"),
        ("HEAD", "/kirsch/v1/units/a.service", "view"),
        ("GET", "//kirsch//v1/units/", "view"),
        ("GET", "/kirsch/v1/units/a.service/environment", "admin"),
        ("PUT", "/kirsch/v1/units/a.service", "deploy"),
        ("PATCH", "/fleet/v1/machines", "admin"),
        ("DELETE", "/fleet/v1/units/a.service", "deploy"),
        ("POST", "/kirsch/v1/units/a.service/more/of/it", "admin"),
        ("GET", "/kirsch/v1/nothing", "admin"),
        ("TRACE", "/kirsch/v1/units", "admin"),
        ("GET", "/kirsch/v1/audit", "machine"),
        ("GET", "/metrics", "view"),
    ],
)
def test_roles_of_requests(method: str, path: str, role: str):
    assert needed_role(method, path) == role


ANN = Identity("ann", "admin", "1F", user=True)
N4 = Identity("n4", "machine", "2F")


@pytest.mark.parametrize(
    ("identity", "issued", "method", "path", "says"),
    [
        (ANN, Issued("ann", "deploy", 1e10), "PUT", f"{UNITS}/a.service", ""),
        # The registry's role counts, not the certificate's.
        (ANN, Issued("ann", "view", 1e10), "PUT", f"{UNITS}/a.service", "has the role view, and PUT"),
        (ANN, None, "GET", UNITS, "was revoked, or another took its place"),
        (ANN, Issued("ann", "admin", 1e10, revoked=True), "GET", UNITS, "was revoked"),
        (N4, None, "GET", UNITS, ""),
        (N4, None, "GET", "/kirsch/v1/audit", ""),
        (N4, None, "PUT", f"{UNITS}/a.service", "n4 has the role machine"),
        (N4, Issued("n4", "machine", 1e10, revoked=True), "GET", UNITS, "was revoked"),
        (Identity("client", "admin", "3F"), None, "POST", "/kirsch/v1/down", ""),
        # Certificates of a kirsch that had no roles.
        (Identity("client", "", "3F"), None, "POST", "/kirsch/v1/down", ""),
        (Identity("client", "baker", "3F"), None, "GET", UNITS, "has the role baker"),
    ],
)
def test_what_is_refused(identity: Identity, issued: Issued | None, method: str, path: str, says: str):
    why = refusal(identity, issued, method, path)
    assert says in why
    assert bool(why) == bool(says)


def test_users_are_those_with_a_person_s_role_that_were_not_revoked():
    listed = [
        {"serial": "3", "name": "n1", "role": "machine", "until": 2.0, "revoked": False},
        {"serial": "2", "name": "bob", "role": "view", "until": 2.0, "revoked": False},
        {"serial": "1", "name": "ann", "role": "admin", "until": 2.0, "revoked": False},
        {"serial": "4", "name": "eve", "role": "view", "until": 2.0, "revoked": True},
    ]
    assert users(listed) == [User("ann", "admin", "1", 2.0), User("bob", "view", "2", 2.0)]


def entry(at: float, who: str = "ann", machine: str = "m") -> AuditEntry:
    return AuditEntry(at, who, "admin", "127.0.0.1", "PUT", "/x", ("a", "b"), 200, machine)


class TestAuditLog:
    def test_entries_come_back_the_last_of_them_and_since_a_time(self, tmp_path: Path):
        log = AuditLog(tmp_path / "audit")
        assert log.read(0, 10) == []
        entries = [entry(1_000_000 + 40_000 * number) for number in range(10)]
        for each in entries:
            log.add(each)
        again = AuditLog(tmp_path / "audit")
        assert again.read(0, 100) == entries
        assert again.read(0, 3) == entries[-3:]
        assert again.read(0, 0) == []
        assert again.read(entries[4].at, 100) == entries[4:]
        assert {path.stat().st_mode & 0o777 for path in (tmp_path / "audit").iterdir()} == {0o600}

    def test_what_was_written_by_half_is_passed_over(self, tmp_path: Path):
        log = AuditLog(tmp_path)
        log.add(entry(1.0))
        [path] = tmp_path.iterdir()
        path.write_text(path.read_text() + '{"at": 2')
        assert AuditLog(tmp_path).read(0, 10) == [entry(1.0)]

    def test_it_never_grows_beyond_its_size(self, tmp_path: Path):
        log = AuditLog(tmp_path, most=8000, full=1000)
        for number in range(500):
            log.add(entry(float(number)))
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 8200
        left = log.read(0, 10_000)
        assert left == [entry(float(number)) for number in range(500 - len(left), 500)]

    def test_what_is_older_than_90_days_goes(self):
        now = datetime(2026, 12, 2, tzinfo=UTC)
        days = [f"{now - timedelta(days=number):%Y-%m-%d}.00000.jsonl" for number in (0, 90, 91)]
        gone = superfluous({Path(day): 10 for day in days}, now, 1000)
        assert gone == [Path(days[2])]

    def test_those_of_several_machines_are_in_order(self):
        parts = [[entry(1), entry(4)], [entry(2, machine="n"), entry(3, machine="n")]]
        assert [each.at for each in merged(parts, 3)] == [2, 3, 4]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    """Two machines that trust an authority of users, and the record of whoever made them."""
    folder = tmp_path_factory.mktemp("access")
    signer = Authority(folder / "tls")
    etcd = EtcdServer(folder / "etcd", authority=signer)
    made = Members(folder, etcd, signer, 2)
    machines = tuple(
        MachineRecord(each.name, each.id, each.address, each.address, api_port=each.port)
        for each in made.machines
    )
    record = ClusterRecord("test", "c0ffee", "2026-12-02", "", machines, complete=True)
    tls = folder / "data/kirsch/clusters/test/tls"
    tls.mkdir(parents=True)
    (tls.parent / "cluster.json").write_text(json.dumps(asdict(record)))
    pair = authority("c0ffee", USERS_OF)
    files = {
        "ca.crt": made.certificates.authority.read_bytes(),
        "client.crt": made.certificates.certificate.read_bytes(),
        "client.key": made.certificates.key.read_bytes(),
        "users.crt": pair.certificate,
        "users.key": pair.key,
    }
    for name, content in files.items():
        (tls / name).write_bytes(content)
    for machine in made.machines:
        machine.config.write_text(f'{machine.config.read_text()}users = "{tls / "users.crt"}"\n')
    with running(made):
        yield made


def spoken(certificates: Certificates, host: str, port: int) -> bytes:
    """What a server answers to the beginning of HTTP/2."""
    with (
        socket.create_connection((host, port), 10) as plain,
        certificates.client().wrap_socket(plain, server_hostname=host) as secure,
    ):
        secure.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        return secure.recv(100)


@needs_etcd
@pytest.mark.services
@pytest.mark.slow
class TestUsers:
    def user(self, cluster: Members, name: str, role: str) -> dict[str, str]:
        """Add a user; the environment of one who has unpacked the archive."""
        archive = cluster.folder / f"{name}.tar"
        printed = cluster.ok("cluster", "user", "add", name, "--role", role, "--cluster", "test")
        assert printed.startswith(f"{name} has the role {role} in test for 30 days\n")
        assert archive.stat().st_mode & 0o777 == 0o600
        home = cluster.folder / f"home-{name}"
        with tarfile.open(archive) as tar:
            tar.extractall(home / "kirsch/clusters", filter="data")
        nothing = {name: "" for name in cluster.environment() if name.startswith("KIRSCH_")}
        return {**nothing, "XDG_DATA_HOME": str(home), "KIRSCH_CLUSTER": "test"}

    def test_the_dashboard_has_the_role_of_its_person(self, cluster: Members):
        path = cluster.unit("d.service", SLEEPER)
        cluster.ok("submit", path)
        zoe = self.user(cluster, "zoe", "view")
        with opened(cluster.folder, cluster.environment() | zoe) as dashboard:
            dashboard.enter()
            session = dashboard("GET", "session").json()
            assert (session["user"], session["role"]) == ("zoe", "view")
            assert session["refused"]["PUT /units/{name}"] == "zoe has the role view; this needs deploy"
            assert dashboard("GET", "kirsch/v1/units/d.service").status == 200
            stop = dashboard("PUT", "kirsch/v1/units/d.service", {"desiredState": "loaded"})
            assert stop.status == 403
            assert "zoe has the role view" in stop.json()["detail"]
        cluster.ok("destroy", "d")
        cluster.ok("cluster", "user", "remove", "zoe", "--cluster", "test")

    def test_roles_hold_and_what_was_done_or_refused_is_in_the_audit_log(self, cluster: Members):
        path = cluster.unit("u.service", SLEEPER)
        ann = self.user(cluster, "ann", "view")
        assert cluster.ok("list-machines", **ann)
        refused = cluster.fails("submit", path, **ann)
        assert refused == f"ann has the role view, and PATCH {UNITS} needs deploy"
        bob = self.user(cluster, "bob", "deploy")
        assert cluster.ok("start", path, **bob)
        assert "needs admin" in cluster.fails("cordon", "n1", **bob)
        assert "needs machine" in cluster.fails("audit", **bob)
        listed = json.loads(cluster.ok("cluster", "user", "list", "--json", "--cluster", "test"))
        assert [(each["name"], each["role"]) for each in listed] == [("ann", "view"), ("bob", "deploy")]

        eve = self.user(cluster, "eve", "admin")
        cluster.ok("destroy", "u", **eve)
        entries = json.loads(cluster.ok("audit", "--json", **eve))["entries"]
        seen = [(e["who"], e["role"], e["method"], tuple(e["names"]), e["status"]) for e in entries]
        assert ("ann", "view", "PATCH", (), 403) in seen
        assert ("bob", "deploy", "PATCH", (), 403) in seen
        assert ("bob", "deploy", "PATCH", ("u.service",), 200) in seen
        assert ("eve", "admin", "PATCH", ("u.service (destroy)",), 200) in seen
        assert all(e["machine"] in {machine.id for machine in cluster.machines} for e in entries)
        shown = cluster.ok("audit", "--user", "ann", "--refused", "--no-legend", **eve)
        assert " ann " in f" {' '.join(shown.split())} "
        assert "bob" not in shown

        # Another role, and then none; the certificate before holds no longer.
        more = self.user(cluster, "ann", "deploy")
        assert cluster.ok("submit", path, **more)
        cluster.ok("destroy", "u")
        cluster.ok("cluster", "user", "remove", "ann", "--cluster", "test")
        assert "the certificate of ann was revoked" in cluster.fails("list-machines", **more)
        error = cluster.fails("cluster", "user", "remove", "ann", "--cluster", "test")
        assert "has no user ann" in error

    def test_etcd_knows_no_users(self, cluster: Members):
        self.user(cluster, "dan", "admin")
        tls = cluster.folder / "home-dan/kirsch/clusters/test/tls"
        theirs = Certificates(tls / "ca.crt", tls / "client.crt", tls / "client.key")
        [member] = cluster.etcd.members
        host, port = member.endpoint.removeprefix("https://").split(":")

        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            spoken(theirs, host, int(port))

    def test_names_that_cannot_be(self, cluster: Members):
        for name in ("client", "Ann", "a/b"):
            error = cluster.fails("cluster", "user", "add", name, "--cluster", "test")
            assert "cannot be a user's name" in error
