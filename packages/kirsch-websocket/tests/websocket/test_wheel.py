"""The wheel in an empty environment: uvicorn runs the FastAPI chat of the docs, and npm's ws talks to it."""

import json
import os
import re
import shutil
import subprocess
import sys
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


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fastapi_on_uvicorn_from_the_wheel(tmp_path: Path) -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    done = subprocess.run([ROOT / "scripts" / "ws", WS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    bin = tmp_path / "venv" / "bin"
    made = wheel(tmp_path)
    install = [bin / "pip", "install", "--quiet", "--disable-pip-version-check", made, "uvicorn", "fastapi"]
    subprocess.run(install, check=True, env=EMPTY)
    (chat,) = (
        text for _, text in blocks(PACKAGE / "docs" / "uvicorn.md") if '@app.websocket("/chat")' in text
    )
    (tmp_path / "app.py").write_text(chat)
    server = subprocess.Popen(
        [bin / "uvicorn", "--ws", "kirsch.websocket.uvicorn:Protocol", "--port", "0", "app:app"],
        cwd=tmp_path,
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
        node = ["node", PEERS / "ws_chat.js", f"ws://{found[1]}/chat"]
        talked = subprocess.run(
            node,
            env=EMPTY | {"NODE_PATH": str(WS / "node_modules")},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert talked.returncode == 0, talked.stderr
        facts = json.loads(talked.stdout)
        heard = [[size, size] for size in (5, 8, 100_000)]
        assert facts == {"heard": heard, "code": 3001, "extensions": "permessage-deflate"}
        server.terminate()
        said += server.stderr.read()
        assert server.wait(30) in (0, -15)
        server.stderr.close()
    assert "Traceback" not in said, said
    script = "from kirsch.websocket.core import speedups; print(speedups.implementation)"
    installed = subprocess.run(
        [bin / "python", "-c", script], env=EMPTY, capture_output=True, text=True, check=True
    )
    assert installed.stdout == "cython\n"
