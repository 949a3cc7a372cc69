"""The examples of the documentation: each block that begins with a file's name is run in an empty folder."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from tests.amqp.visitor import Visitor
from tests.deadline import eventually
from tests.port import free_port

README = (Path(__file__).parents[4] / "packages/kirsch-amqp/docs/README.md").read_text()
PROTOCOL = (Path(__file__).parents[4] / "packages/kirsch-amqp/docs/protocol.md").read_text()
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", README, re.DOTALL))


@pytest.fixture
def run(rabbit, tmp_path):
    """Runs a file of the docs, with other ports; ends it."""
    started = []

    def start(name, **replaced):
        text = FILES[name]
        for old, new in replaced.items():
            assert old.strip("_") in text
            text = text.replace(old.strip("_"), str(new))
        (tmp_path / name).write_text(text)
        process = subprocess.Popen(
            [sys.executable, name],
            cwd=tmp_path,
            env=os.environ | {"AMQP_URL": rabbit.url},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()


@pytest.mark.slow
@pytest.mark.services
def test_the_chat_in_a_file(run):
    port = free_port()
    process = run("chat.py", _8888_=port)
    eventually(lambda: _ready(port) or process.poll() is not None, 30)
    assert process.poll() is None, process.stdout.read()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/kirsch.js") as response:
        assert b"KirschClient" in response.read()
    url = f"ws://127.0.0.1:{port}/ws"
    with Visitor(url, "Ada") as ada, Visitor(url, "Bob") as bob:
        ada.join("lobby")
        bob.join("lobby")
        ada.send("lobby", 1, "hello")
        assert bob.messages(1) == ["hello"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        figures = response.read().decode()
    documented = set(
        re.findall(r"`(\w+)(?:\{\w+=\})?`", README[README.index("## Figures") :].split("python")[0])
    )
    for name in documented - {"kirsch_amqp_"}:
        assert f"kirsch_amqp_{name}" in figures, name


def _ready(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as response:
            return json.loads(response.read())["ready"]
    except OSError:
        return False


@pytest.mark.services
def test_the_articles_bus(run):
    process = run("article.py")
    out, _ = process.communicate(timeout=60)
    assert sorted(out.splitlines()) == ["confirmed", "sports.chess a draw"], out


@pytest.mark.services
def test_on_asyncio(run):
    process = run("on_asyncio.py", _8889_=free_port())
    url = process.stdout.readline().split()[-1]
    with Visitor(url, "Ada") as ada:
        ada.join("lobby")
        ada.send("lobby", 1, "hello")
        assert ada.messages(1) == ["hello"]


@pytest.mark.services
def test_parts_of_the_rooms(run):
    """Bridges of one process, each with a stream of its own: a room of one is not that of another."""
    process = run("parts.py", _8890_=free_port())
    url = process.stdout.readline().split()[-1]
    with Visitor(f"{url}ws/0", "Ada") as ada, Visitor(f"{url}ws/3", "Bob") as bob:
        for visitor, said in ((ada, "of the first"), (bob, "of the last")):
            visitor.join("lobby")
            visitor.send("lobby", 1, said)
        assert ada.messages(1) == ["of the first"]
        assert bob.messages(1) == ["of the last"]


def test_each_code_of_the_bridge_is_documented():
    from kirsch.amqp import protocol

    found = vars(protocol).items()
    codes = [value for name, value in found if name.isupper() and type(value) is int and 1000 <= value < 5000]
    assert len(codes) >= 7
    for code in codes:
        assert f"| {code} |" in PROTOCOL, code
    source = "".join(path.read_text() for path in Path(protocol.__file__).parent.glob("*.py"))
    told = r'(?<!counters\.)(?:refuse|complain)\(\s*(?:self|connection|self, )?,?\s*"([\w-]+)"'
    for code in re.findall(told, source):
        assert f"`{code}`" in PROTOCOL, code
    for kind in protocol._READERS:
        assert f'"type":"{kind}"' in PROTOCOL


def test_each_limit_is_documented():
    from kirsch.amqp import Limits

    for name in Limits.__dataclass_fields__:
        if not name.startswith("ping_"):
            assert f"`{name}`" in README, name
