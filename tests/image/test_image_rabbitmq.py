"""The image rabbitmq, as its users expect it."""

import contextlib
import logging
import socket
from typing import Any

import pika
import pytest
from tests.deadline import eventually
from tests.image.conftest import IMAGES, Podman

# Of each attempt it says a dozen lines.
logging.getLogger("pika").setLevel(logging.CRITICAL)
pytestmark = [pytest.mark.machines, pytest.mark.soak, pytest.mark.root, pytest.mark.timeout(900)]
PASSWORD = 'it\'s <<"a">>, ☃'


@pytest.fixture(scope="module")
def rabbitmq() -> str:
    Podman("none").kirsch("image", "build", IMAGES / "rabbitmq", "-t", "kirsch/rabbitmq")
    return "localhost/kirsch/rabbitmq"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def connected(port: int, user: str, password: str) -> pika.BlockingConnection:
    account = pika.PlainCredentials(user, password)
    return pika.BlockingConnection(
        pika.ConnectionParameters("127.0.0.1", port, credentials=account, connection_attempts=1)
    )


def ready(podman: Podman, name: str, port: int) -> pika.BlockingConnection:
    def connects() -> pika.BlockingConnection | None:
        state = podman.podman("inspect", name, "--format", "{{.State.Running}}")
        assert state == "true", podman.said(name)
        with contextlib.suppress(pika.exceptions.AMQPError, OSError):
            return connected(port, "chat", PASSWORD)
        return None

    found = eventually(connects, 180, "RabbitMQ")
    assert found is not None
    return found


def with_stream(connection: pika.BlockingConnection) -> Any:
    """A channel once the stream is there, which RabbitMQ brings up after its port."""
    channel = connection.channel()
    try:
        channel.queue_declare("kept", passive=True)
    except pika.exceptions.ChannelClosedByBroker:
        return None
    return channel


def test_the_official_images_variables_make_an_account_and_what_was_said_stays(podman, rabbitmq, tmp_path):
    secret = tmp_path / "password"
    secret.write_text(f"{PASSWORD}\n")
    secret.chmod(0o644)
    volume, port = f"{podman.prefix}-data", free_port()
    options = [
        "--env", "RABBITMQ_DEFAULT_USER=chat", "--env", "RABBITMQ_DEFAULT_PASS_FILE=/secret",
        "--volume", f"{secret}:/secret:ro", "--volume", f"{volume}:/var/lib/rabbitmq",
        "--cap-drop", "all", "--security-opt", "no-new-privileges", "--read-only",
        "--publish", f"127.0.0.1:{port}:5672",
    ]  # fmt: skip
    try:
        name = podman.run(rabbitmq, *options)
        with contextlib.closing(ready(podman, name, port)) as connection:
            channel = connection.channel()
            channel.queue_declare("kept", durable=True, arguments={"x-queue-type": "stream"})
            channel.confirm_delivery()
            channel.basic_publish("", "kept", b"hello", mandatory=True)
        with pytest.raises(pika.exceptions.AMQPError):
            connected(port, "chat", "wrong")
        with pytest.raises(pika.exceptions.AMQPError):
            connected(port, "guest", "guest")
        podman.podman("healthcheck", "run", name)
        assert podman.podman("exec", name, "id", "--user", "--name") == "rabbitmq"
        # Whoever looks at the server's environment finds no password.
        assert PASSWORD not in podman.podman("exec", name, "sh", "-c", "cat /proc/*/environ | tr '\\0' '\\n'")
        podman.podman("stop", "--time", "60", name)
        assert podman.podman("inspect", name, "--format", "{{.State.ExitCode}}") == "0"
        # Another container, of another name: its data are the node's.
        again = podman.run(rabbitmq, *options)
        with contextlib.closing(ready(podman, again, port)) as connection:
            channel = eventually(lambda: with_stream(connection), 60, "the stream's return")
            channel.basic_qos(prefetch_count=1)
            for _, _, body in channel.consume("kept", arguments={"x-stream-offset": "first"}):
                assert body == b"hello"
                break
        podman.podman("stop", "--time", "60", again)
    finally:
        podman.clean()
        podman.podman("volume", "rm", "--force", volume)


def test_both_a_password_and_its_file_are_one_too_many(podman, rabbitmq):
    name = podman.run(
        rabbitmq, "--env", "RABBITMQ_DEFAULT_PASS=x", "--env", "RABBITMQ_DEFAULT_PASS_FILE=/secret"
    )
    eventually(lambda: podman.podman("inspect", name, "--format", "{{.State.Running}}") == "false", 60)
    assert "RABBITMQ_DEFAULT_PASS and RABBITMQ_DEFAULT_PASS_FILE are both set" in podman.said(name)
    assert podman.podman("inspect", name, "--format", "{{.State.ExitCode}}") == "1"


def test_a_folder_of_another_user_is_left_alone(podman, rabbitmq, tmp_path):
    name = podman.run(rabbitmq, "--volume", f"{tmp_path}:/var/lib/rabbitmq")
    eventually(lambda: podman.podman("inspect", name, "--format", "{{.State.Running}}") == "false", 60)
    assert "is another user's: give it to" in podman.said(name)
