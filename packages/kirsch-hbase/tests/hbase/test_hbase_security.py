"""TLS, and Kerberos with a KDC of our own, against the real server."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.deadline import eventually
from tests.hbase.standalone import Standalone
from tests.port import free_port

from kirsch.hbase import Unavailable, connect, jdk

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(600)]
PASSWORD = "not-secret"


def run(*words: object, **variables: str) -> None:
    subprocess.run([str(word) for word in words], check=True, env={**os.environ, **variables}, timeout=60)


def options(settings: dict[str, object]) -> list[str]:
    return [f"--set={name}={value}" for name, value in settings.items()]


@pytest.fixture
def stores(tmp_path):
    """The server's key, and what clients trust."""
    keytool = jdk.program(jdk.find()).with_name("keytool")
    key, trusted, certificate = (tmp_path / name for name in ("key.p12", "trusted.p12", "server.pem"))
    made = ("-storetype", "PKCS12", "-storepass", PASSWORD, "-alias", "hbase")
    names = ("-dname", "CN=localhost", "-ext", "san=dns:localhost,ip:127.0.0.1")
    run(keytool, "-genkeypair", "-keyalg", "RSA", *names, "-keystore", key, *made)
    run(keytool, "-exportcert", "-rfc", "-file", certificate, "-keystore", key, *made)
    run(keytool, "-importcert", "-noprompt", "-file", certificate, "-keystore", trusted, *made)
    return key, trusted


def test_tls(stores, tmp_path, client):
    key, trusted = stores
    trust = {
        "hbase.client.netty.tls.enabled": "true",
        "hbase.rpc.tls.truststore.location": trusted,
        "hbase.rpc.tls.truststore.type": "PKCS12",
        "hbase.rpc.tls.truststore.password": PASSWORD,
    }
    server = Standalone(
        tmp_path / "server",
        *options(
            {
                **trust,
                "hbase.server.netty.tls.enabled": "true",
                "hbase.server.netty.tls.supportplaintext": "false",
                "hbase.server.netty.tls.client.auth.mode": "NONE",
                "hbase.rpc.tls.keystore.location": key,
                "hbase.rpc.tls.keystore.type": "PKCS12",
                "hbase.rpc.tls.keystore.password": PASSWORD,
            }
        ),
    ).start()
    try:
        where = {"hbase.zookeeper.quorum": "127.0.0.1", "hbase.zookeeper.property.clientPort": server.port}
        with connect({**where, **trust}, patience=60) as hbase:
            hbase.admin.create("sealed", "cf")
            hbase.table("sealed")[b"row"] = {"cf:a": b"1"}
            assert [row.key for row in hbase.table("sealed").scan()] == [b"row"]
        with connect(where, timeout=3, patience=60) as plain, pytest.raises(Unavailable):
            plain.admin.tables()
    finally:
        server.kill()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


REALM = "KIRSCH.TEST"
CLIENT = """
import json, sys
from kirsch.hbase import HBaseError, connect
settings, options = json.loads(sys.argv[1]), json.loads(sys.argv[2])
try:
    with connect(settings, options=options, timeout=20, patience=30) as hbase:
        hbase.admin.create("guarded", "cf")
        hbase.table("guarded")[b"row"] = {"cf:a": b"1"}
        print(json.dumps([row.key.decode() for row in hbase.table("guarded").scan()]))
except HBaseError as error:
    print(json.dumps(f"{type(error).__name__}: {error}"))
"""


@pytest.fixture
def realm(tmp_path):
    """A KDC with the principals of the server and of alice; the folder of its keytabs and krb5.conf."""
    port = free_port()
    configuration, kdc = tmp_path / "krb5.conf", tmp_path / "kdc.conf"
    configuration.write_text(
        f"[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n rdns = false\n"
        f" udp_preference_limit = 1\n[realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{port}\n }}\n"
    )
    kdc.write_text(
        f"[realms]\n {REALM} = {{\n  database_name = {tmp_path}/principal\n"
        f"  key_stash_file = {tmp_path}/stash\n"
        f'  kdc_listen = ""\n  kdc_tcp_listen = 127.0.0.1:{port}\n }}\n'
    )
    variables = {"KRB5_CONFIG": str(configuration), "KRB5_KDC_PROFILE": str(kdc)}
    run("/usr/sbin/kdb5_util", "create", "-s", "-r", REALM, "-P", PASSWORD, **variables)
    for principal, keytab in (("hbase/localhost", "server"), ("alice", "alice")):
        run("/usr/sbin/kadmin.local", "-r", REALM, "-q", f"addprinc -randkey {principal}", **variables)
        run(
            "/usr/sbin/kadmin.local",
            "-r",
            REALM,
            "-q",
            f"ktadd -k {tmp_path}/{keytab} {principal}",
            **variables,
        )
    process = subprocess.Popen(["/usr/sbin/krb5kdc", "-n", "-r", REALM], env={**os.environ, **variables})
    eventually(lambda: listens(port), 30, "the KDC")
    yield tmp_path
    process.kill()
    process.wait()


def told(settings: dict[str, object], java: list[str]) -> object:
    """What a client of its own process says, for Java reads krb5.conf once."""
    texts = {name: str(value) for name, value in settings.items()}
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, json.dumps(texts), json.dumps(java)],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_kerberos(realm: Path, client):
    principals = {
        "hadoop.security.authentication": "kerberos",
        "hbase.security.authentication": "kerberos",
        "hbase.master.kerberos.principal": f"hbase/localhost@{REALM}",
        "hbase.regionserver.kerberos.principal": f"hbase/localhost@{REALM}",
    }
    java = [f"-Djava.security.krb5.conf={realm}/krb5.conf"]
    keytabs = {
        "hbase.master.keytab.file": realm / "server",
        "hbase.regionserver.keytab.file": realm / "server",
    }
    server = Standalone(
        realm / "hbase", *options({**principals, **keytabs}), *(f"--java-option={one}" for one in java)
    ).start()
    try:
        where = {
            **principals,
            "hbase.zookeeper.quorum": "127.0.0.1",
            "hbase.zookeeper.property.clientPort": server.port,
        }
        keytab = {
            "hbase.client.keytab.file": realm / "alice",
            "hbase.client.keytab.principal": f"alice@{REALM}",
        }
        assert told({**where, **keytab}, java) == ["row"]
        assert told(where, java) == (
            "Denied: HBase wants Kerberos, and there is no valid ticket: run kinit, or set "
            "hbase.client.keytab.file and hbase.client.keytab.principal"
        )
    finally:
        server.kill()
