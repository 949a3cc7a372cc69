"""`python -m chat` as a process: settings, what it serves, a broker that is away."""

import subprocess
import sys

import pytest
from tests.amqp.rabbit import Rabbit
from tests.chat.conftest import CHAT
from tests.deadline import eventually
from tests.port import free_port

from kirsch.websocket import ClientOptions, HandshakeError
from kirsch.websocket.threaded import connect

pytestmark = [pytest.mark.services, pytest.mark.slow]


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"PORT": "x"}, "chat: PORT is 'x': a port is a number from 1 to 65535"),
        ({"CHAT_LOG": "xml"}, "chat: CHAT_LOG is 'xml': it is text or json"),
        ({"CHAT_DRAIN": "-1"}, "chat: CHAT_DRAIN is '-1'"),
        ({"CHAT_ROOMS_PASSWORD": "x"}, "chat: CHAT_ROOMS_PASSWORD has 12 characters at least"),
        ({"AMQP_URL": "http://user:secret@x"}, "chat: the broker's URL is no amqp[s]://"),
        ({"RABBITMQ_PORT_5672_TCP_ADDR": "x", "RABBITMQ_PORT_5672_TCP_PORT": "y"}, "is no port"),
    ],
)
def test_wrong_settings_end_it_with_a_line(environment, told):
    done = subprocess.run(
        [sys.executable, "-m", "chat"],
        cwd=CHAT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "secret" not in done.stderr


def test_a_broker_that_is_away_at_the_start_and_comes(instances, tmp_path):
    port = free_port()
    instance = instances.start(f"amqp://127.0.0.1:{port}/", wait=False)

    def reason():
        return instance.readiness().get("checks", {}).get("rabbitmq", {}).get("reason", "")

    assert "amqp://127.0.0.1" in eventually(reason, 30, "the reason")
    assert instance.get("/readyz")[0] == 503
    assert instance.get("/healthz")[0] == 200
    # The page is there, and says that it waits.
    assert instance.get("/")[0] == 200
    with Rabbit(tmp_path / "data", port=port):
        eventually(lambda: instance.readiness()["ready"], 60, "readiness")
        instance.end()


class TestServed:
    def test_the_page_and_its_files(self, pair):
        one, two = pair
        status, headers, body = one.get("/")
        assert (status, headers["Content-Type"]) == (200, "text/html;charset=utf-8")
        assert "script" in headers["Content-Security-Policy"]
        assert b"<script>" not in body
        assert headers["X-Kirsch-Instance"] == "chat@2"
        # Both give the same tag: who asks the other has it already.
        assert two.get("/", If_None_Match=headers["ETag"])[0] == 304
        assert two.get("/static/app.js")[1]["Content-Type"] == "text/javascript;charset=utf-8"
        assert b"KirschClient" in one.get("/kirsch.js")[2]
        assert one.get("/static/none.js")[0] == one.get("/none")[0] == 404
        assert one.get("/static/../settings.py")[0] == 404
        assert b"kirsch_amqp_connected 1" in one.get("/metrics")[2]

    def test_strangers(self, pair):
        assert pair[0].get("/", Host="chat.example")[0] == 421
        with pytest.raises(HandshakeError) as refused:
            connect(f"ws://{pair[0].address}:8080/ws", options=ClientOptions(origin="http://evil.example"))
        assert refused.value.status == 403

    def test_the_websocket_alone_is_one(self, pair):
        assert pair[0].get("/ws")[0] == 426
