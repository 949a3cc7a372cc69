"""kirsch up and down, told whole: what a person sees, and what is left when something dies."""

import json
import os
import signal
import socket
import stat
import subprocess
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.cli.application import DEADLINE, KIRSCH, Application, alive, descendants, wait_for

import kirsch.cli.up as up_module
from kirsch.cli.main import main
from kirsch.cluster.application import ApplicationError, load
from kirsch.sql.postgres import data


def get(address: str) -> dict:
    with urllib.request.urlopen(f"http://{address}:8080/", timeout=10) as answer:
        return json.load(answer)


def test_each_starts_once_what_it_is_linked_to_is_ready(application: Application):
    application.server("web@.service", "Link=db:store")
    application.server("db.service", "ExposeEnv=DB_NAME").write_text(
        "[Service]\nEnvironment=DB_NAME=shop DB_PASSWORD=no\nExecStart=python server.py\n"
        "[X-Kirsch]\nExpose=8080\nHealth=http://:8080/\nExposeEnv=DB_NAME\n"
    )
    (application.directory / "kirsch.toml").write_text(
        'name = "shop"\nopen = "http://localhost:1/"\nstart = ["web@2", "web@1", "db"]\n'
    )
    printed = application.ok("up", "-d")
    assert "shop is up: http://localhost:1/" in printed
    assert printed.index("db.service     ready at") < printed.index("web@1.service  ready at")

    units = application.units()
    assert {name: (unit["active"], unit["ready"]) for name, unit in units.items()} == {
        "db.service": ("active", True),
        "web@1.service": ("active", True),
        "web@2.service": ("active", True),
    }
    # Both listen on port 8080, each on an address of its own, and see the same database.
    seen = [get(units[f"web@{i}.service"]["address"]) for i in (1, 2)]
    assert [environment["KIRSCH_INSTANCE"] for environment in seen] == ["1", "2"]
    database = units["db.service"]["address"]
    for environment in seen:
        assert environment["STORE_PORT"] == f"tcp://{database}:8080"
        assert environment["STORE_ENV_DB_NAME"] == "shop"
        assert "STORE_ENV_DB_PASSWORD" not in environment


@pytest.mark.slow
def test_ctrl_c_stops_users_first(application: Application):
    for name, link in (("a", ""), ("b", "Link=a"), ("c", "Link=b")):
        path = application.server(f"{name}.service", link)
        tell = f"[Service]\nExecStopPost=/bin/sh -c 'echo {name}.service >> stopped'"
        path.write_text(path.read_text().replace("[Service]", tell))
    process = application.foreground()
    pids = descendants(application.kirschd())
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    stopped = [line.split()[0] for line in printed.splitlines() if line.endswith(" stopped")]
    # Two that stop at about the same time are told of at once.
    assert sorted(stopped) == ["a.service", "b.service", "c.service"]
    order = (application.directory / "stopped").read_text().split()
    assert order == ["c.service", "b.service", "a.service"]
    assert not alive(pids)


def test_a_unit_is_told_of_though_kirschd_ended_before_it_could_say_so(application: Application):
    application.unit(
        "slow.service",
        """
        [Service]
        ExecStart=sleep 1000
        ExecStop=sleep 1000
        """,
    )
    application.ok("up", "-d")
    daemon = application.kirschd()
    pids = descendants(daemon)
    down = subprocess.Popen(
        [*KIRSCH, "down"],
        cwd=application.directory,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    application.started.append(down)
    wait_for(lambda: application.units()["slow.service"]["active"] == "deactivating", "it is being stopped")
    os.kill(daemon, signal.SIGKILL)
    printed, _ = down.communicate(timeout=DEADLINE)
    assert printed.splitlines() == ["  slow.service stopped", ". is down"]
    wait_for(lambda: not alive(pids), "all processes of the application are gone")


def test_up_shows_each_units_lines_and_only_what_is_printable(application: Application):
    application.unit(
        "talk.service",
        r"""
        [Service]
        ExecStart=/bin/sh -c 'printf "hello \\033[31mred\\033[0m \\033[2J\\n"; exec sleep 1000'
        """,
    )
    process = application.foreground()
    assert process.stdout is not None
    line = next(line for line in process.stdout if "hello" in line)
    assert line == "talk.service | hello red \\x1b[2J\n"


@pytest.mark.slow
def test_what_was_kept_is_there_after_down_and_up(application: Application):
    application.unit(
        "keep.service",
        """
        [Service]
        StateDirectory=keep
        ExecStart=/bin/sh -c 'echo again >> $STATE_DIRECTORY/log; cat $STATE_DIRECTORY/log; exec sleep 1000'
        """,
    )
    application.ok("up", "-d")
    address = application.units()["keep.service"]["address"]
    assert "is down" in application.ok("down")
    application.ok("up", "-d")
    assert application.units()["keep.service"]["address"] == address
    lines = application.ok("journal", "-n", "3", "keep").splitlines()
    assert [line.split()[-1] for line in lines if "Started" not in line] == ["again", "again"]


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["kirsch up", "kirschd"])
def test_after_kill_9_nothing_is_left(application: Application, victim: str):
    application.unit(
        "family.service",
        """
        [Service]
        # A daemon that forks twice in a session of its own, and a child that ignores SIGTERM.
        ExecStart=/bin/sh -c '(setsid sh -c "sleep 1000 & sleep 1000" &); \
            sh -c "trap : TERM; sleep 1000 & wait" & wait'
        """,
    )
    application.sleeper("b.service")
    process = application.foreground()
    daemon = application.kirschd()
    pids = descendants(daemon)
    assert len(pids) >= 8  # kirschd, two shims, and theirs
    os.kill(process.pid if victim == "kirsch up" else daemon, signal.SIGKILL)
    wait_for(lambda: not alive(pids), "all processes of the application are gone")
    process.wait(DEADLINE)

    # And it comes up again, with what it knew; what starts by itself is not started anew.
    assert "stopping" not in application.ok("up", "-d")
    assert application.units()["b.service"]["active"] == "active"


@pytest.mark.slow
@pytest.mark.services
def test_after_kill_9_nothing_of_postgresql_is_left(application: Application):
    application.unit(
        "db.service",
        """
        [Service]
        Environment=POSTGRES_PASSWORD=only-here
        StateDirectory=db
        KillSignal=SIGINT
        ExecStart=python -m kirsch.sql.postgres
        [X-Kirsch]
        Expose=5432
        Health=tcp://:5432
        """,
    )
    process = application.foreground()
    daemon = application.kirschd()
    pids = descendants(daemon)
    assert len(pids) >= 6  # kirschd, the shim, the postmaster and its children
    os.kill(daemon, signal.SIGKILL)
    wait_for(lambda: not alive(pids), "PostgreSQL and its children are gone")
    assert process.wait(DEADLINE) == 1


def test_a_killed_unit_comes_back_and_is_ready_again(application: Application):
    application.unit(
        "web.service",
        """
        [Service]
        ExecStart=python server.py
        Restart=always
        RestartSec=20ms
        [X-Kirsch]
        Expose=8080
        Health=http://:8080/
        """,
    )
    application.ok("up", "-d")
    before = application.units()["web.service"]
    os.kill(before["pid"], signal.SIGKILL)

    def back():
        unit = application.units()["web.service"]
        return unit["pid"] not in (0, before["pid"]) and unit["ready"] and unit

    assert wait_for(back, "the unit is ready again")["restarts"] == 1


def test_up_again_takes_changes_in_and_destroys_what_is_gone(application: Application):
    application.sleeper("a.service")
    application.sleeper("b.service")
    application.ok("up", "-d")
    before = application.units()
    application.unit("a.service", "[Service]\nExecStart=sleep 2000\n")
    (application.directory / "units/b.service").unlink()
    application.sleeper("c.service")
    assert "up to date" in application.ok("up", "-d")
    after = application.units()
    assert after.keys() == {"a.service", "c.service"}
    assert after["a.service"]["pid"] != before["a.service"]["pid"]
    assert not alive({before["a.service"]["pid"], before["b.service"]["pid"]})
    # What did not change is let be.
    application.ok("up", "-d")
    assert application.units()["a.service"]["pid"] == after["a.service"]["pid"]


@pytest.mark.slow
def test_up_again_runs_nothing_again_that_ran_to_its_end(application: Application):
    job = application.unit(
        "job.service", "[Service]\nType=oneshot\nExecStart=sh -c 'echo ran >> $$PWD/ran'\n"
    )
    application.ok("up", "-d")
    application.ok("up", "-d")
    assert (application.directory / "ran").read_text() == "ran\n"
    job.write_text(job.read_text() + "# changed\n")
    application.ok("up", "-d")
    assert (application.directory / "ran").read_text() == "ran\nran\n"


def test_a_cluster_s_own_units_are_not_run_here(application: Application):
    application.sleeper("nap.service")
    (application.directory / "more").mkdir()
    (application.directory / "more/nightly.timer").write_text("[Timer]\nOnCalendar=daily\n")
    settings = application.directory / "kirsch.toml"
    settings.write_text('[cluster]\nunits = "more"\nstart = ["nightly"]\n')
    application.ok("up", "-d")
    assert application.units().keys() == {"nap.service"}
    settings.write_text('[cluster]\nunits = "nowhere"\n')
    assert application.fails("up", "-d").endswith("kirsch.toml: cluster.units is to be a folder")
    settings.write_text('[cluster]\nunit = "more"\n')
    assert "unknown key 'unit'; there are units, start, replicas" in application.fails("up", "-d")


def test_drop_ins_change_units(application: Application):
    unit = application.unit(
        "echo@.service", "[Service]\nEnvironment=A=1\nExecStart=sh -c 'echo $$A $$B; sleep 1000'\n"
    )
    folder = unit.with_name("echo@2.service.d")
    folder.mkdir()
    (folder / "b.conf").write_text("[Service]\nEnvironment=B=two\n")
    (application.directory / "kirsch.toml").write_text('start = ["echo@1", "echo@2"]\n')
    application.ok("up", "-d")
    wait_for(lambda: "1 two" in application.ok("journal", "echo@2"), "its line")
    assert "two" not in application.ok("journal", "echo@1")


def test_a_plan_does_nothing(application: Application):
    application.sleeper("nap.service")
    assert application.ok("up", "--dry-run") == "submit   nap.service\nstart    nap.service\n"
    assert not (application.directory / ".kirsch").exists()
    assert "there is no cluster nowhere" in application.fails("up", "--on", "nowhere")


@pytest.mark.parametrize("verb", ["up", "down", "dev"])
def test_a_cluster_is_named_by_on(application: Application, verb: str):
    """--cluster is for verbs that speak to a kirschd: here it would do nothing, or stop what runs here."""
    application.sleeper("nap.service")
    said = application.fails("--cluster", "far", verb, status=2)
    assert said.startswith(f"--cluster is not for {verb}, which is about this computer")
    assert (f"`kirsch {verb} --on far`" in said) is (verb != "dev")
    assert application.fails(verb, "--tunnel", "n1", status=2).startswith("--tunnel is not for ")
    assert not (application.directory / ".kirsch").exists()


def test_nothing_may_be_to_start(application: Application):
    application.sleeper("nap.service")
    (application.directory / "kirsch.toml").write_text("start = []\n")
    assert "is up" in application.ok("up", "-d", "--timeout", "20")
    assert application.units() == {}
    assert "nap.service" in application.ok("list-unit-files")


def test_half_requests_hold_up_no_verb(application: Application):
    application.sleeper("one.service")
    application.ok("up", "-d")
    half = b'PUT /kirsch/v1/units/one.service HTTP/1.1\r\nHost: k\r\nContent-Length: 99\r\n\r\n{"desired'
    with ExitStack() as stack:
        # More than kirschd has threads for requests.
        clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(30)]
        for client in clients:
            client.connect(str(application.directory / ".kirsch/kirsch.sock"))
            client.sendall(half)
        assert "one.service" in application.ok("list-units")
        for client in clients:
            client.setblocking(False)
            with pytest.raises(BlockingIOError):
                client.recv(1)  # it is not even refused yet


def test_sockets_and_state_are_for_the_owner_alone(application: Application):
    application.sleeper("a.service")
    application.ok("up", "-d")
    state = application.directory / ".kirsch"
    modes = {
        p.name: stat.S_IMODE(p.stat().st_mode) for p in (state, *state.glob("*.sock"), *state.glob("*.db"))
    }
    assert modes == {".kirsch": 0o700, "kirsch.sock": 0o600, "endpoints.sock": 0o600, "registry.db": 0o600}


def test_a_template_is_not_started_and_a_folder_without_toml_starts_the_rest(application: Application):
    application.sleeper("t@.service")
    application.sleeper("a.service")
    application.ok("up", "-d")
    assert application.units().keys() == {"a.service"}
    assert "Unit t@7.service launched on" in application.ok("start", "t@7")


def test_two_ups_in_one_folder_are_one(application: Application):
    application.sleeper("a.service")
    application.foreground()
    pid = application.units()["a.service"]["pid"]
    assert "It was up already" in application.ok("up")
    assert application.units()["a.service"]["pid"] == pid


def test_sigterm_is_ctrl_c(application: Application):
    application.sleeper("a.service")
    process = application.foreground()
    pids = descendants(application.kirschd())
    process.terminate()
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    assert not alive(pids)


def test_down_where_nothing_is_up(application: Application):
    application.sleeper("a.service")
    assert application.ok("down") == ". is not up\n"
    application.ok("up", "-d")
    application.ok("down")
    assert application.ok("down") == ". is not up\n"


def test_a_secret_is_made_up_once_and_shown_nowhere(application: Application):
    application.server("a.service", "Secret=db:PASSWORD")
    application.server("b.service", "Secret=db:PGPASSWORD")
    application.ok("up", "-d")
    units = application.units()
    secret = get(units["a.service"]["address"])["PASSWORD"]
    assert len(secret) >= 24
    assert get(units["b.service"]["address"])["PGPASSWORD"] == secret
    shown = "".join(
        application.ok(*verb) for verb in (("cat", "a"), ("status", "a"), ("list-units", "--json"))
    )
    assert secret not in shown
    for path in (application.directory / ".kirsch").rglob("*"):
        if path.is_file() and path.parent.name != "secrets":
            assert secret.encode() not in path.read_bytes(), path
    for argv in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert secret.encode() not in argv.read_bytes()
        except OSError:
            continue


def test_a_reader_that_has_enough_is_no_error(application: Application):
    application.sleeper("a.service")
    application.ok("up", "-d")
    command = f"{KIRSCH[0]} -m kirsch.cli.main list-units --json | head -n 1"
    done = subprocess.run(command, shell=True, cwd=application.directory, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[\n", "")


class TestVolumes:
    KEEPS = (
        "[Service]\nStateDirectory=store\nExecStart=sh -c 'echo 1 >> $$STATE_DIRECTORY/n; exec sleep 1000'\n"
    )

    @pytest.mark.slow
    def test_down_keeps_data_unless_it_is_to_go(self, application: Application):
        application.unit("a.service", self.KEEPS)
        store = application.directory / ".kirsch/state/store"
        assert "Data of store: .kirsch/state/store\n" in application.ok("up", "-d")
        application.ok("down")
        assert store.is_dir()
        application.ok("up", "-d")
        assert application.ok("down", "--volumes").splitlines()[-2:] == [". is down", "removed .kirsch/state"]
        assert not store.exists()
        # Once more, and where it is not up: there is nothing left, which is no error.
        assert application.ok("down", "--volumes") == ". is not up\n"
        assert application.ok("journal", "a")

    def test_data_that_postgres_keeps_elsewhere(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ):
        """As root: a link leads there. A link to anywhere else is not followed."""
        assert data.ELSEWHERE == up_module.ELSEWHERE
        elsewhere, mine = tmp_path / "elsewhere", tmp_path / "mine"
        monkeypatch.setattr(up_module, "ELSEWHERE", elsewhere)
        (elsewhere / "webdb-1").mkdir(parents=True)
        mine.mkdir()
        for name, target in (("webdb", elsewhere / "webdb-1"), ("other", mine)):
            (tmp_path / ".kirsch/state" / name).mkdir(parents=True)
            (tmp_path / ".kirsch/state" / name / "data").symlink_to(target)
        assert main(["down", str(tmp_path), "--volumes"]) == 0
        assert str(elsewhere / "webdb-1") in capsys.readouterr().out
        assert [path.name for path in elsewhere.iterdir()] == []
        assert mine.is_dir()
        assert not (tmp_path / ".kirsch/state").exists()


@pytest.mark.slow
def test_a_start_waits_for_the_health(application: Application):
    application.sleeper("never.service", "Expose=9", "Health=tcp://:9")
    application.server("web.service")
    application.sleeper("first.service")
    (application.directory / "kirsch.toml").write_text('start = ["first"]\n')
    application.ok("up", "-d")
    application.ok("start", "web")
    assert application.units()["web.service"]["ready"]
    late = application.fails("start", "never", "--timeout", "0.5")
    assert late == "never.service is not there after 0.5 s: it runs, but its Health= says it is not ready"


def test_a_range_is_so_many_instances(tmp_path: Path):
    (tmp_path / "web@.service").write_text("[Service]\nExecStart=sleep 1\n")
    (tmp_path / "db.service").write_text("[Service]\nExecStart=sleep 1\n")
    file = tmp_path / "kirsch.toml"
    file.write_text('start = ["web@9..11", "web@2..2.service", "web@1.x", "web@a..b", "db"]\n')
    names = ["web@9", "web@10", "web@11", "web@2", "web@1.x", "web@a..b", "db"]
    assert load(tmp_path).start == tuple(f"{name}.service" for name in names)
    for wrong in ("web@3..1", "web@1..100000"):
        file.write_text(f'start = ["{wrong}"]\n')
        with pytest.raises(
            ApplicationError, match=f"start: {wrong} is to go up, over 1000 instances at most"
        ):
            load(tmp_path)
    file.write_text('start = ["db"]\n[cluster.replicas]\ndb = ["web@1..3"]\n')
    replicated = load(tmp_path, cluster=True).replicated
    assert replicated is not None
    assert replicated.start == ("web@1.service", "web@2.service", "web@3.service")
