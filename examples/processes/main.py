"""A bus that manages processes and has no web server: `python main.py`, and Ctrl-C stops it all."""

from cherrypy.process.plugins import SignalHandler
from cherrypy.process.wspbus import Bus

from kirsch.bus import Command, ProcessPlugin

SCRIPTS = {
    "clock": "while :; do date +%T; sleep 1; done",
    "load": "while :; do cut -d' ' -f1-3 /proc/loadavg; sleep 2; done",
    "fragile": "echo 'I feel fine'; sleep 2; echo 'oh no' >&2; exit 1",
}


def show(name: str, line: str) -> None:
    print(f"{name:>8} | {line}", flush=True)


def main() -> None:
    bus = Bus()
    # Whatever happens in the process is said on a channel of the bus; who is interested listens.
    bus.subscribe("log", lambda message, level: show("bus", message))
    bus.subscribe("process-line", lambda name, stream, line: show(name, line))
    bus.subscribe("process-failed", lambda name, reason: bus.exit())

    # Each process is a plugin: it starts and stops with the bus, and is started again when it fails.
    for name, script in SCRIPTS.items():
        ProcessPlugin(bus, name, Command(("sh", "-c", script))).subscribe()

    SignalHandler(bus).subscribe()
    bus.start()
    bus.block()


if __name__ == "__main__":
    main()
