"""The command: many seeds on some processes, or one of them line by line."""

import argparse
import gc
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.simulation.named import NAMED
from tests.simulation.scenario import Scenario, random_scenario
from tests.simulation.simulation import simulate

PART = 50


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if nothing was broken, 1 otherwise."""
    options = _parser().parse_args(arguments)
    if options.scenario is not None:
        return _one(NAMED[options.scenario](options.seed or 1), options.trace)
    if options.seed is not None:
        return _one(random_scenario(options.seed), options.trace)
    return _many(options.first, options.seeds, options.jobs, options.stop)


def _one(scenario: Scenario, trace: bool) -> int:
    outcome = simulate(scenario, trace)
    for line in outcome.scenario.describe() + outcome.trace:
        print(line)
    print(f"{scenario.name}: {outcome.broken or f'settled at {outcome.settled:.1f} s'}")
    return 1 if outcome.broken else 0


def _many(first: int, seeds: int, jobs: int, stop: int) -> int:
    began, broken, done = time.monotonic(), 0, 0
    for failures in play(range(first, first + seeds), jobs):
        done += PART
        broken += len(failures)
        for seed, text in failures:
            print(f"seed {seed}: {text}", flush=True)
        if broken >= stop:
            break
    seconds = time.monotonic() - began
    print(f"{min(done, seeds)} seeds in {seconds:.1f} s: {broken} broken", flush=True)
    if broken:
        print("python -m tests.simulation --seed SEED --trace plays one again", file=sys.stderr)
    return 1 if broken else 0


def play(seeds: Sequence[int], jobs: int) -> Iterable[list[tuple[int, str]]]:
    """The seeds that broke something, and what, part by part."""
    parts = [seeds[start : start + PART] for start in range(0, len(seeds), PART)]
    if jobs == 1:
        yield from map(broken_among, parts)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("forkserver")) as pool:
        try:
            yield from pool.map(broken_among, parts)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def broken_among(seeds: Sequence[int]) -> list[tuple[int, str]]:
    """The seeds of these that broke something, and what."""
    # Simulations leave circles behind: collected here, between them.
    gc.disable()
    found = []
    for seed in seeds:
        try:
            broken = simulate(random_scenario(seed)).broken
        except Exception as error:
            broken = f"the simulation itself failed: {error!r}"
        if broken:
            found.append((seed, broken))
        if seed % 10 == 0:
            gc.collect()
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation",
        description="Play clusters in virtual time, a different one each seed, and see that all holds.",
    )
    parser.add_argument("--seeds", type=int, default=1000, help="how many (1000)")
    parser.add_argument("--first", type=int, default=1, help="the first of them (1)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (1)")
    parser.add_argument("--stop", type=int, default=10, help="stop after so many that are broken (10)")
    parser.add_argument("--seed", type=int, help="play this one alone")
    parser.add_argument("--scenario", choices=NAMED, help="play one of the named faults")
    parser.add_argument("--trace", action="store_true", help="and print all that happens in it")
    return parser
