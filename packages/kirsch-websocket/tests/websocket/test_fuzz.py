"""A few seconds of fuzzing, the same each time; `make fuzz` takes longer, and is guided."""

import gc
import itertools
import os
import subprocess
import sys

import pytest
from tests.source import PYTHONPATH
from tests.websocket.fuzz.__main__ import NAMES
from tests.websocket.fuzz.mutate import inputs
from tests.websocket.fuzz.seeds import SEEDS
from tests.websocket.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_what_is_foreseen(name):
    for data in itertools.islice(inputs(SEEDS[name], seed=5), len(SEEDS[name]) + 1000):
        try:
            TARGETS[name](data)
        except Exception:
            print(f"{name}: {data!r}")
            raise


@pytest.mark.parametrize("name", NAMES)
def test_nothing_grows(name):
    def run():
        for data in itertools.islice(inputs(SEEDS[name], seed=6), 600):
            TARGETS[name](data)
        gc.collect()
        return sys.getallocatedblocks()

    run()
    # What is made once and kept is not what grows.
    assert min(after - before for before, after in itertools.pairwise([run() for _ in range(4)])) < 100


def test_the_command(tmp_path):
    seed = tmp_path / "input"
    seed.write_bytes(SEEDS["parser"][0])
    command = [sys.executable, "-m", "tests.websocket.fuzz", "--input", str(seed)]
    environment = os.environ | {"PYTHONPATH": PYTHONPATH}
    assert subprocess.run([*command, "parser"], env=environment, check=False).returncode == 0
    wrong = subprocess.run(
        [*command, "nothing"], env=environment, check=False, capture_output=True, text=True
    )
    assert wrong.returncode == 2
    assert "no target: nothing" in wrong.stderr
