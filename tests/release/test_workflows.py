"""Workflow files for a public CI: valid by GitHub's schema, and of what this repository has; not run here."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILES = sorted(ROOT.glob(".github/workflows/*.yml"))


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_is_valid(file):
    schema = ["--builtin-schema", "vendor.github-workflows"]
    command = [sys.executable, "-m", "check_jsonschema", *schema, str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_it_runs_is_there(file):
    jobs = yaml.safe_load(file.read_text())["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    targets = {target for command in commands for target in re.findall(r"\bmake ([a-z-]+) PYTHON=", command)}
    assert targets <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {path for command in commands for path in re.findall(r"(?:\.ci|tests)/[\w./]+", command)} <= {
        str(path.relative_to(ROOT)) for path in [*ROOT.glob(".ci/*"), *ROOT.glob("tests/release/*.py")]
    }


def test_only_a_tag_publishes_and_only_once_names_are_ours():
    [release] = [file for file in FILES if file.stem == "release"]
    whole = yaml.safe_load(release.read_text())
    # YAML 1.1 reads `on` as true.
    assert whole[True] == {"push": {"tags": ["v[0-9]*"]}}
    assert whole["jobs"]["publish"]["if"] == "vars.PUBLISH == 'yes'"
    assert whole["permissions"] == {"contents": "read"}
