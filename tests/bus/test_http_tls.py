"""TLS and Unix sockets: who the client is, and what those who do not speak TLS cost."""

import json
import os
import socket
import ssl

import pytest

from kirsch.bus import Limits, http_server

THREADS = 2
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def told(environ, start_response):
    """A WSGI application: what the server says of the connection."""
    names = ("wsgi.url_scheme", "HTTPS", "REMOTE_ADDR")
    found = {
        name: value
        for name, value in environ.items()
        if name in names or name.startswith(("SSL_", "X_REMOTE_"))
    }
    body = json.dumps(found).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def ask(sock: socket.socket) -> dict[str, str]:
    sock.sendall(REQUEST)
    answer = b""
    while b"\r\n\r\n" not in answer or not answer.endswith(b"}"):
        piece = sock.recv(65536)
        assert piece, answer
        answer += piece
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def connect(address, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(socket.create_connection(address, timeout=10), server_hostname="localhost")


def test_tls_by_a_context(bus, certificate):
    server = http_server(bus, told, port=0, tls=certificate.server)
    bus.start()
    with connect(server.bind_addr, certificate.client) as client:
        for _ in range(2):
            environ = ask(client)
            assert (environ["wsgi.url_scheme"], environ["HTTPS"]) == ("https", "on")
            assert environ["SSL_PROTOCOL"] == client.version()
            assert environ["SSL_CLIENT_VERIFY"] == "NONE"


def test_http_1_1_is_agreed_on(bus, certificate):
    server = http_server(bus, told, port=0, tls=certificate.server)
    bus.start()
    context = certificate.client
    context.set_alpn_protocols(["h2", "http/1.1"])
    with connect(server.bind_addr, context) as client:
        assert client.selected_alpn_protocol() == "http/1.1"
        assert ask(client)


def test_a_clients_certificate_is_told(bus, certificate):
    context, own = certificate.server, certificate.client
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(certificate.file)
    own.load_cert_chain(certificate.file, certificate.key)
    server = http_server(bus, told, port=0, tls=context)
    bus.start()
    with connect(server.bind_addr, own) as client:
        environ = ask(client)
    assert environ["SSL_CLIENT_VERIFY"] == "SUCCESS"
    assert environ["SSL_CLIENT_CERT"].strip() in certificate.file.read_text()
    assert environ["SSL_CLIENT_S_DN"]


def test_who_has_no_certificate_is_kept_out(bus, certificate, eventually):
    said = []
    bus.subscribe("log", lambda message, level=0: said.append(message))
    context = certificate.server
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificate.file)
    server = http_server(bus, told, port=0, tls=context)
    bus.start()
    with pytest.raises(ssl.SSLError), connect(server.bind_addr, certificate.client) as client:
        ask(client)  # with TLS 1.3 a client sees it when it reads
    # The client is told before the log is.
    eventually(lambda: "no TLS handshake: the client has no certificate" in said[-1])


def test_who_does_not_begin_tls_keeps_nobody_out(bus, certificate, eventually):
    said = []
    bus.subscribe("log", lambda message, level=0: said.append((level, message)))
    server = http_server(bus, told, port=0, tls=certificate.server, limits=Limits(threads=THREADS))
    bus.start()
    silent = [socket.create_connection(server.bind_addr, timeout=10) for _ in range(6 * THREADS)]
    for sock in silent[: 3 * THREADS]:  # a client's hello has more than its first bytes
        sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello"):
        with socket.create_connection(server.bind_addr, timeout=10) as sock:
            sock.sendall(garbage)
            while sock.recv(1000):
                pass
    with connect(server.bind_addr, certificate.client) as client:
        assert ask(client)
    for sock in silent:
        sock.close()
    eventually(lambda: server.httpserver.open == 0)
    assert [message for level, message in said if level > 20] == []
    refused = [message.partition(": ")[2] for _, message in said if "no TLS handshake" in message]
    assert refused[0] == "no TLS handshake: the client speaks HTTP without TLS"
    assert len(refused) == 2


def test_a_handshake_has_its_time(bus, certificate):
    server = http_server(bus, told, port=0, tls=certificate.server, limits=Limits(timeout=0.2))
    bus.start()
    with socket.create_connection(server.bind_addr, timeout=10) as sock:
        sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        assert sock.recv(1) == b""


def test_the_kernel_tells_who_is_on_a_unix_socket(bus, tmp_path):
    path = str(tmp_path / "socket")
    http_server(bus, told, path=path)
    bus.start()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        environ = ask(client)
    assert environ["X_REMOTE_PID"] == str(os.getpid())
    assert environ["X_REMOTE_UID"] == str(os.getuid())
    assert environ["X_REMOTE_GID"] == str(os.getgid())
    assert environ["REMOTE_ADDR"] == ""
