"""uvicorn's and Starlette's own tests of WebSockets, from their source distributions, with our protocol.

Left out, each with its reason, is what asks for the insides or the words of uvicorn's protocols or of
Starlette's test client, and where a client is told more here.
"""

import fcntl
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

# Git knows this folder as one to ignore.
FOLDER = Path(__file__).parents[4] / "build" / "upstream"
PEERS = Path(__file__).parent / "peers"
# Their tests change with each release: those of one version are run, with that version.
VERSIONS = {"uvicorn": "0.55.0", "starlette": "1.10.0"}
NEEDED = ("httpx2", "wsproto", *(f"{package}=={version}" for package, version in VERSIONS.items()))
DEPS = FOLDER / "-".join(("deps", *VERSIONS.values()))
UVICORN = """
import pytest
from kirsch.websocket.uvicorn import Protocol

@pytest.fixture
def ws_protocol_cls():
    return Protocol
"""
LEFT_OUT = (
    # They expect 1006, and are told why: 1011, 1000.
    *("test_duplicate_handshake", "test_asgi_return_value", "test_close_transport_on_asgi_return"),
    # The text of an exception.
    "test_server_multiple_websocket_http_response_start_events",
    # Attributes, methods and classes of uvicorn's own protocols.
    "test_frame_after_close_handshake_is_ignored",
    *("test_server_keepalive_ping_pong", "test_server_keepalive_disabled"),
    # A transport that is none, which never reads: test_uvicorn does the same with sockets.
    *("test_send_respects_write_backpressure", "test_close_waits_for_the_peer_close_frame"),
    *("test_close_resumes_reads_paused_on_an_unconsumed_message", "test_ping_while_closing"),
    *(
        "test_data_frame_while_closing_does_not_pause_reads",
        "test_data_frame_and_peer_close_frame_in_one_read",
    ),
    *("test_close_gives_up_when_the_peer_never_replies", "test_shutdown_while_the_close_reply_is_pending"),
    *("test_connection_lost_cancels_the_pending_close_timer", "test_connection_lost_unblocks_paused_send"),
    "test_send_after_peer_close_raises_client_disconnected",
    # The clock decides them, and test_uvicorn has the same with events.
    *("test_client_connection_lost", "test_connection_lost_before_handshake_complete"),
    *("test_send_close_on_server_shutdown", "test_server_keepalive_ping_timeout"),
)
STARLETTE = """
from starlette_client import test_client_factory
"""
OF_ITS_CLIENT = (
    # The host and the header fields that Starlette's client says it has.
    *("test_websocket_url", "test_websocket_port", "test_websocket_headers"),
    # An event that no message on a connection becomes.
    "test_receive_wrong_message_type",
)


def pip(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments], capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode:
        pytest.skip(f"the tests cannot be fetched: {done.stderr.strip()[-500:]}")


def source(package: str, conftest: str, text: str) -> Path:
    """Unpack the source distribution; it is installed in `deps`, with what its tests need."""
    name = f"{package}-{VERSIONS[package]}"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not DEPS.exists():
            pip("install", "--quiet", "--upgrade", "--target", str(FOLDER / "new-deps"), *NEEDED)
            (FOLDER / "new-deps").rename(DEPS)
        if not (FOLDER / name).exists():
            wanted = name.replace("-", "==")
            pip("download", "--quiet", "--no-deps", f"--no-binary={package}", "--dest", str(FOLDER), wanted)
            with tarfile.open(FOLDER / f"{name}.tar.gz") as archive:
                archive.extractall(FOLDER / "new", filter="data")
            (FOLDER / "new" / name).rename(FOLDER / name)
        (FOLDER / name / conftest).write_text(text)
    return FOLDER / name


def run(source: Path, files: tuple[str, ...], chosen: str, *path: Path) -> None:
    options = ["-q", "-c", os.devnull, "--rootdir", str(source), "--confcutdir", str(source)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-p", "no:cacheprovider", *files, "-k", chosen],
        cwd=source,
        env={key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
        | {"PYTHONPATH": os.pathsep.join(map(str, (DEPS, *path)))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_uvicorns_tests_pass() -> None:
    folder = source("uvicorn", "tests/protocols/conftest.py", UVICORN)
    run(folder, ("tests/protocols/test_websocket.py",), f"httptools and not ({' or '.join(LEFT_OUT)})")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_starlettes_tests_pass() -> None:
    folder = source("starlette", "tests/conftest.py", STARLETTE)
    files = tuple(f"tests/test_{name}.py" for name in ("websockets", "endpoints", "routing"))
    run(folder, files, f"websocket and not ({' or '.join(OF_ITS_CLIENT)})", PEERS)
