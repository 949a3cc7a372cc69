"""help, version and verify, which need no kirschd."""

import json
import os
import re
import subprocess
from importlib import metadata

import pytest
from tests.cli.application import KIRSCH, Application
from tests.cli.screen import COLUMNS, Screen

from kirsch.cli.main import main
from kirsch.cli.verb import Noun
from kirsch.cli.verbs import ALIASES, load, summaries

NOUNS = {name: noun for name in summaries() if isinstance(noun := load(name), Noun)}
VERBS = [
    *(name for name in summaries() if name not in ALIASES and (name not in NOUNS or NOUNS[name].otherwise)),
    *(
        f"{name} {second}"
        for name, noun in NOUNS.items()
        for second, verb in noun.commands.items()
        if not isinstance(verb, Noun)
    ),
    *(f"cluster user {third}" for third in NOUNS["cluster"].commands["user"].commands),
]


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_a_page_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]):
    assert main([*verb.split(), "--help"]) == 0
    page = capsys.readouterr().out
    parts = re.findall(r"^[A-Z]+$", page, re.MULTILINE)
    assert parts[:3] == ["NAME", "SYNOPSIS", "DESCRIPTION"]
    assert parts[-1] == "EXAMPLE"
    example = page.rpartition("EXAMPLE\n")[2].strip()
    assert re.search(rf"\bkirsch {verb}\b", example)
    assert max(map(len, page.splitlines())) <= 80


@pytest.mark.parametrize("words", [["--help"], ["help", "up"], ["ws", "--help"]])
def test_a_page_is_as_wide_as_the_terminal(words: list[str]):
    """COLUMNS is another window's there; in a pipe it counts."""
    with Screen([*KIRSCH, *words], dict(os.environ)) as screen:
        assert screen.status() == 0
    piped = subprocess.run(
        [*KIRSCH, *words],
        env=os.environ | {"COLUMNS": str(COLUMNS)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = [line.rstrip() for line in piped.stdout.splitlines()]
    assert [*lines, ""] == screen.seen
    assert 33 < max(map(len, lines)) <= COLUMNS


def test_help_and_version(application: Application):
    assert application.ok("help", "run") == application.ok("run", "--help")
    assert application.ok("help") == application.ok("--help")
    assert application.ok("--version") == f"kirsch {metadata.version('kirsch')}\n"
    versions = application.ok("version").splitlines()
    assert versions[0] == f"kirsch {metadata.version('kirsch')}"
    assert f"kirsch-websocket {metadata.version('kirsch-websocket')} (compiled)" in versions
    assert application.fails("help", "rum") == "there is no verb rum; did you mean run? (see kirsch --help)"


def test_verify_names_each_bad_file(application: Application):
    application.sleeper("good.service")
    application.sleeper("t@.service", "Conflicts=%p@*")
    application.unit("warn.service", "[Service]\nExecStart=sleep 1\nPrivateDevices=yes\n")
    assert application.ok("verify", "units/good.service", "units/t@.service") == (
        "units/good.service: ok\nunits/t@.service: ok\n"
    )
    done = application.run("verify", "units/warn.service")
    assert (done.returncode, done.stdout) == (0, "units/warn.service: ok\n")
    assert done.stderr.startswith("warning: units/warn.service:3:16: PrivateDevices= is not honoured")
    application.unit("bad.service", "[Service]\nExecStart=sleep 1\n[X-Kirsch]\nLinks=a\n")
    (application.directory / "units/latin.service").write_bytes(b"[Unit]\nDescription=\xe9\n")
    done = application.run(
        "verify",
        "units/bad.service",
        "units/good.service",
        "units/latin.service",
        "units/none.service",
        "server.py",
    )
    assert done.returncode == 1
    assert done.stdout == "units/good.service: ok\n"
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == [
        "units/bad.service:4:1",
        "units/latin.service:2:13",
        "units/none.service",
        "server.py",
    ]
    done = application.run("verify", "--json", "units/bad.service", "units/warn.service")
    assert (done.returncode, done.stderr) == (1, "")
    bad, warned = json.loads(done.stdout)
    assert (bad["file"], bad["ok"], bad["warnings"]) == ("units/bad.service", False, [])
    assert bad["error"].startswith("units/bad.service:4:1: ")
    assert (warned["ok"], warned["error"], len(warned["warnings"])) == (True, "", 1)
    assert not (application.directory / ".kirsch").exists()
    # units/* names folders of drop-ins too.
    (application.directory / "units/t@.service.d").mkdir()
    assert application.ok("verify", "units/t@.service", "units/t@.service.d") == "units/t@.service: ok\n"
