"""Ctrl-C in calls of Java, with a stand-in for java.lang.Thread: what is told to whom, and how often."""

import subprocess
import sys

import pytest

# SIGINT comes within a call that fails, as Java's do when they are interrupted: Python hears of it only in
# what is done after the call.
TWICE = """
import ctypes, os, signal, threading
from kirsch.hbase.calls import Interrupter

class Thread:
    def interrupt(self):
        pass
    currentThread = interrupted = staticmethod(lambda: Thread())

reading, writing = os.pipe()
os.set_blocking(writing, False)
signal.set_wakeup_fd(writing)
interrupter = Interrupter(lambda: Thread)
fail = ctypes.PyDLL(None)["raise"]
for _ in range(3):
    try:
        interrupter.run(sum, (map(fail, [signal.SIGINT]), []))
    except KeyboardInterrupt as error:
        assert isinstance(error.__context__, TypeError)
    assert signal.set_wakeup_fd(writing) == writing
    assert os.read(reading, 1) == bytes([signal.SIGINT])
    assert interrupter.run(len, ("ab",)) == 2
# The thread that passes them on has passed on all, and none twice.
interrupter.end()
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join(20)
        assert not thread.is_alive()
os.close(writing)
assert os.read(reading, 100) == b""
"""


# It comes while the thread that passes it on is being started; and then within a call that ends only when it
# is interrupted.
EARLY = """
import ctypes, operator, os, signal, threading
from functools import partial
from kirsch.hbase.calls import Interrupter

class Thread:
    def interrupt(self):
        os.write(writing, b"!")
    currentThread = interrupted = staticmethod(lambda: Thread())

def interrupted(self):
    raise KeyboardInterrupt

reading, writing = os.pipe()
interrupter = Interrupter(lambda: Thread)
start, threading.Thread.start = threading.Thread.start, interrupted
try:
    interrupter.run(len, ("ab",))
except KeyboardInterrupt:
    threading.Thread.start = start
else:
    raise AssertionError("it was not started")
calls = [
    partial(ctypes.PyDLL(None)["raise"], signal.SIGINT),
    partial(ctypes.CDLL(None).read, reading, ctypes.create_string_buffer(1), 1),
]
try:
    interrupter.run(list, (map(operator.call, calls),))
except KeyboardInterrupt:
    pass
else:
    raise AssertionError("nothing was raised")
"""


@pytest.mark.parametrize("program", [TWICE, EARLY], ids=["again", "early"])
def test_control_c(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
