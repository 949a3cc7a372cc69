"""wstest, run by its Python 2.7, for a machine that is busy: connections have ten times as long to close.

And it prints in which cases our side pinged, as it does after twenty seconds of silence: a wake-up was lost,
and the case passes all the same.
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
