"""What both APIs take: big bodies, odd names, silent and slow clients, thousands of units."""

import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from tests.cli.application import Application
from tests.cluster.live import Kirschd, kirschd_in, options, unit_path

pytestmark = pytest.mark.services

MIB = 1 << 20
APIS = ("/fleet/v1", "/kirsch/v1")
SLEEPER = "[Service]\nExecStart=/bin/sleep 1000\n"


@pytest.fixture(scope="module")
def kirschd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kirschd]:
    with kirschd_in(tmp_path_factory.mktemp("limits")) as running:
        yield running


def sized(size: int, letter: str = "x") -> str:
    """A unit file of so many bytes: a thousand of them a line."""
    line = "# " + letter * (997 // len(letter.encode()))
    line += "x" * (999 - len(line.encode())) + "\n"
    text = SLEEPER + line * ((size - len(SLEEPER)) // 1000)
    return text + "#" * (size - len(text.encode()))


class TestBodies:
    @pytest.mark.parametrize("letter", ["x", "ü", '"'])
    def test_a_unit_file_of_1_mib(self, kirschd: Kirschd, letter: str) -> None:
        text = sized(MIB, letter)
        assert len(text.encode()) == MIB
        begun = time.monotonic()
        answer = kirschd.ask("PUT", "/kirsch/v1/units/big.service", {"text": text})
        assert answer.status in (200, 201)
        assert kirschd.ask("GET", "/kirsch/v1/units/big.service").json["text"] == text
        assert time.monotonic() - begun < 2

    def test_one_byte_more(self, kirschd: Kirschd) -> None:
        answer = kirschd.ask("PUT", "/kirsch/v1/units/more.service", {"text": sized(MIB + 1)})
        assert answer.status == 413
        assert answer.json["detail"] == "more.service: a unit file has at most 1 MiB"

    def test_by_the_command_line(self, application: Application) -> None:
        application.sleeper("first.service")
        application.ok("up", "-d")
        (application.directory / "big.service").write_text(sized(MIB))
        application.ok("submit", "big.service")
        assert application.ok("cat", "big.service") == sized(MIB)
        (application.directory / "huge.service").write_text(sized(2 * MIB))
        assert "1 MiB" in application.fails("submit", "huge.service")

    @pytest.mark.parametrize(("api", "limit"), [("/fleet/v1", MIB), ("/kirsch/v1", 4 * MIB)])
    def test_the_limit(self, kirschd: Kirschd, api: str, limit: int) -> None:
        """Up to it a body is read, and beyond it 413; the connection is good for the next request."""
        for size, status in ((limit, 400), (limit + 1, 413), (limit + 7 * MIB, 413)):
            connection = kirschd.connection()
            fields = {"Content-Type": "application/json"}
            answer = connection.ask("PUT", f"{api}/units/a.service", b" " * size, fields)
            assert answer.status == status
            assert answer.headers["Content-Type"] in ("application/json", "application/problem+json")
            assert answer.json
            assert connection.ask("GET", f"{api}/machines").status == 200
            connection.close()

    @pytest.mark.parametrize("api", APIS)
    def test_in_chunks(self, kirschd: Kirschd, api: str) -> None:
        connection = kirschd.connection()
        connection.request(
            "PUT",
            f"{api}/units/a.service",
            iter([b" " * MIB] * 5),
            {"Content-Type": "application/json"},
            encode_chunked=True,
        )
        assert connection.getresponse().status == 413
        connection.close()

    @pytest.mark.parametrize("api", APIS)
    @pytest.mark.parametrize("body", [b"[]", b"null", b"7", b'"x"', b"{", b"\xff", b"[" * 100_000])
    def test_no_json_object(self, kirschd: Kirschd, api: str, body: bytes) -> None:
        answer = kirschd.ask("PUT", f"{api}/units/a.service", body, Content_Type="application/json")
        assert answer.status == 400


class TestNames:
    NAME = r"a:b_c.d\x2de@f-0.service"

    @pytest.mark.parametrize("api", APIS)
    def test_every_legal_character(self, kirschd: Kirschd, api: str) -> None:
        path = api + unit_path(self.NAME)
        body: Any = {"options": options(SLEEPER)} if api == "/fleet/v1" else {"text": SLEEPER}
        assert kirschd.ask("PUT", path, body).status == 201
        assert kirschd.ask("GET", path).json["name"] == self.NAME
        # As a client that quotes nothing but what it must.
        bare = f"{api}/units/{self.NAME}".replace("\\", "%5C")
        assert kirschd.ask("GET", bare).json["name"] == self.NAME
        assert kirschd.ask("DELETE", path).status == 204

    def test_of_256_characters(self, kirschd: Kirschd) -> None:
        name = "n" * (256 - len(".service")) + ".service"
        assert kirschd.fleet("PUT", unit_path(name), {"options": options(SLEEPER)}).status == 201
        assert kirschd.fleet("GET", unit_path(name)).json["name"] == name

    def test_by_the_command_line(self, application: Application) -> None:
        application.sleeper("first.service")
        application.ok("up", "-d")
        (application.directory / self.NAME).write_text(SLEEPER)
        application.ok("start", self.NAME)
        assert application.units()[self.NAME]["active"] == "active"
        application.ok("destroy", self.NAME)


class TestClients:
    def silent(
        self, kirschd: Kirschd, stack: ExitStack, count: int, said: bytes = b""
    ) -> list[socket.socket]:
        made = []
        for _ in range(count):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(kirschd.socket))
            client.sendall(said)
            made.append(client)
        return made

    def test_500_that_say_nothing_disturb_nobody(self, kirschd: Kirschd) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
        with ExitStack() as stack:
            clients = self.silent(kirschd, stack, 500)
            for api in APIS:
                for _ in range(10):
                    begun = time.monotonic()
                    assert kirschd.ask("GET", f"{api}/machines").status == 200
                    assert time.monotonic() - begun < 1
            # And each of them is heard when it speaks.
            for client in clients[::50]:
                client.sendall(b"GET /fleet/v1/machines HTTP/1.1\r\nHost: x\r\n\r\n")
            for client in clients[::50]:
                client.settimeout(5)
                assert client.recv(100).startswith(b"HTTP/1.1 200 OK")

    @pytest.mark.parametrize(
        "said",
        [b"GET /fleet", b"PUT /fleet/v1/units/a.service HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"],
        ids=["heads", "bodies"],
    )
    def test_300_halves_disturb_nobody(self, kirschd: Kirschd, said: bytes) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
        with ExitStack() as stack:
            self.silent(kirschd, stack, 300, said)
            for api in APIS:
                for _ in range(10):
                    begun = time.monotonic()
                    assert kirschd.ask("GET", f"{api}/machines").status == 200
                    assert time.monotonic() - begun < 1

    @pytest.mark.soak
    @pytest.mark.slow
    def test_slow_ones_time_out(self, kirschd: Kirschd) -> None:
        """One says nothing, one begins a head, one a body: none of them is kept for ever."""
        body = b"PUT /fleet/v1/units/a.service HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        said = [b"", b"GET /fleet", body + b"Content-Length: 100\r\n\r\n{"]
        with ExitStack() as stack:
            clients = [self.silent(kirschd, stack, 1, words)[0] for words in said]
            deadline = time.monotonic() + 40
            answers = []
            for client in clients:
                client.settimeout(max(deadline - time.monotonic(), 0.1))
                answer = b""
                while piece := client.recv(65536):
                    answer += piece
                answers.append(answer.split(b"\r\n")[0])
        assert answers[2].startswith(b"HTTP/1.1 408")


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.parametrize("clients", [1, 8])
def test_5000_units_at_once(tmp_path_factory: pytest.TempPathFactory, clients: int) -> None:
    """Every one is there, the last is submitted as fast as the first, and lists are quick."""
    count = 5000
    with kirschd_in(tmp_path_factory.mktemp("many")) as kirschd:
        times: list[float] = []

        def submit(first: int) -> None:
            connection = kirschd.connection()
            for number in range(first, count, clients):
                body = {"options": options(f"[Service]\nExecStart=/bin/sleep {number}\n")}
                begun = time.monotonic()
                answer = connection.ask("PUT", f"/fleet/v1/units/many{number:04}.service", body)
                assert answer.status == 201, answer.body
                times.append(time.monotonic() - begun)
            connection.close()

        threads = [threading.Thread(target=submit, args=(first,)) for first in range(clients)]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        took = time.monotonic() - begun
        assert len(times) == count
        early, late = sorted(times[:1000])[500], sorted(times[-1000:])[500]
        begun = time.monotonic()
        units = kirschd.ask("GET", "/kirsch/v1/units").json["units"]
        listed = time.monotonic() - begun
        assert sum(unit["name"].startswith("many") for unit in units) == count
        print(
            f"\n{count} units by {clients}: {took:.1f} s, {early * 1000:.1f} ms each at first, "
            f"{late * 1000:.1f} ms at last; listed in {listed * 1000:.0f} ms"
        )
        assert late < 4 * early + 0.01
        assert listed < 1
