"""Metadata of the distributions, held to each other and to what pages say of them."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from kirsch.cli.verbs import VERBS, load
from kirsch.install import SOURCE, pip_install

ROOT = Path(__file__).parents[2]
PROJECTS = {
    project["name"]: project
    for path in [ROOT / "pyproject.toml", *sorted(ROOT.glob("packages/kirsch-*/pyproject.toml"))]
    for project in [tomllib.loads(path.read_text())["project"]]
}
PYTHONS = [11, 12, 13, 14]


def test_all_have_one_version_and_need_each_other_in_that():
    [version] = {project["version"] for project in PROJECTS.values()}
    needed = [
        need for project in PROJECTS.values() for need in project["dependencies"] if need.startswith("kirsch")
    ]
    assert needed
    assert all(need.partition("==")[::2] == (need.partition("==")[0], version) for need in needed)
    assert {need.partition("==")[0] for need in needed} <= set(PROJECTS)


@pytest.mark.parametrize("name", PROJECTS)
def test_each_says_what_an_index_shows(name):
    project = PROJECTS[name]
    folder = ROOT if name == "kirsch" else ROOT / "packages" / name
    assert project["requires-python"] == f">=3.{PYTHONS[0]},<3.{PYTHONS[-1] + 1}"
    pythons = [f"Programming Language :: Python :: 3.{minor}" for minor in PYTHONS]
    assert [each for each in project["classifiers"] if re.search(r"Python :: 3\.\d", each)] == pythons
    assert project["description"]
    assert project["keywords"]
    assert project["authors"]
    assert project["license"] == "BSD-3-Clause"
    assert all((folder / file).is_file() for file in [project["readme"], *project["license-files"]])
    package = "*" if name == "kirsch" else name.removeprefix("kirsch-")
    assert list(folder.glob(f"src/kirsch/{package}/py.typed"))


def test_the_command_that_installs_says_where_from():
    assert pip_install("kirsch[sql]") == f"pip install {SOURCE} 'kirsch[sql]'".replace("  ", " ")


def test_every_page_says_where_from():
    """Nobody has the names on the public index: a stranger could take them."""
    pages = subprocess.run(
        ["git", "ls-files", "*.md", "*.py", "*.ipynb"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    wrong = [
        f"{page}: {found[0]}"
        for page in pages
        if page != "tests/release/test_metadata.py" and (ROOT / page).is_file()
        for found in re.finditer(
            r"(?:pip|pipx|uv tool) install\b[^|\n`#]*?['\"\s]kirsch\b[^\s`]*", (ROOT / page).read_text()
        )
        if SOURCE not in found[0].replace("$PWD/", "")
    ]
    assert not wrong


def verbs(found: click.Command) -> Iterator[click.Command]:
    """Yield a verb and the verbs below it."""
    yield found
    for below in getattr(found, "commands", {}).values():
        yield from verbs(below)


def test_every_verb_s_help_says_where_from():
    texts = [each.help or "" for group in VERBS.values() for name in group for each in verbs(load(name))]
    commands = [found for text in texts for found in re.findall(r"`(pip install [^`]*\bkirsch[^`]*)`", text)]
    assert commands
    assert [command for command in commands if SOURCE not in command] == []
