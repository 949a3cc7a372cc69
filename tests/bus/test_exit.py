"""Real processes that are told to leave, at every moment of their lives."""

import signal
import subprocess
import sys
import threading

import pytest

PROGRAM = """
import sys, threading, cherrypy
from kirsch.bus import ExitPlugin, HealthPlugin
bus = cherrypy.engine
cherrypy.server.unsubscribe()
cherrypy.config.update({"engine.autoreload.on": False, "log.screen": False})
say = lambda word: print(word, flush=True)
leave = eval(sys.argv[1])
leave.subscribe()
bus.signal_handler.subscribe()
def start():
    say("starting")
    asked = sys.stdin.readline().split()
    if "call" in asked: leave(); leave(); threading.Thread(target=leave).start()
    if "fail" in asked: raise OSError("no")
bus.subscribe("start", start, 10)
for channel in ("drain", "stop", "exit"):
    bus.subscribe(channel, lambda word=channel: say(word))
if sys.argv[2:]: say("before"); sys.stdin.readline()
bus.start()
say("started")
bus.block()
"""
EXIT, HEALTH, DRAIN = "ExitPlugin(bus)", "HealthPlugin(bus, drain=0)", "HealthPlugin(bus, drain=0.1)"
STOP = ["stop", "exit"]


class Process:
    def __init__(self, plugin: str, *arguments: str) -> None:
        argv = [sys.executable, "-c", PROGRAM, plugin, *arguments]
        pipe = subprocess.PIPE
        self.popen = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def read(self) -> str:
        return self.popen.stdout.readline().strip()

    def write(self, line: str = "") -> None:
        self.popen.stdin.write(line + "\n")
        self.popen.stdin.flush()

    def end(self) -> tuple[int, list[str]]:
        """Its status, and what it still said."""
        out, _ = self.popen.communicate(timeout=20)
        return self.popen.returncode, out.split()


@pytest.fixture
def launch():
    started: list[Process] = []

    def start(*arguments: str) -> Process:
        started.append(Process(*arguments))
        return started[-1]

    yield start
    for process in started:
        process.popen.kill()
        process.popen.communicate()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("plugin", [EXIT, HEALTH, DRAIN])
def test_a_signal_while_it_starts_waits_for_the_start(launch, plugin, signum):
    process = launch(plugin)
    assert process.read() == "starting"
    process.popen.send_signal(signum)
    process.write()
    assert process.read() == "started"
    drain = ["drain"] if plugin == DRAIN and signum == signal.SIGTERM else []
    assert process.end() == (0, drain + STOP)


@pytest.mark.parametrize("plugin", [EXIT, HEALTH, DRAIN])
def test_a_signal_before_the_start_is_not_lost(launch, plugin):
    process = launch(plugin, "wait")
    assert process.read() == "before"
    process.popen.terminate()
    process.write()
    assert process.read() == "starting"
    process.write()
    assert process.read() == "started"
    assert process.end() == (0, ["drain"] * (plugin == DRAIN) + STOP)


@pytest.mark.parametrize("plugin", [EXIT, DRAIN])
def test_a_start_that_fails_ends_what_waits_for_it(launch, plugin):
    process = launch(plugin)
    assert process.read() == "starting"
    process.popen.terminate()
    process.write("fail")
    assert process.end() == (70, STOP)  # CherryPy's own status for it


def test_who_asks_often_is_answered_once(launch):
    process = launch(EXIT)
    process.read()
    process.write("call")
    assert process.read() == "started"
    assert process.end() == (0, STOP)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_started_bus(launch, signum):
    process = launch(EXIT)
    process.read()
    process.write()
    assert process.read() == "started"
    process.popen.send_signal(signum)
    assert process.end() == (0, STOP)


def test_a_second_ctrl_c_ends_a_start_that_hangs(launch):
    process = launch(HEALTH)
    process.read()
    deadline = threading.Event()
    for _ in range(200):
        process.popen.send_signal(signal.SIGINT)
        deadline.wait(0.05)
        if process.popen.poll() is not None:
            break
    assert process.popen.returncode not in (None, 0)
