"""`kirsch balancer` with a real HAProxy, real web servers and a real endpoints socket."""

import ctypes
import http.client
import http.server
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from tests.deadline import PATIENCE, eventually
from tests.port import free_port

from kirsch.cluster.balancer.haproxy import RuntimeAPI, State, parse_states, parse_statistics

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(
        not shutil.which("haproxy", path="/usr/sbin:/usr/bin"), reason="haproxy is not installed"
    ),
]

CONFIG = """
defaults
    mode http
    timeout connect 2s
    timeout client 30s
    timeout server 30s
    retries 3
    option redispatch 1
    {defaults}

frontend web
    bind 127.0.0.1:{port}
    default_backend notes

backend notes
    balance roundrobin
    option httpchk GET /readyz

backend fixed
    balance leastconn
    server static 127.0.0.1:9 disabled

backend unusable
    balance source
"""


LINKED = """\
    server n{n} "${{N{n}_PORT_8080_TCP_ADDR}}:${{N{n}_PORT_8080_TCP_PORT}}" check
"""


class Web:
    """One instance of a service: it answers its name; GET /held only when `release` is set."""

    def __init__(self, name):
        self.name = name
        self.held = threading.Event()
        self.release = threading.Event()
        self.healthy = True
        # Set: checks get no answer.
        self.silent = threading.Event()
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                if self.path == "/held":
                    web.held.set()
                    web.release.wait(30)
                elif web.silent.is_set():
                    web.release.wait(30)
                body = web.name.encode()
                self.send_response(200 if web.healthy else 503)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, request, client_address):
                pass  # HAProxy resets the connections of its checks

        address = f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(2, 255)}"
        self.server = Server((address, 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def endpoint(self, ready=True, **changes):
        address, port = self.server.server_address
        return {
            "service": "notes",
            "unit": f"{self.name}.container",
            "slot": "-",
            "address": address,
            "ports": [{"number": port, "protocol": "tcp", "name": "http"}],
            "ready": ready,
        } | changes

    def close(self):
        self.release.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Endpoints:
    """The endpoints socket, as kirschd serves it."""

    def __init__(self, path):
        self.path = path
        self.line = json.dumps({"endpoints": []})
        self.clients = []
        self.lock = threading.Lock()
        self.open()

    def open(self):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen()
        self.thread = threading.Thread(target=self.accept)
        self.thread.start()

    def accept(self):
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                with self.lock:
                    self.clients.append(client)
                    client.sendall(self.line.encode() + b"\n")

    def set(self, *endpoints):
        with self.lock:
            self.line = json.dumps({"endpoints": endpoints})
            for client in self.clients:
                client.sendall(self.line.encode() + b"\n")

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()
        for client in self.clients:
            client.close()
        self.clients.clear()
        self.path.unlink(missing_ok=True)


class Balancer:
    """The process of a unit of Type=notify."""

    def __init__(self, folder, *arguments, defaults="", config=None, backends=("notes=notes:http",)):
        self.port = free_port()
        self.config = folder / "haproxy.cfg"
        self.config.write_text(CONFIG.format(port=self.port, defaults=defaults) if config is None else config)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(folder / "notify"))
        self.notify.settimeout(15)
        # A socket's path is short, pytest's are long.
        self.folder = Path(tempfile.mkdtemp())
        self.output = folder / "output"
        command = [sys.executable, "-m", "kirsch.cli.main", "balancer", "--config", str(self.config)]
        for backend in backends:
            command += ["--backend", backend]
        environment = os.environ | {
            "KIRSCH_ENDPOINTS": str(folder / "endpoints"),
            "NOTIFY_SOCKET": str(folder / "notify"),
            "TMPDIR": str(self.folder),
        }
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, *arguments], env=environment, stdout=output, stderr=output
            )

    @property
    def log(self):
        return self.output.read_text()

    @property
    def api(self):
        (path,) = self.folder.glob("kirsch-balancer-*/haproxy.sock")
        return RuntimeAPI(str(path))

    @property
    def haproxy(self):
        info = dict(line.split(": ", 1) for line in self.api.ask("show info").splitlines() if ": " in line)
        return int(info["Pid"])

    def servers(self, backend="notes"):
        return {server.name: server for server in self.api.servers([backend])}

    def ready(self):
        """The names of those that are sent requests; what has just been added is not at once."""
        return [name for name, server in self.servers().items() if server.state is State.READY]

    def wait_ready(self):
        assert self.notify.recv(100) == b"READY=1"

    def get(self, path="/"):
        """Status and body of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def answers(self, count=8):
        return {self.get() for _ in range(count)}

    def end(self):
        """Wait for its own end: exit code and output."""
        code = self.process.wait(20)
        return code, self.log

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            self.notify.close()
            shutil.rmtree(self.folder)


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


def make(stack, thing, *arguments, **options):
    made = thing(*arguments, **options)
    stack.callback(made.close)
    return made


@pytest.fixture
def endpoints(stack, tmp_path):
    return make(stack, Endpoints, tmp_path / "endpoints")


@pytest.fixture
def webs(stack):
    return [make(stack, Web, f"notes@{n}") for n in (1, 2, 3)]


@pytest.fixture
def balancer(stack, tmp_path, endpoints):
    balancer = make(stack, Balancer, tmp_path)
    balancer.wait_ready()
    return balancer


@contextmanager
def requests(balancer):
    """Requests one after another in two threads while the block runs: all that was answered."""
    answers, done = [], threading.Event()

    def ask():
        while not done.is_set():
            try:
                answers.append(balancer.get())
            except OSError as error:
                answers.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        done.set()
        for thread in threads:
            thread.join()


def held_by(web, balancer):
    """A request that `web` holds: the thread that waits for its answer, and where that will be."""
    answer = []
    held = threading.Thread(target=lambda: answer.append(balancer.get("/held")))
    held.start()
    assert web.held.wait(PATIENCE)
    return held, answer


def descendants(pid):
    """Processes below `pid`, and below those."""
    children = []
    for entry in os.listdir("/proc"):
        with suppress(OSError, ValueError), open(f"/proc/{int(entry)}/stat") as file:
            if int(file.read().rpartition(")")[2].split()[1]) == pid:
                children += [int(entry), *descendants(int(entry))]
    return children


def test_servers_come_and_go_with_endpoints_and_no_request_fails(balancer, endpoints, webs):
    one, two, three = webs
    pid = balancer.haproxy
    assert balancer.get()[0] == 503, "ready with no server: nobody is there to answer yet"
    endpoints.set(one.endpoint())
    eventually(balancer.ready)
    # Traffic at once, before its first check.
    assert balancer.get() == (200, "notes@1")
    with requests(balancer) as answers:
        endpoints.set(one.endpoint(), two.endpoint(), three.endpoint(ready=False))
        eventually(lambda: len(balancer.ready()) == 2)
        eventually(lambda: (200, "notes@2") in answers)
        endpoints.set(one.endpoint(), two.endpoint(), three.endpoint())
        eventually(lambda: (200, "notes@3") in answers)
        endpoints.set(one.endpoint(ready=False), two.endpoint(), three.endpoint())
        eventually(lambda: set(balancer.servers()) == {"notes:2.container", "notes:3.container"})
        endpoints.set(three.endpoint())
        eventually(lambda: set(balancer.servers()) == {"notes:3.container"})
    assert balancer.answers() == {(200, "notes@3")}
    assert {answer[0] for answer in answers} == {200}
    assert len(answers) > 50
    assert balancer.haproxy == pid, "no reload"


def test_nobody_is_let_in_before_there_is_a_server(stack, tmp_path, endpoints, webs):
    """A machine that boots is an ingress at once, for whoever asks there."""
    one, two, three = webs
    endpoints.set(one.endpoint(), two.endpoint())
    balancer = make(stack, Balancer, tmp_path)

    def first():
        with suppress(OSError, http.client.HTTPException):
            return balancer.get()

    assert eventually(first)[0] == 200
    balancer.wait_ready()
    assert balancer.answers() == {(200, "notes@1"), (200, "notes@2")}
    # The same for a HAProxy that is started anew, with those that there are then.
    endpoints.set(two.endpoint())
    eventually(lambda: balancer.ready() == ["notes:2.container"])
    os.kill(balancer.haproxy, signal.SIGKILL)
    assert eventually(first) == (200, "notes@2")
    eventually(lambda: set(balancer.servers()) == {"notes:2.container"})
    # They cannot be deleted, but they go and come.
    endpoints.set(one.endpoint())
    eventually(lambda: balancer.ready() == ["notes:1.container"])
    assert balancer.answers() == {(200, "notes@1")}
    endpoints.set(one.endpoint(), three.endpoint(unit="notes@2.container"))
    eventually(lambda: balancer.answers() == {(200, "notes@1"), (200, "notes@3")})
    assert "refused" not in balancer.log


def test_requests_go_to_each_in_turn(balancer, endpoints, webs):
    endpoints.set(*(web.endpoint() for web in webs))
    eventually(lambda: len(balancer.ready()) == 3)
    assert [balancer.get()[1] for _ in range(6)].count("notes@1") == 2


def test_draining_loses_no_request_in_flight(balancer, endpoints, webs):
    one, two, _ = webs
    endpoints.set(one.endpoint())
    eventually(balancer.ready)
    held, answer = held_by(one, balancer)
    endpoints.set(two.endpoint())
    eventually(lambda: balancer.servers()["notes:1.container"].state is State.DRAIN)
    assert balancer.answers() == {(200, "notes@2")}
    server = balancer.servers()["notes:1.container"]
    assert (server.state, server.sessions) == (State.DRAIN, 1)
    one.release.set()
    held.join()
    assert answer == [(200, "notes@1")]
    eventually(lambda: set(balancer.servers()) == {"notes:2.container"})


@pytest.mark.slow
def test_the_drain_time_begins_with_the_drain(stack, tmp_path, endpoints, webs):
    """Not when its server's state changed last, for which HAProxy takes the moment at which it came up."""
    balancer = make(stack, Balancer, tmp_path, "--drain", "6")
    balancer.wait_ready()
    one, two, _ = webs
    endpoints.set(one.endpoint())
    eventually(balancer.ready)

    def unchanged():
        (state,) = parse_states(balancer.api.ask("show servers state notes"))
        return int(state["srv_time_since_last_change"])

    eventually(lambda: unchanged() > 6)
    held, answer = held_by(one, balancer)
    endpoints.set(two.endpoint())
    eventually(lambda: balancer.servers()["notes:1.container"].state is State.DRAIN)
    held.join(1)
    assert answer == []
    one.release.set()
    held.join()
    assert answer == [(200, "notes@1")]


def test_one_that_comes_back_while_draining_stays(balancer, endpoints, webs):
    one, *_ = webs
    endpoints.set(one.endpoint())
    eventually(balancer.ready)
    held, answer = held_by(one, balancer)
    endpoints.set(one.endpoint(ready=False))
    eventually(lambda: balancer.servers()["notes:1.container"].state is State.DRAIN)
    endpoints.set(one.endpoint())
    eventually(lambda: balancer.servers()["notes:1.container"].state is State.READY)
    assert balancer.get() == (200, "notes@1")
    one.release.set()
    held.join()
    assert answer == [(200, "notes@1")]


class Kept:
    """A server that keeps connections. Once another is at its address, connections to the first one are reset
    when they are used, as after the move of a unit."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.moved = False
        self.old = set()
        self.open = set()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self.open.add(client)
                threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def move(self):
        self.old = set(self.open)

    def serve(self, client):
        with suppress(OSError), client, client.makefile("rb") as lines:
            while lines.readline():
                length = 0
                while (field := lines.readline()).strip():
                    name, _, value = field.decode().partition(":")
                    length = int(value) if name.lower() == "content-length" else length
                lines.read(length)
                if client in self.old:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def close(self):
        self.listener.close()
        for client in self.open:
            client.close()


def test_a_post_is_not_sent_to_what_was_at_an_address_before(stack, balancer, endpoints):
    server = make(stack, Kept)
    endpoint = {
        "service": "notes",
        "unit": "notes@1.container",
        "slot": "-",
        "address": "127.0.0.1",
        "ports": [{"number": server.listener.getsockname()[1], "protocol": "tcp", "name": "http"}],
        "ready": True,
    }
    endpoints.set(endpoint)
    eventually(balancer.ready)
    client = http.client.HTTPConnection("127.0.0.1", balancer.port, timeout=30)
    stack.callback(client.close)
    for _ in range(2):
        client.request("POST", "/", b"one")
        assert client.getresponse().read() == b"ok"
    # Away for so short a time that its server is not deleted in between.
    endpoints.set(endpoint | {"ready": False})
    eventually(lambda: balancer.servers()["notes:1.container"].state is not State.READY)
    server.move()
    endpoints.set(endpoint)
    eventually(balancer.ready)
    client.request("POST", "/", b"two")
    assert client.getresponse().read() == b"ok"


@pytest.mark.slow
def test_a_request_that_does_not_end_is_cut_after_the_drain_time(stack, tmp_path, endpoints, webs):
    balancer = make(stack, Balancer, tmp_path, "--drain", "1")
    balancer.wait_ready()
    one, *_ = webs
    endpoints.set(one.endpoint())
    eventually(balancer.ready)
    held, answer = held_by(one, balancer)
    endpoints.set()
    eventually(lambda: not balancer.servers())
    held.join()
    assert answer[0][0] in (502, 503)


@pytest.mark.slow
def test_what_waits_for_an_instance_that_answers_nothing_is_cut_once_it_is_lost(
    stack, tmp_path, endpoints, webs
):
    """A machine that hangs: its kernel takes connections, and its endpoint goes with its lease."""
    balancer = make(stack, Balancer, tmp_path, "--drain", "1000", defaults="timeout check 1s")
    balancer.wait_ready()
    one, *_ = webs
    endpoints.set(one.endpoint())
    eventually(balancer.ready)
    held, answer = held_by(one, balancer)
    one.silent.set()
    endpoints.set()
    eventually(lambda: not balancer.servers())
    held.join()
    assert answer[0][0] in (502, 503)


def test_a_server_with_idle_connections_goes_too(stack, tmp_path, endpoints, webs):
    balancer = make(stack, Balancer, tmp_path, defaults="http-reuse always")
    balancer.wait_ready()
    one, two, _ = webs
    endpoints.set(one.endpoint(), two.endpoint())
    eventually(lambda: len(balancer.ready()) == 2)
    assert len(balancer.answers(20)) == 2
    endpoints.set(two.endpoint())
    eventually(lambda: set(balancer.servers()) == {"notes:2.container"})


def test_connections_to_servers_are_kept(balancer, endpoints, webs):
    endpoints.set(webs[0].endpoint())
    eventually(balancer.ready)
    client = http.client.HTTPConnection("127.0.0.1", balancer.port, timeout=30)
    for _ in range(10):
        client.request("GET", "/")
        assert client.getresponse().read() == b"notes@1"
    client.close()
    rows = parse_statistics(balancer.api.ask("show stat"))
    [row] = [row for row in rows if row["svname"] == "notes:1.container"]
    assert (int(row["connect"]), int(row["reuse"])) == (1, 9)


def test_a_unit_that_moves_is_followed(balancer, endpoints, webs):
    one, two, _ = webs
    endpoints.set(one.endpoint())
    eventually(lambda: balancer.get() == (200, "notes@1"))
    endpoints.set(two.endpoint(unit="notes@1.container"))
    eventually(lambda: balancer.get() == (200, "notes@2"))
    assert set(balancer.servers()) == {"notes:1.container"}
    assert "refused" not in balancer.log


def test_haproxy_killed_is_back_with_all_servers_within_a_second(balancer, endpoints, webs):
    endpoints.set(*(web.endpoint() for web in webs))
    eventually(lambda: len(balancer.ready()) == 3)
    away = []
    for _ in range(3):
        old = balancer.haproxy
        os.kill(old, signal.SIGKILL)
        killed = time.monotonic()

        def served():
            with suppress(OSError, http.client.HTTPException):
                return balancer.get()[0] == 200

        eventually(served)
        away.append(time.monotonic() - killed)
        eventually(lambda: len(balancer.ready()) == 3)
        assert balancer.haproxy != old
        assert {body for _, body in balancer.answers()} == {"notes@1", "notes@2", "notes@3"}
    # The machine may be busy with other things meanwhile, but not each time.
    assert min(away) < 1.0


def test_endpoints_gone_and_back(balancer, endpoints, webs):
    one, two, _ = webs
    endpoints.set(one.endpoint())
    eventually(lambda: balancer.get() == (200, "notes@1"))
    endpoints.close()
    eventually(lambda: "No endpoints from" in balancer.log)
    assert balancer.answers() == {(200, "notes@1")}, "the last endpoints hold"
    endpoints.set(two.endpoint())
    endpoints.open()
    eventually(lambda: balancer.answers() == {(200, "notes@2")})
    assert balancer.log.count("No endpoints from") == 1


def test_it_waits_for_an_endpoints_socket_that_comes_late(stack, tmp_path, webs):
    balancer = make(stack, Balancer, tmp_path)
    eventually(lambda: "No such file or directory; trying again" in balancer.log)
    endpoints = make(stack, Endpoints, tmp_path / "endpoints")
    balancer.wait_ready()
    endpoints.set(webs[0].endpoint())
    eventually(lambda: balancer.get() == (200, "notes@1"))


def test_an_endpoint_without_the_port_is_passed_over_with_a_warning(balancer, endpoints, webs):
    one, two, _ = webs
    for _ in range(3):
        endpoints.set(one.endpoint(ports=[]), two.endpoint())
    eventually(lambda: balancer.get() == (200, "notes@2"))
    assert set(balancer.servers()) == {"notes:2.container"}
    line = "kirsch balancer: notes@1.container exposes no tcp port http: it is no server of backend notes\n"
    assert balancer.log.count(line) == 1


def test_servers_of_the_file_are_left_alone(stack, tmp_path, endpoints, webs):
    balancer = make(stack, Balancer, tmp_path, backends=["notes=notes:http", "fixed=notes:http"])
    balancer.wait_ready()
    endpoints.set(webs[0].endpoint())
    eventually(lambda: set(balancer.servers("fixed")) == {"static", "notes:1.container"})
    endpoints.set()
    eventually(lambda: set(balancer.servers("fixed")) == {"static"} and not balancer.servers())


@pytest.mark.slow
def test_haproxy_checks_the_servers_itself(balancer, endpoints, webs):
    one, two, _ = webs
    endpoints.set(one.endpoint(), two.endpoint())
    eventually(lambda: len(balancer.ready()) == 2)
    one.healthy = False
    eventually(lambda: balancer.answers() == {(200, "notes@2")})
    one.healthy = True
    eventually(lambda: len(balancer.answers()) == 2)


def test_a_frontend_may_have_a_backends_name(stack, tmp_path, endpoints, webs):
    config = CONFIG.replace("frontend web", "frontend notes").format(port=free_port(), defaults="")
    balancer = make(stack, Balancer, tmp_path, config=config)
    balancer.wait_ready()
    for _ in range(2):
        endpoints.set(*(web.endpoint() for web in webs))
        eventually(lambda: len(balancer.ready()) == 3)
        endpoints.set(webs[0].endpoint())
        eventually(lambda: set(balancer.servers()) == {"notes:1.container"})
    assert "refused" not in balancer.log


def test_servers_may_stand_in_the_file_with_the_variables_of_links(stack, tmp_path, webs, monkeypatch):
    """As in the article: nobody has to tell HAProxy of them."""
    port, lines = free_port(), ""
    for number, web in enumerate(webs[:2], 1):
        address, at = web.server.server_address
        monkeypatch.setenv(f"N{number}_PORT_8080_TCP_ADDR", address)
        monkeypatch.setenv(f"N{number}_PORT_8080_TCP_PORT", str(at))
        lines += LINKED.format(n=number)
    head = CONFIG.partition("\nbackend notes")[0].format(port=port, defaults="")
    balancer = make(stack, Balancer, tmp_path, config=f"{head}\nbackend notes\n{lines}", backends=[])
    balancer.port = port
    balancer.wait_ready()
    assert balancer.answers() == {(200, "notes@1"), (200, "notes@2")}
    os.kill(balancer.haproxy, signal.SIGKILL)

    def served():
        with suppress(OSError, http.client.HTTPException):
            return balancer.answers() == {(200, "notes@1"), (200, "notes@2")}

    eventually(served)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_does_not_wake_the_main_thread_ends_it(balancer, endpoints, webs, signum):
    """One that comes just before the main thread waits does not; nor does one that another thread takes."""
    endpoints.set(webs[0].endpoint())
    eventually(balancer.ready)
    pid = balancer.process.pid
    other = next(int(task.name) for task in Path(f"/proc/{pid}/task").iterdir() if int(task.name) != pid)
    assert ctypes.CDLL(None).tgkill(pid, other, signum) == 0
    assert balancer.end()[0] == 0


def test_sigterm_lets_requests_end_and_leaves_nothing(balancer, endpoints, webs):
    one, *_ = webs
    endpoints.set(one.endpoint())
    eventually(balancer.ready)
    # A client with a connection that it keeps for later does not hold it up.
    idle = http.client.HTTPConnection("127.0.0.1", balancer.port)
    idle.request("GET", "/")
    assert idle.getresponse().read() == b"notes@1"
    held, answer = held_by(one, balancer)
    below = descendants(balancer.process.pid)
    assert balancer.haproxy in below
    balancer.process.terminate()
    assert balancer.notify.recv(100) == b"STOPPING=1"
    one.release.set()
    code, output = balancer.end()
    held.join()
    idle.close()
    assert answer == [(200, "notes@1")]
    assert code == 0
    assert "Traceback" not in output
    assert not [pid for pid in below if os.path.exists(f"/proc/{pid}")]
    assert list(balancer.folder.iterdir()) == []


@pytest.mark.slow
def test_kill_9_leaves_no_haproxy(balancer):
    below = descendants(balancer.process.pid)
    assert balancer.haproxy in below
    balancer.process.kill()
    eventually(lambda: not [pid for pid in below if os.path.exists(f"/proc/{pid}")])


def refused(stack, tmp_path, *arguments, **options):
    """What it says when it cannot start: exit code 1, nothing left behind, no traceback."""
    balancer = make(stack, Balancer, tmp_path, *arguments, **options)
    code, output = balancer.end()
    assert code == 1, output
    assert "Traceback" not in output
    assert list(balancer.folder.iterdir()) == []
    return balancer, output


def test_a_temporary_folder_with_too_long_a_name(stack, tmp_path, monkeypatch):
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "mkdtemp", lambda: str(long))
    _, output = refused(stack, tmp_path)
    assert "is too long a path for a socket: set TMPDIR to a shorter one" in output


def test_a_bad_configuration_is_refused_in_haproxys_words(stack, tmp_path):
    balancer, output = refused(stack, tmp_path, config="global\n    nonsense\n")
    assert output.startswith(f"kirsch balancer: HAProxy cannot use {balancer.config}:\n  config : ")
    assert "haproxy.cfg:2] : unknown keyword 'nonsense'" in output


def test_a_configuration_that_is_not_there(stack, tmp_path):
    _, output = refused(stack, tmp_path, "--config", str(tmp_path / "none.cfg"))
    assert output == f"kirsch balancer: {tmp_path}/none.cfg: No such file or directory\n"


def test_a_backend_that_is_not_there(stack, tmp_path, endpoints):
    _, output = refused(stack, tmp_path, backends=["nots=notes:http"])
    assert (
        "kirsch balancer: HAProxy's configuration has no backend nots (it has: notes, fixed, unusable)"
        in output
    )


def test_a_backend_that_takes_no_servers(stack, tmp_path, endpoints):
    _, output = refused(stack, tmp_path, backends=["unusable=notes:http"])
    assert "kirsch balancer: backend unusable takes no servers" in output
    assert "Backend must use a dynamic load balancing" in output


def test_server_options_that_haproxy_does_not_take(stack, tmp_path, endpoints):
    _, output = refused(stack, tmp_path, "--server-options", "check nonsense")
    assert "kirsch balancer: backend notes takes no servers with 'check nonsense'" in output
    assert "'nonsense'" in output


def test_a_port_in_use(stack, tmp_path, endpoints):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        _, output = refused(stack, tmp_path, config=CONFIG.format(port=taken.getsockname()[1], defaults=""))
    assert "kirsch balancer: HAProxy exited with code 1\n" in output
    assert "for frontend web: cannot bind socket (Address already in use)" in output


def test_haproxy_is_not_installed(tmp_path):
    # A mount namespace would be needed to hide Debian's; an interpreter that finds none does as well.
    code = (
        "import shutil, sys; shutil.which = lambda *a, **k: None\n"
        "from kirsch.cli.main import main; sys.exit(main(['balancer', *sys.argv[1:]]))"
    )
    (tmp_path / "haproxy.cfg").write_text("")
    arguments = ["--config", tmp_path / "haproxy.cfg", "--backend", "a=b:1", "--endpoints", tmp_path / "none"]
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (result.returncode, result.stderr) == (
        1,
        "kirsch balancer: haproxy is not installed: apt-get install haproxy\n",
    )


def test_wrong_usage(stack, tmp_path):
    balancer = make(stack, Balancer, tmp_path, backends=["notes"])
    code, output = balancer.end()
    assert code == 2
    assert "notes: write a backend as BACKEND=SERVICE:PORT" in output


def test_without_endpoints(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "KIRSCH_ENDPOINTS"}
    result = subprocess.run(
        [sys.executable, "-m", "kirsch.cli.main", "balancer", "--config", "x.cfg", "--backend", "a=b:1"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("kirsch balancer: KIRSCH_ENDPOINTS is not set")
