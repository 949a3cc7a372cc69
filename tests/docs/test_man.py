"""The manual pages: one for each verb, and none with a mistake that mandoc finds."""

import subprocess
import sys
from pathlib import Path

import pytest

from kirsch.cli.verb import Noun
from kirsch.cli.verbs import ALIASES, VERBS, load

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def run(*command: str | Path) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("man")
    run(sys.executable, "scripts/man", folder, "kirsch-websocket", "kirsch-amqp")
    return folder


def test_each_verb_has_a_manual_page(folder: Path):
    names = {"kirsch", "kirsch-ws", "kirsch-room"}
    for name in (name for group in VERBS.values() for name in group if name not in ALIASES):
        verb = load(name)
        names.add(f"kirsch-{name}")
        if isinstance(verb, Noun):
            names |= {f"kirsch-{name}-{second}" for second in verb.commands}
    assert names <= {path.name.removesuffix(".1") for path in folder.glob("man1/*.1")}
    others = {path.name for section in (5, 8) for path in folder.glob(f"man{section}/*")}
    assert others == {"kirsch-unit.5", "kirsch.toml.5", "kirschd.8"}


def test_mandoc_finds_no_mistake_in_them(folder: Path):
    assert run("mandoc", "-Tlint", "-Wwarning", *sorted(folder.glob("man*/*"))) == ""


def test_a_page_has_what_help_says_and_what_the_code_honours(folder: Path):
    page = (folder / "man5/kirsch-unit.5").read_text()
    assert "PrivateTmp=\\fR" in page
    assert "Sticky=yes" in page
    assert "--exit-on-failure" in (folder / "man1/kirsch-up.1").read_text()
    assert not any(line.startswith("|") for line in page.splitlines())
