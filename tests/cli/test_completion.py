"""Completion: what can follow, and that real shells complete it."""

import json
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from tests.cli.application import Application

from kirsch.cli.completion import Names, answer

BIN = str(Path(sys.executable).parent)
UNITS = ["notes@.container", "notes@1.container", "webdb.container"]


def complete(line: Sequence[str], machines: Sequence[str] = ()) -> tuple[str, list[str]]:
    """What paths can follow, and which words."""
    paths, *lines = answer(line, Names(lambda where: UNITS, lambda where: machines)).splitlines()
    return paths, [word.partition("\t")[0] for word in lines]


def words(*line: str) -> list[str]:
    return complete(line)[1]


class TestWhatCanFollow:
    def test_verbs(self):
        assert words("sta") == ["start", "status"]
        assert {"up", "run", "exec", "verify", "completion"} <= set(words(""))
        assert words("--endpoint", "unix:///x", "unl") == ["unload"]
        assert words("help", "jo") == ["journal"]

    def test_units(self):
        assert words("cat", "") == UNITS
        # A template cannot be started.
        assert words("start", "") == ["notes@1.container", "webdb.container"]
        assert words("stop", "--timeout", "3", "webdb", "notes@") == ["notes@1.container"]
        assert words("run", "--link", "we") == ["webdb.container"]

    def test_machines_and_clusters(self):
        def names(*line: str) -> list[str]:
            return complete(line, ["n1", "n2"])[1]

        assert names("drain", "") == ["n1", "n2"]
        assert names("move", "w") == ["webdb.container"]
        assert names("move", "webdb", "") == ["n1", "n2"]
        assert names("ssh", "") == ["notes@1.container", "webdb.container", "n1", "n2"]
        assert names("metadata", "n1", "") == []
        assert names("cluster", "remove", "") == ["n1", "n2"]
        assert "create" in names("cluster", "")
        assert names("clus") == ["cluster"]
        assert names("help", "cluster", "stat") == ["status"]

    @pytest.mark.slow
    def test_contexts_of_the_kubeconfig(self, tmp_path, monkeypatch):
        file = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "prod", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "prod",
        }
        (tmp_path / "config").write_text(json.dumps(file))
        # The client reads $KUBECONFIG as it is imported.
        place = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
        monkeypatch.setattr(place, str(tmp_path / "config"))
        assert words("up", "--on", "kubernetes:") == ["kubernetes:prod"]
        monkeypatch.setattr(place, str(tmp_path / "none"))
        assert words("up", "--on", "kubernetes:") == []

    def test_options(self):
        assert words("list-units", "--f") == ["--full", "--fields"]
        assert words("--e") == ["--endpoint"]
        assert words("list-machines", "--fields", "machine,i") == ["machine,ip"]
        assert words("list-units", "--endpoint", "") == []
        assert words("completion", "") == ["bash", "zsh", "fish"]
        assert words("balancer", "--b") == ["--backend"]
        assert words("balancer", "--config", "haproxy.cfg", "--backend", "a=b:1", "--dr") == ["--drain"]

    def test_paths(self):
        def paths(*line: str) -> str:
            return complete(line)[0]

        assert [paths("up", ""), paths("submit", ""), paths("cat", "")] == ["folders", "files", "none"]
        # A command after a unit is the shell's to complete.
        assert paths("exec", "notes@1", "l") == "files"
        assert words("exec", "notes@1", "") == []

    def test_the_kirschd_that_is_asked_is_the_one_that_was_named(self):
        asked = []

        def units(where: Mapping[str, str | None]) -> Sequence[str]:
            asked.append({name: value for name, value in where.items() if value})
            return ()

        for line in (
            ["--endpoint", "unix:///a", "cat", ""],
            ["cat", "--endpoint=unix:///b", ""],
            ["--cluster", "c", "cat", "--tunnel=n1", ""],
            ["cat", ""],
        ):
            answer(line, Names(units))
        assert asked == [
            {"endpoint": "unix:///a"},
            {"endpoint": "unix:///b"},
            {"cluster": "c", "tunnel": "n1"},
            {},
        ]


@pytest.fixture
def submitted(application: Application) -> Application:
    application.sleeper("notes@.service")
    application.sleeper("webdb.service")
    application.ok("up", "-d")
    application.ok("start", "notes@1")
    return application


def environment(application: Application) -> dict[str, str]:
    return {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(application.directory)}


def bash(application: Application, line: str) -> list[str]:
    """What bash would offer at the end of a line."""
    script = """
        source <(kirsch completion bash)
        COMP_LINE=$1 COMP_POINT=${#1}
        _kirsch 2>/dev/null
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", line],
        cwd=application.directory,
        env=environment(application),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_a_kirsch_that_is_not_on_path(tmp_path: Path):
    script = f"""
        source <({BIN}/kirsch completion bash)
        PATH=/usr/bin:/bin
        for COMP_LINE in "$@"; do
            COMP_POINT=${{#COMP_LINE}}
            _kirsch
            echo "${{COMPREPLY[@]}}"
        done
    """
    (tmp_path / "bin").symlink_to(BIN)
    done = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", f"{BIN}/kirsch sta", "bin/kirsch sta", "~/bin/kirsch sta"],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["start status"] * 3, done.stderr


@pytest.mark.slow
def test_bash(submitted: Application):
    assert bash(submitted, "kirsch sta") == ["start", "status"]
    assert bash(submitted, "kirsch start web") == ["webdb.service"]
    # bash takes what stands before @ for a word of its own.
    assert bash(submitted, "kirsch stop notes@") == ["1.service"]
    assert bash(submitted, "kirsch list-units --no") == ["--no-legend"]
    assert bash(submitted, "kirsch up ") == []


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish(submitted: Application):
    def fish(line: str) -> list[str]:
        done = subprocess.run(
            ["fish", "--no-config", "-c", "kirsch completion fish | source; complete -C $argv", line],
            cwd=submitted.directory,
            env=environment(submitted),
            capture_output=True,
            text=True,
            check=True,
        )
        return [found.split("\t")[0] for found in done.stdout.splitlines()]

    assert fish("kirsch sta") == ["start", "status"]
    assert fish("kirsch stop ") == ["notes@1.service", "webdb.service"]
    assert "units/" in fish("kirsch submit ")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh(submitted: Application):
    """zsh completes only where there is a terminal."""
    terminal, other = pty.openpty()
    process = subprocess.Popen(
        ["zsh", "-f", "-i"],
        cwd=submitted.directory,
        env=environment(submitted) | {"TERM": "dumb"},
        stdin=other,
        stdout=other,
        stderr=other,
        start_new_session=True,
    )
    os.close(other)
    try:
        os.write(
            terminal, b"autoload -U compinit; compinit -u -D; source <(kirsch completion zsh); print set\n"
        )
        assert "\nset" in read(terminal, "\nset")
        os.write(terminal, b"kirsch destr\t")
        assert "destroy " in read(terminal, "destroy ")
        os.write(terminal, b"web\t")
        assert "webdb.service " in read(terminal, "webdb.service ")
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def read(terminal: int, until: str, seconds: float = 15.0) -> str:
    """What a terminal shows until a text comes."""
    deadline = time.monotonic() + seconds
    shown = ""
    while until not in shown.replace("\r", "") and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 65536).decode(errors="replace")
    return shown.replace("\r", "")
