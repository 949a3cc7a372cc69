"""What docs/web.md says to type works: its site serves, refuses and ends as it tells."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from tests.deadline import eventually
from tests.port import free_port

PAGE = (Path(__file__).parents[2] / "docs/web.md").read_text()
PATIENCE = 30


def test_the_shop(tmp_path):
    (program,) = re.findall(r"```python\n# shop\.py\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "shop.py").write_text(program)
    (tmp_path / "static").mkdir()
    (tmp_path / "static/index.html").write_text('<link rel="stylesheet" href="/static/look.css"><p>Cherries!')
    port = free_port()
    environment = os.environ | {"PORT": str(port), "SHOP_DRAIN": "0"}

    def ask(path, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        with closing(connection):
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def answers():
        assert process.poll() is None
        try:
            return ask("/readyz")[0] == 200
        except OSError:
            return False

    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "shop.py"], cwd=tmp_path, env=environment, stdout=log, stderr=log
        )
    try:
        eventually(answers, PATIENCE, "the shop")
        status, headers, body = ask("/")
        assert (status, headers["Server"], b"Cherries!" in body) == (200, "shop", True)
        assert headers["X-Kirsch-Instance"] == f"127.0.0.1:{port}"
        assert ask("/static/look.css")[0] == 200
        assert ask("/price?of=cherries")[2] == b"5\n"
        status, _, body = ask("/price?of=plums")
        assert (status, json.loads(body)["detail"]) == (404, "There are no plums today.")
        assert body.decode() in PAGE
        assert ask("/", Host="evil.example")[0] == 421
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
