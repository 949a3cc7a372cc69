"""`kirsch secret` where an application runs here; and what is typed is not shown."""

import json
import os
import subprocess
import time
import urllib.request

from tests.cli.application import KIRSCH, Application, wait_for
from tests.cli.screen import Screen


def get(address: str) -> dict[str, str]:
    """The environment of a server."""
    with urllib.request.urlopen(f"http://{address}:8080/", timeout=10) as answer:
        return json.load(answer)


def restart(application: Application) -> None:
    """The server is started anew, and serves."""
    application.ok("restart", "a")
    wait_for(lambda: application.units()["a.service"]["ready"], "it is ready")


def given(application: Application, name: str, value: bytes, *more: str) -> str:
    """What `kirsch secret set` prints."""
    done = subprocess.run(
        [*KIRSCH, "secret", "set", name, *more],
        cwd=application.directory, input=value, capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def test_a_secret_is_set_listed_used_and_removed(application: Application):
    application.server("a.service", "Secret=db:PASSWORD")
    application.sleeper("b.service")
    application.ok("up", "-d")
    address = application.units()["a.service"]["address"]
    before = get(address)["PASSWORD"]
    assert given(application, "db", b'it\'s "chosen"\n', "--no-restart").splitlines() == [
        "Secret db is changed",
        "Running units have the old value until they are restarted: kirsch restart a.service",
    ]
    assert get(address)["PASSWORD"] == before
    restart(application)
    assert get(address)["PASSWORD"] == 'it\'s "chosen"'
    assert json.loads(given(application, "new", b"x", "--json")) == {
        "name": "new", "created": True, "units": [], "running": [], "restarted": False,
    }  # fmt: skip
    rows = json.loads(application.ok("secret", "list", "--json"))
    assert [(row["name"], row["units"]) for row in rows] == [("db", ["a.service"]), ("new", [])]
    assert all(abs(row["set"] - time.time()) < 600 for row in rows)
    assert application.ok("secret", "list").splitlines()[0].split() == ["SECRET", "SET", "UNITS"]
    assert application.fails("secret", "rm", "db").startswith("secret db is used by a.service; --force")
    removed = application.ok("secret", "rm", "new", "db", "--force")
    assert removed == "Secret new is removed\nSecret db is removed\n"
    assert json.loads(application.ok("secret", "list", "--json")) == []
    # Here one that is missing is made up.
    restart(application)
    assert len(get(address)["PASSWORD"]) >= 24


def test_running_units_are_restarted_by_a_release_one_after_another(application: Application):
    application.server("a@.service", "Secret=db:PASSWORD")
    (application.directory / "kirsch.toml").write_text('name = "shop"\nstart = ["a@1", "a@2"]\n')
    application.ok("up", "-d")
    addresses = [application.units()[f"a@{n}.service"]["address"] for n in (1, 2)]
    assert given(application, "db", b"chosen").splitlines() == [
        "Secret db is changed",
        "Restarted a@1.service a@2.service",
    ]
    assert [get(address)["PASSWORD"] for address in addresses] == ["chosen", "chosen"]
    newest = json.loads(application.ok("releases", "--json"))[0]
    assert (newest["application"], newest["number"], newest["state"]) == ("shop", 2, "done")
    assert newest["message"] == "secret db"
    assert sorted(newest["replaced"]) == ["a@1.service", "a@2.service"]


def test_what_it_cannot_do_is_said_of_a_database(application: Application):
    application.unit(
        "db.service",
        "[Service]\nExecStart=sleep 1000\n[X-Kirsch]\nExpose=5432\nSecret=db:POSTGRES_PASSWORD\n",
    )
    application.ok("up", "-d")
    before = application.units()["db.service"]["pid"]
    done = subprocess.run(
        [*KIRSCH, "secret", "set", "db"],
        cwd=application.directory, input=b"new", capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0
    assert (
        b"db.service is a database that exists: its password is changed in it, by ALTER ROLE" in done.stderr
    )
    assert application.units()["db.service"]["pid"] == before
    assert b"Restarted" in given(application, "db", b"newer", "--restart").encode()
    assert application.units()["db.service"]["pid"] != before


def test_a_terminal_is_asked_and_shows_nothing(application: Application):
    application.sleeper("a.service")
    application.ok("up", "-d")
    environment = {**os.environ, "KIRSCH_ENDPOINT": f"unix://{application.directory}/.kirsch/kirsch.sock"}
    command = [*KIRSCH, "secret", "set", "typed"]
    with Screen(command, environment) as screen:
        screen.shows("Secret typed:")
        screen.type("hush\n")
        screen.shows("Once more:")
        screen.type("hush\n")
        screen.shows("Secret typed is set", "")
        assert not any("hush" in line for line in screen.seen)
    assert (application.directory / ".kirsch/secrets/typed").read_bytes() == b"hush"
    with Screen(command, environment) as screen:
        screen.shows("Secret typed:")
        screen.type("hush\n")
        screen.shows("Once more:")
        screen.type("rush\n")
        screen.wait(lambda: any("not the same: nothing was set" in line for line in screen.seen), 20)
    assert (application.directory / ".kirsch/secrets/typed").read_bytes() == b"hush"


def test_names_of_secrets_are_completed(application: Application):
    application.server("a.service", "Secret=db:PASSWORD")
    application.ok("up", "-d")
    for verb in (("rm",), ("set",), ("rm", "other")):
        assert "db" in application.ok("_complete", "secret", *verb, "").split()
    assert application.ok("_complete", "secret", "").count("\t") == 4
