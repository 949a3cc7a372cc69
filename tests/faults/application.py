"""The application that is watched while machines break: pages anywhere, numbers kept on one machine, units of
which there is one each."""

from tests.machines.served import IMAGE
from tests.machines.trial import Trial, podman

PAGES = ("page@1.container", "page@2.container")
ONCE = tuple(f"once@{number}.service" for number in range(1, 7))
STORE = "store.service"
BALANCER = "lb.service"
FOLDER = "/etc/kirsch-faults"
# Of the balancer on each machine; a port of the computer leads there.
PORT = 8096
# The seconds that `once@` sleeps begin with it: a mark that no other process has.
MARK = "98765432"

PAGE = """\
[Container]
Image=localhost/flat:1
Pull=never
Volume=/etc/kirsch-faults:/app:ro
Exec=python3 /app/serve.py
StopTimeout=3
[Service]
Restart=always
RestartSec=200ms
[X-Kirsch]
Expose=8080 http
Spread=hostname
Health=http://:8080/page
"""
KEEPS = f"""\
[Service]
StateDirectory=kirsch-faults
ExecStart=/usr/bin/python3 {FOLDER}/serve.py
Restart=always
RestartSec=200ms
[X-Kirsch]
Expose=8080 http
Sticky=yes
Health=http://:8080/page
"""
RUNS_ONCE = f"""\
[Service]
ExecStart=/bin/sleep {MARK}%i
Restart=always
RestartSec=200ms
[X-Kirsch]
OnPartition=stop
Spread=hostname
"""
BALANCES = f"""\
[Service]
Type=notify
NotifyAccess=all
RuntimeDirectory=lb
ExecStart=/opt/kirsch/bin/kirsch balancer --config {FOLDER}/lb.cfg \\
    --backend page=page:http --backend store=store:http
Restart=always
RestartSec=200ms
TimeoutStopSec=15
[X-Kirsch]
Endpoints=yes
Expose={PORT} http
Health=http://:{PORT}/page
Global=true
"""
CONFIGURATION = f"""\
global
    log stdout format raw local0
defaults
    mode http
    timeout connect 500ms
    timeout client 5s
    timeout server 5s
    retries 3
    option redispatch 1
    # A request whose connection broke was not acknowledged; numbers may come twice.
    retry-on conn-failure
frontend entry
    bind *:{PORT}
    use_backend store if {{ path_beg /numbers }}
    default_backend page
backend page
    option httpchk GET /page
backend store
    option httpchk GET /page
"""
# GET /page: who answers. POST /numbers/N: kept, on the disk before the answer. GET /numbers: all of them.
SERVE = """\
import http.server, os, socketserver, threading
folder = os.environ.get("STATE_DIRECTORY")
lock = threading.Lock()
class Answers(http.server.BaseHTTPRequestHandler):
    def answer(self, body, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        if self.path == "/page":
            return self.answer(os.uname().nodename.encode())
        with lock, open(folder + "/numbers", "rb") as file:
            self.answer(file.read())
    def do_POST(self):
        with lock, open(folder + "/numbers", "ab") as file:
            file.write(self.path.rpartition("/")[2].encode() + b"\\n")
            file.flush()
            os.fsync(file.fileno())
        self.answer(b"")
    def log_message(self, *arguments):
        pass
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
Server((os.environ.get("KIRSCH_ADDRESS", "0.0.0.0"), 8080), Answers).serve_forever()
"""


def start(trial: Trial) -> None:
    """Bring the application onto the machines, and have it run."""
    for machine in trial.machines:
        trial.shell(machine, IMAGE)
        trial.shell(machine, f"mkdir -p {FOLDER}")
        for name, text in (("serve.py", SERVE), ("lb.cfg", CONFIGURATION)):
            podman("cp", trial.write(name, text), f"{machine.container}:{FOLDER}/{name}")
    for name, text in (
        ("page@.container", PAGE), (STORE, KEEPS), ("once@.service", RUNS_ONCE), (BALANCER, BALANCES),
    ):  # fmt: skip
        trial.submit(name, text)
    # Whoever plays a round waits until all is well.
    trial.kirsch("start", "--no-block", STORE, *PAGES, *ONCE, BALANCER)


def remove(trial: Trial) -> None:
    """Take the application off the machines, with what it kept there."""
    trial.clear()
    for machine in trial.machines:
        trial.shell(machine, f"podman rmi --force flat:1; rm -rf {FOLDER} /var/lib/kirsch-faults")
