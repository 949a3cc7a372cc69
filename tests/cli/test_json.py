"""--json: on every verb that prints what it did or found, one document on standard output."""

import json
from collections.abc import Iterator

import pytest
from tests.cli.application import Application

from kirsch.cli.verb import Noun, Verb
from kirsch.cli.verbs import VERBS, load

# They print what a program says, a page, or a line as it comes: for a shell, a browser or a person.
EXEMPT = {
    *("run", "exec", "ssh", "db psql", "db switchover", "db failover", "db backup", "db restore"),
    *("serve", "dev", "dashboard", "balancer", "postgres"),
    *("help", "completion", "cluster ssh-config", "metrics targets"),
}


def verbs() -> Iterator[tuple[str, Verb]]:
    """Yield every verb of kirsch's own, those of two words and more too."""
    for names in VERBS.values():
        for name in names:
            yield from _within(name, load(name))


def _within(name: str, found: Verb | Noun) -> Iterator[tuple[str, Verb]]:
    if isinstance(found, Verb):
        yield name, found
        return
    if found.otherwise:
        yield name, found.otherwise
    for word, each in found.commands.items():
        yield from _within(f"{name} {word}", each)


def test_every_verb_that_prints_has_it():
    without = {name for name, each in verbs() if "json" not in {param.name for param in each.params}}
    assert without == EXEMPT


@pytest.mark.slow
@pytest.mark.services
def test_what_changes_units_prints_their_lines_once(application: Application):
    """One shape: `units` as list-units has them, `releases` as releases has them, names of what is gone."""
    application.sleeper("a.service")
    application.sleeper("t@.service")
    (application.directory / "kirsch.toml").write_text('name = "web"\nstart = ["a", "t@1"]\n')

    def told(*words: str) -> dict:
        done = application.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert application.fails("up", "--json", status=2).startswith("--json goes with -d")
    assert told("up", "--dry-run")["steps"]
    up = told("up", "-d")
    assert (up["application"], up["failed"]) == ("web", {})
    assert {line["name"]: line["active"] for line in up["units"]} == {
        "a.service": "active",
        "t@1.service": "active",
    }
    assert [row["number"] for row in up["releases"]] == [1]
    assert told("up")["releases"] == []
    known = {line["name"]: set(line) for line in json.loads(application.ok("list-units", "--json"))}
    for verb, active in (("stop", "inactive"), ("start", "active"), ("restart", "active")):
        (line,) = told(verb, "a")["units"]
        assert (line["name"], line["active"], set(line)) == ("a.service", active, known["a.service"])
    assert [row["state"] for row in told("scale", "t=2")["releases"]] == ["done"]
    assert told("scale", "t=1")["destroyed"] == ["t@2.service"]
    assert told("cat", "a") == {"a.service": application.ok("cat", "a")}
    assert told("submit", str(application.sleeper("b.service")))["units"][0]["name"] == "b.service"
    assert told("load", "b")["units"][0]["load"] == "loaded"
    assert told("unload", "b")["units"][0]["machine"] == ""
    assert told("destroy", "b") == {"destroyed": ["b.service"]}
    assert told("uncordon", "127.0.0.1")["machines"][0]["cordoned"] is False
    assert told("version")["versions"]["kirsch"]
    assert told("down") == {"stopped": True, "removed": []}
    assert told("down") == {"stopped": False, "removed": []}
