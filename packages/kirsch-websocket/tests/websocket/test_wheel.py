"""The wheel in an empty environment: uvicorn runs what the docs show, and npm's ws talks to the chat."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.websocket.programs import ROOT, ending
from tests.websocket.snippets import blocks
from tests.websocket.wheels import PACKAGE, wheel

PEERS = Path(__file__).parent / "peers"
WS = ROOT / "build" / "ws"
# Nothing of this repository, and no Python of the environment that runs the tests.
OURS = ("PYTHON", "PYTEST", "KIRSCH", "VIRTUAL_ENV")
EMPTY = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}


# Sends a word to an address, and prints the answer.
TALK = """
import sys
from kirsch.websocket.threaded import connect

with connect(sys.argv[1]) as ws:
    ws.send("hello")
    print(ws.recv())
"""


@contextmanager
def serving(folder: Path, application: str) -> Iterator[str]:
    """uvicorn with our protocol, as the page has it: HOST:PORT. Nothing it says may be a traceback."""
    server = subprocess.Popen(
        [
            folder / "venv" / "bin" / "uvicorn",
            "--ws",
            "kirsch.websocket.uvicorn:Protocol",
            "--port",
            "0",
            application,
        ],
        cwd=folder,
        env=EMPTY | {"PYTHONUNBUFFERED": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    with ending(server):
        assert server.stderr is not None
        said = ""
        while (found := re.search(r"running on http://(\S+)", said)) is None:
            line = server.stderr.readline()
            assert line, said
            said += line
        yield found[1]
        server.terminate()
        said += server.stderr.read()
        assert server.wait(30) in (0, -15)
        server.stderr.close()
    assert "Traceback" not in said, said


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env=EMPTY | environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_applications_on_uvicorn_from_the_wheel(tmp_path: Path) -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    done = subprocess.run([ROOT / "scripts" / "ws", WS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    bin = tmp_path / "venv" / "bin"
    needed = (wheel(tmp_path), "uvicorn", "fastapi", "channels")
    run(bin / "pip", "install", "--quiet", "--disable-pip-version-check", *needed, folder=tmp_path)
    shown = [text for _, text in blocks(PACKAGE / "docs" / "uvicorn.md")]
    files = {
        "app.py": '@app.websocket("/chat")',
        "shout.py": "starlette_app =",
        "mysite/asgi.py": "AsyncWebsocketConsumer",
    }
    (tmp_path / "mysite").mkdir()
    for name, words in files.items():
        (text,) = (each for each in shown if words in each)
        (tmp_path / name).write_text(text)
    (tmp_path / "talk.py").write_text(TALK)
    with serving(tmp_path, "app:app") as place:
        chat = ("node", PEERS / "ws_chat.js", f"ws://{place}/chat")
        facts = json.loads(run(*chat, folder=tmp_path, NODE_PATH=str(WS / "node_modules")))
        heard = [[size, size] for size in (5, 8, 100_000)]
        assert facts == {"heard": heard, "code": 3001, "extensions": "permessage-deflate"}
    with serving(tmp_path, "shout:starlette_app") as place:
        assert run(bin / "python", "talk.py", f"ws://{place}/shout", folder=tmp_path) == "HELLO\n"
    with serving(tmp_path, "mysite.asgi:application") as place:
        assert run(bin / "python", "talk.py", f"ws://{place}/echo", folder=tmp_path) == "hello\n"
    script = "from kirsch.websocket.core import speedups; print(speedups.implementation)"
    assert run(bin / "python", "-c", script, folder=tmp_path) == "cython\n"
