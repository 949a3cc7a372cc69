"""wstest, run by its Python 2.7, on a machine that is busy: it gives a connection ten times as long to close, and
prints which cases our side pinged in. That it does after twenty seconds of silence: a wake-up that was lost is
made good by it, and the case passes.
"""

import sys

from autobahn.websocket.protocol import WebSocketProtocol
from autobahntestsuite import wstest
from autobahntestsuite.fuzzing import FuzzingProtocol

kill_after = FuzzingProtocol.killAfter


def onPing(self, payload):
    if self.runCase:
        print("Pinged in " + self.factory.CaseSet.caseClasstoId(self.runCase.__class__))
    WebSocketProtocol.onPing(self, payload)


FuzzingProtocol.killAfter = lambda self, delay: kill_after(self, 10 * delay)
FuzzingProtocol.onPing = onPing
sys.exit(wstest.run())
