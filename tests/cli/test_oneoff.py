"""kirsch run and exec: a command beside the units, whose terminal and end are ours."""

import base64
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import textwrap
from pathlib import Path

import pytest
from tests.cli.application import KIRSCH, Application, alive, descendants, wait_for
from tests.cli.test_completion import read

pytestmark = pytest.mark.slow


@pytest.fixture
def up(application: Application) -> Application:
    """A database of a kind, its user with a link, and a unit that does not run."""
    application.unit(
        "db.service",
        "[Service]\nEnvironment=POSTGRES_USER=cherry HIDDEN=yes\nExecStart=python server.py\n[X-Kirsch]\n"
        "Expose=8080\nHealth=http://:8080/\nExposeEnv=POSTGRES_USER\nSecret=pit:POSTGRES_PASSWORD\n",
    )
    application.unit(
        "web.service",
        "[Service]\nEnvironment=COLOUR=red\nStateDirectory=web\nWorkingDirectory=/var\nUMask=0027\n"
        "LimitNOFILE=100:200\nExecStart=sleep 1000\n[X-Kirsch]\nLink=db:store\nSecret=pit:STONE\n",
    )
    application.sleeper("idle.service")
    (application.directory / "kirsch.toml").write_text('start = ["db", "web"]\n')
    application.ok("up", "-d")
    return application


def variables(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def test_exec_has_what_the_unit_has(up: Application):
    found = variables(up.ok("exec", "web", "env"))
    pid = up.units()["web.service"]["pid"]
    own = variables(Path(f"/proc/{pid}/environ").read_text().replace("\0", "\n"))
    for name in ("INVOCATION_ID", "KIRSCH_CHILD"):  # of that one process
        own.pop(name, None)
    assert found == own
    assert found["COLOUR"] == "red"
    assert found["STORE_PORT"].startswith("tcp://127.")
    place = up.ok("exec", "web", "sh", "-c", "pwd; umask; ulimit -Sn; ulimit -Hn")
    assert place.splitlines() == ["/var", "0027", "100", "200"]


def test_exec_needs_a_unit_that_runs(up: Application):
    assert up.fails("exec", "idle", "true") == (
        "idle.service does not run: start it, or use `kirsch run idle.service COMMAND`"
    )
    assert up.fails("exec", "nobody", "true") == "there is no unit nobody"


def test_run_as_a_unit_that_does_not_run(up: Application):
    found = variables(up.ok("run", "idle", "env"))
    assert found["KIRSCH_UNIT"] == "idle.service"
    assert "HOME" not in found or os.geteuid() != 0
    assert up.fails("run", "idle") == "say what to run: `kirsch run idle COMMAND`"
    up.sleeper("t@.service")
    up.ok("submit", "units/t@.service")
    assert up.fails("run", "t@.service", "env") == "t@.service is a template: name an instance of it"
    assert up.fails("run", "t@1", "env") == (
        "there is no unit t@1.service; `kirsch load t@1.service` makes it from its template"
    )


def test_run_with_a_link_opens_the_database(up: Application):
    found = variables(up.ok("run", "--link", "db:postgres", "env"))
    secret = (up.directory / ".kirsch/secrets/pit").read_text()
    assert found["POSTGRES_PORT_8080_TCP_ADDR"] == found["PGHOST"] == up.units()["db.service"]["address"]
    assert found["PGUSER"] == found["PGDATABASE"] == "cherry"
    assert found["PGPORT"] == "8080"
    assert found["PGPASSWORD"] == found["POSTGRES_ENV_POSTGRES_PASSWORD"] == secret
    assert "POSTGRES_ENV_HIDDEN" not in found
    assert found["PATH"] == os.environ["PATH"]  # else it is as here
    assert up.fails("run", "--link", "nobody", "env") == "there is no unit or service nobody to link to"
    assert up.fails("run", "--link", "idle", "env").startswith("idle is not ready")


def test_secrets_are_nowhere_else(up: Application):
    secret = (up.directory / ".kirsch/secrets/pit").read_text()
    for verb in (["cat", "web"], ["status", "web"], ["status", "--json", "web"], ["list-units", "--json"]):
        assert secret not in up.ok(*verb)
    assert secret not in (up.directory / ".kirsch/kirschd.log").read_text()


def test_variables_that_a_person_gives(up: Application, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FRUIT", "plum")
    command = ["sh", "-c", "echo $COLOUR $FRUIT"]
    assert up.ok("exec", "--env", "COLOUR=blue", "-e", "FRUIT", "web", *command) == "blue plum\n"
    assert up.fails("run", "--env", "=x", "true") == "--env =x: write NAME=VALUE, or NAME"


def test_variables_that_another_kirsch_hands_on(up: Application, monkeypatch: pytest.MonkeyPatch):
    """As the one on a machine has them of the one that a person called."""
    command = ("exec", "--carried", "web", "sh", "-c", 'echo "$COLOUR ${LC_KIRSCH_GIVEN-none}"')
    given = base64.b64encode(json.dumps({"COLOUR": "é\n blue"}).encode()).decode()
    monkeypatch.setenv("LC_KIRSCH_GIVEN", given)
    assert up.ok(*command) == "é\n blue none\n"
    for lost in ("", "no base64", "bm8ganNvbg=="):
        monkeypatch.setenv("LC_KIRSCH_GIVEN", lost)
        assert up.fails(*command).startswith("the values of --env did not come here: this machine's sshd ")


def test_the_exit_status_is_the_commands(up: Application):
    assert up.run("exec", "web", "sh", "-c", "exit 7").returncode == 7
    assert up.run("run", "sh", "-c", "kill -TERM $$").returncode == 128 + signal.SIGTERM
    assert up.fails("run", "no-such-program") == "no-such-program: neither a unit nor a program on PATH"
    assert up.fails("run", "./server.py") == "./server.py: Permission denied"
    for missing in ("no-such-program", "./none", "/none"):
        assert up.fails("exec", "web", missing, status=127) == f"{missing}: there is no such program"
    program = str(up.directory / "server.py")
    assert up.fails("exec", "web", program) == f"{program}: Permission denied"


@pytest.mark.root
def test_a_units_user(application: Application):
    application.unit("w.service", "[Service]\nUser=nobody\nWorkingDirectory=/\nExecStart=sleep 1000\n")
    application.ok("up", "-d")
    assert application.ok("exec", "w", "sh", "-c", "id -un; echo $HOME").split()[0] == "nobody"
    assert application.run("exec", "w", "sh", "-c", "kill -0 $PPID").returncode == 1


def test_pipes_go_through(up: Application):
    done = subprocess.run(
        [*KIRSCH, "exec", "web", "cat"], cwd=up.directory, input=b"\0\xff\n", capture_output=True, timeout=30
    )
    assert (done.stdout, done.stderr, done.returncode) == (b"\0\xff\n", b"", 0)


FAMILY = "(setsid sleep 1000 &); sleep 1000 & echo ready; exec sleep 1000"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_what_it_starts_ends_with_kirsch(up: Application, number: int):
    process = subprocess.Popen(
        [*KIRSCH, "run", "sh", "-c", FAMILY], cwd=up.directory, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    wait_for(lambda: len(descendants(process.pid)) == 5, "three sleep")
    pids = descendants(process.pid)
    process.send_signal(number)
    process.wait(30)
    wait_for(lambda: not alive(pids), "nothing is left")
    process.stdout.close()


def test_what_it_leaves_behind_ends_with_it(up: Application):
    up.ok(
        "run", "sh", "-c", "(setsid sh -c 'echo $$ > pid; exec sleep 1000' &); until test -s pid; do :; done"
    )
    assert not alive({int((up.directory / "pid").read_text())})


TERMINAL = """
    import os, time
    try:
        print(*os.get_terminal_size(), os.isatty(0), flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_a_terminal_is_handed_on(up: Application):
    """Its size, its signals and its modes are the command's."""
    terminal, other = pty.openpty()
    termios.tcsetwinsize(other, (33, 77))
    command = [*KIRSCH, "run", sys.executable, "-c", textwrap.dedent(TERMINAL)]
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *command],
        cwd=up.directory,
        stdin=other,
        stdout=other,
        stderr=other,
    )
    os.close(other)
    assert "77 33 True" in read(terminal, "77 33 True")
    os.write(terminal, b"\x03")
    assert "interrupted" in read(terminal, "interrupted")
    assert process.wait(30) == 0
    os.close(terminal)
