"""What systemd and Quadlet would say of a file that is submitted, before any machine loads it."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable

from kirsch.cluster.runtime.systemd.quadlet import Generator
from kirsch.unit import QUADLET_TYPES, UnitError, UnitFile, UnitName

# fleet's types that systemd has no more (its NEWS: 228, 233), or makes from no file (systemd.scope(5)).
NEVER_LOADED = {
    "busname": "systemd has had no .busname units since version 233",
    "snapshot": "systemd has had no .snapshot units since version 228",
    "scope": "systemd makes a .scope of processes that run already, never from a file",
}
KNOWN = 4096  # files that are not asked about again
# Whoever submits waits for the answer, and an event loop with them: so many seconds in so many at most.
SPENT, WITHIN = 1.0, 10.0


class Checker:
    """Asks a machine's Quadlet, if it has one. What is known is not asked again: instances of a template are
    one file."""

    def __init__(self, generator: Generator | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._generator = generator
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._spent: deque[tuple[float, float]] = deque()

    def check(self, name: UnitName, file: UnitFile) -> list[str]:
        """Warnings, as Runtime.check has them. Blocks. Raises UnitError for what Quadlet refuses."""
        if name.type in NEVER_LOADED:
            return [f"{name}: {NEVER_LOADED[name.type]}: it will not run"]
        if name.type not in QUADLET_TYPES or self._generator is None:
            return []
        key = (name.type, file.hash)
        if key not in self._known:
            if self._is_spent():
                return [f"{name}: there is much to check: what Quadlet says of it is told when it is loaded"]
            try:
                self._known[key] = self._ask(self._generator, name, file)
            except OSError as error:
                return [f"{name}: podman's Quadlet cannot be asked about it: {error.strerror or error}"]
            if len(self._known) > KNOWN:
                self._known.popitem(last=False)
        if refused := self._known[key]:
            raise UnitError(refused, file.file or name.text)
        return []

    def _ask(self, generator: Generator, name: UnitName, file: UnitFile) -> str:
        began = self._clock()
        try:
            return generator.check([(name, file, "")], stubs=True).get(name, "")
        finally:
            now = self._clock()
            self._spent.append((now, now - began))

    def _is_spent(self) -> bool:
        while self._spent and self._spent[0][0] < self._clock() - WITHIN:
            self._spent.popleft()
        return sum(seconds for _, seconds in self._spent) > SPENT
