"""What is said of a unit that systemd could not start, or starts again."""

import pytest

from kirsch.cluster.runtime.systemd.states import Known, begins_to_wait, podman_said, state_of, tried_again
from kirsch.unit import UnitName

NAME = UnitName.parse("x.container")
PULL = (
    "Trying to pull registry.example/none:1...",
    "Error: initializing source docker://registry.example/none:1: no such host",
)
WAITS = {"ActiveState": "activating", "SubState": "auto-restart", "Result": "exit-code", "NRestarts": 1}
STARTS = {"ActiveState": "activating", "SubState": "start", "Result": "success", "NRestarts": 1}


def ended(status: int) -> dict[str, int]:
    return {"ExecMainCode": 1, "ExecMainStatus": status}


@pytest.mark.parametrize(
    ("status", "lines", "words"),
    [
        (125, PULL, "podman: initializing source docker://registry.example/none:1: no such host"),
        (127, ["Error: runc: no such file: OCI runtime attempted to invoke a command that was not found"],
         "podman: runc: no such file: OCI runtime attempted to invoke a command that was not found"),
        (127, ["sh: x: not found", "Error: mine"], ""),
        (3, PULL, ""),
        (125, ["Error", "no words"], ""),
        (125, [], ""),
        (125, ["Error: a\x1b[2Jb"], "podman: a [2Jb"),
    ],
)  # fmt: skip
def test_podmans_own_words_are_told_from_a_programs(status: int, lines: list[str], words: str):
    assert podman_said(ended(status), lines) == words


def test_a_unit_that_is_tried_again_says_what_it_failed_of_before():
    known = Known(NAME, "x.service", "h", before="podman: no such host")
    assert state_of(known, STARTS).message == "is tried again: podman: no such host"
    assert state_of(known, {**STARTS, "StatusText": "pulls"}).message == "pulls"
    now = Known(NAME, "x.service", "h", reason="podman: no such host")
    assert state_of(now, WAITS).message == "podman: no such host"


def test_when_a_unit_waits_to_be_started_again():
    assert tried_again(STARTS)
    assert not tried_again({**STARTS, "NRestarts": 0})
    assert begins_to_wait(STARTS, WAITS)
    assert not begins_to_wait(WAITS, WAITS)
