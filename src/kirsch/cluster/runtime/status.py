"""Exit statuses and signals as unit files and systemd's messages name them (systemd.exec(5), signal(7))."""

import signal
from collections.abc import Iterable
from dataclasses import dataclass

from kirsch.bus.process.child import Exit

EXEC = 203  # "EXEC": the command could not be executed

# systemd.exec(5), "Process exit codes": what the C library, LSB and <sysexits.h> define, and systemd's own.
CODES = {
    0: "SUCCESS",
    1: "FAILURE",
    2: "INVALIDARGUMENT",
    3: "NOTIMPLEMENTED",
    4: "NOPERMISSION",
    5: "NOTINSTALLED",
    6: "NOTCONFIGURED",
    7: "NOTRUNNING",
    64: "USAGE",
    65: "DATAERR",
    66: "NOINPUT",
    67: "NOUSER",
    68: "NOHOST",
    69: "UNAVAILABLE",
    70: "SOFTWARE",
    71: "OSERR",
    72: "OSFILE",
    73: "CANTCREAT",
    74: "IOERR",
    75: "TEMPFAIL",
    76: "PROTOCOL",
    77: "NOPERM",
    78: "CONFIG",
    EXEC: "EXEC",
}
_NUMBERS = {name: number for number, name in CODES.items()}


@dataclass(frozen=True, slots=True)
class Statuses:
    """A set of exit codes and signals, as SuccessExitStatus= and its like hold."""

    codes: frozenset[int] = frozenset()
    signals: frozenset[int] = frozenset()

    @classmethod
    def parse(cls, words: Iterable[str]) -> "Statuses":
        """Numbers and names of exit codes, names of signals. Raises ValueError for anything else."""
        codes, signals = set(), set()
        for word in words:
            if word.isdecimal():
                if int(word) > 255:
                    raise ValueError(f"an exit status is 0 to 255, not {word}")
                codes.add(int(word))
            elif word in _NUMBERS:
                codes.add(_NUMBERS[word])
            else:
                signals.add(parse_signal(word))
        return cls(frozenset(codes), frozenset(signals))

    def __or__(self, other: "Statuses") -> "Statuses":
        return Statuses(self.codes | other.codes, self.signals | other.signals)

    def __contains__(self, exit: Exit) -> bool:
        return exit.code in self.codes or exit.signal in self.signals


def parse_signal(text: str) -> int:
    """A signal's number from "SIGTERM", "TERM" or "15". Raises ValueError when there is no such signal."""
    name = text if text.startswith("SIG") else f"SIG{text}"
    try:
        number = int(text) if text.isdecimal() else getattr(signal.Signals, name).value
        return signal.Signals(number).value
    except (AttributeError, ValueError):
        raise ValueError(f"no such signal or exit status: {text}") from None


def signal_name(number: int) -> str:
    """Return a signal's name, as "SIGTERM" for 15."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


def describe(exit: Exit) -> str:
    """systemd's words for its log: "code=exited, status=3/NOTIMPLEMENTED", "code=killed, status=9/KILL"."""
    if exit.signal is not None:
        return f"code=killed, status={exit.signal}/{signal_name(exit.signal).removeprefix('SIG')}"
    name = CODES.get(exit.code or 0)
    return f"code=exited, status={exit.code}" + (f"/{name}" if name else "")


def explain(exit: Exit) -> str:
    """For a person: "exited with status 3", "was killed by SIGKILL"."""
    if exit.signal is not None:
        return f"was killed by {signal_name(exit.signal)}"
    return f"exited with status {exit.code}"
