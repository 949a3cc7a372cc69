"""Verbs of other distributions: entry points of the group kirsch.verbs."""

import os
import subprocess
from pathlib import Path

import pytest
from tests.cli.application import KIRSCH

MODULE = """
from kirsch.cli.errors import Failure
from kirsch.cli.verb import Noun, argument, verb

@verb("greet", argument("name", "NAME"), text="It is polite.", example="kirsch greet Ada")
def greet(options):
    if options.name == "nobody":
        raise Failure("there is nobody to greet")
    print(f"Hello, {options.name}")
    return 0

tree = Noun("tree")

@tree.verb("plant", "plant a tree", example="kirsch tree plant")
def plant(options):
    print("planted at", options.endpoint)
    return 0
"""
ENTRY_POINTS = """
[kirsch.verbs]
greet = greeter:greet
tree = greeter:tree
broken = no_such_module:verb
up = greeter:greet
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with an installed distribution."""
    info = tmp_path / "site/greeter-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: greeter\nVersion: 1\nSummary: Greetings and trees\n"
    )
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (info.parent / "greeter.py").write_text(MODULE)
    return info.parent


def kirsch(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(site)}
    return subprocess.run([*KIRSCH, *arguments], env=environment, capture_output=True, text=True, timeout=60)


def test_they_are_listed_with_their_distributions_summary_and_not_imported(site: Path):
    (site / "greeter.py").write_text("raise SystemExit('imported')")
    done = kirsch(site, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "  greet   Greetings and trees\n" in done.stdout
    assert "greet\tGreetings and trees\n" in kirsch(site, "_complete", "gree").stdout


def test_they_run_and_have_pages_suggestions_and_options_as_ours(site: Path):
    assert kirsch(site, "greet", "Ada").stdout == "Hello, Ada\n"
    assert kirsch(site, "--endpoint", "unix:///x", "tree", "plant").stdout == "planted at unix:///x\n"
    assert "kirsch-greet - Greetings and trees" in kirsch(site, "greet", "--help").stdout
    assert kirsch(site, "tree").stderr == "kirsch: tree what? There are\n  tree plant  plant a tree\n"
    assert "did you mean greet" in kirsch(site, "gret").stderr
    done = kirsch(site, "greet", "nobody")
    assert (done.returncode, done.stderr) == (1, "kirsch: there is nobody to greet\n")


def test_a_verb_of_ours_is_never_replaced(site: Path):
    assert "kirsch-up - run an application" in kirsch(site, "up", "--help").stdout


def test_one_that_cannot_be_imported_is_one_line(site: Path):
    done = kirsch(site, "broken")
    assert (done.returncode, done.stderr) == (
        1,
        "kirsch: broken comes from greeter, which cannot be loaded: No module named 'no_such_module'\n",
    )
