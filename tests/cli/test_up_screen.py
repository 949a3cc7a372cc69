"""`kirsch up` on a terminal of 80 columns and 24 lines."""

import re

import pexpect
import pytest
from tests.cli.application import Application
from tests.cli.terminal import Terminal, having

pytestmark = pytest.mark.services

# What CherryPy says of its start and HAProxy of its servers, a line longer than the terminal's, requests as
# http.server logs them.
WEB = r"""
import http.server, os, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
def say(text):
    print(time.strftime("[%d/%b/%Y:%H:%M:%S]"), text, flush=True)
say("ENGINE Listening for SIGTERM.")
say("ENGINE Bus STARTING")
say("ENGINE Serving on http://127.0.0.1:8080")
say("ENGINE Bus STARTED")
print("[NOTICE]   (18330) : CLI : 'server web/kirsch-probe' : New server registered.", flush=True)
print("[NOTICE]   (18330) : Server deleted.", flush=True)
print('127.0.0.1 - - [02/Dec/2026:09:27:48] "GET /there HTTP/1.0" 200 5 "" ""', flush=True)
print(("a word " * 30).strip(), flush=True)
http.server.HTTPServer((os.environ["KIRSCH_ADDRESS"], 8080), Handler).serve_forever()
"""
WEB_UNIT = """
[Service]
ExecStart=python web.py
[X-Kirsch]
Expose=8080
Health=http://:8080/ready
"""
FLOOD = "[Service]\nExecStart=sh -c 'seq 20000; sleep 1000'\n"
STATUS = "http://localhost:8080/  Ctrl-C stops shop"


@pytest.mark.slow
def test_the_address_and_how_to_stop_stay_the_last_line(application: Application):
    (application.directory / "web.py").write_text(WEB)
    application.unit("web.service", WEB_UNIT)
    application.unit("flood.service", FLOOD)
    (application.directory / "kirsch.toml").write_text(
        'name = "shop"\nopen = "http://localhost:8080/"\nstart = ["web"]\n'
    )
    terminal = Terminal(application.directory, "up")

    def whole(lines: list[str]) -> bool:
        # Between two lines the status line is erased and drawn again, in one write.
        return lines[-1] == STATUS and len([line for line in lines if line]) > 20

    # The flood is over, the rest of it counted; the address stands below.
    terminal.wait(lambda lines: STATUS in lines)
    assert "starting shop …" in terminal.output
    application.ok("start", "flood")
    terminal.wait(lambda lines: "more lines in that second: `kirsch journal flood" in terminal.output)
    terminal.wait(whole)
    assert sum(line.startswith("Ctrl-C") or STATUS in line for line in terminal.lines) == 1
    application.ok("stop", "flood")
    application.ok("restart", "web")
    terminal.wait(lambda lines: having("web.service", "a word a word")(lines) and whole(lines))
    shown = "\n".join(terminal.lines)
    assert "Serving on" in shown
    assert "Listening for" not in shown
    assert "STARTED" not in shown
    assert "NOTICE" not in shown
    assert "GET /ready" not in shown
    assert "GET /there" in shown
    # The journal has a clock of its own; it leaves the same one out, and a busy machine's may be seconds off.
    assert '"GET /ready HTTP/1.0" 200' in application.ok("journal", "-n", "100", "web")
    (line,) = [
        line for line in application.ok("journal", "-n", "100", "web").splitlines() if "Serving" in line
    ][-1:]
    assert re.fullmatch(
        r"[A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d (\[.*\] )?ENGINE Serving on http://127.0.0.1:8080", line
    )
    terminal.child.send("\x03")
    terminal.wait(having("web.service stopped"))
    assert STATUS not in terminal.lines
    terminal.child.expect(pexpect.EOF, timeout=30)
