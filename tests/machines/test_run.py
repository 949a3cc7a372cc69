"""`kirsch run` and `journal` on a cluster: one-off containers in the flat network, lines from anywhere."""

import os
import pty
import subprocess
from collections.abc import Iterator

import pytest
from tests.machines.tiny import IMAGE
from tests.machines.trial import KIRSCH, Trial, eventually

pytestmark = [pytest.mark.machines, pytest.mark.slow]

BOX = f"[Container]\nImage={IMAGE}\nPull=never\nExec=sleep infinity\nStopTimeout=1\n"
DATABASE = (
    f"{BOX}Environment=POSTGRES_USER=cherry\n"
    "[X-Kirsch]\nExpose=5432\nExposeEnv=POSTGRES_USER\nSecret=rundb-pit:POSTGRES_PASSWORD\n"
)
PIT = "a stone's secret"
USER = f"{BOX}Environment=COLOUR=red\nVolume=/srv:/data:ro\n[X-Kirsch]\nLink=rundb:store\n"


@pytest.fixture
def database(trial: Trial, image: str) -> Iterator[str]:
    """A unit that could be a database; its address."""
    subprocess.run(
        [KIRSCH, "--cluster", trial.record.name, "secret", "set", "rundb-pit"],
        input=PIT, text=True, timeout=60, check=True, capture_output=True,
    )  # fmt: skip
    trial.submit("rundb.container", DATABASE)
    trial.kirsch("start", "rundb.container")
    trial.until(lambda lines: lines["rundb.container"]["ready"])
    yield str(trial.lines()["rundb.container"]["address"])
    trial.kirsch("destroy", "rundb.container")
    trial.kirsch("secret", "rm", "rundb-pit")


def variables(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def left(trial: Trial) -> list[str]:
    """One-off containers that are still there."""
    listed = "podman ps --all --format '{{.Names}}' --filter name=kirsch-run-"
    return [name for machine in trial.machines for name in trial.shell(machine, listed).split()]


def test_an_image_with_links(trial: Trial, database: str):
    linked = ("run", "--link", "rundb:postgres", "-e", "FRUIT=a plum", "-e", "PATH=/bin", IMAGE)
    found = variables(trial.kirsch(*linked, "env").out)
    assert found["POSTGRES_PORT_5432_TCP_ADDR"] == found["PGHOST"] == database
    assert (found["PGUSER"], found["POSTGRES_ENV_POSTGRES_USER"]) == ("cherry", "cherry")
    assert (found["FRUIT"], found["PATH"]) == ("a plum", "/bin")
    said = trial.kirsch(*linked, "sh", "-c", "getent hosts postgres rundb rundb.kirsch.internal").out
    assert [line.split()[0] for line in said.splitlines()] == [database] * 3
    own = trial.kirsch("run", IMAGE, "sh", "-c", "getent hosts $HOSTNAME").out
    assert own.startswith("10.210.")
    assert left(trial) == []


@pytest.mark.soak
def test_secrets_are_where_the_command_is_and_nowhere_else(trial: Trial, database: str):
    process = subprocess.Popen(
        [
            *(KIRSCH, "--cluster", trial.record.name, "run", "--link", "rundb:store", IMAGE),
            *("sh", "-c", "echo $PGPASSWORD; echo $STORE_ENV_POSTGRES_PASSWORD; exec sleep infinity"),
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert [process.stdout.readline(), process.stdout.readline()] == [f"{PIT}\n"] * 2
    shown = "podman ps --quiet --filter name=kirsch-run- | xargs -r podman inspect"
    lines = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"
    said = f"journalctl --no-pager --since @{trial.began:.0f}"
    try:
        for machine in trial.machines:
            assert PIT not in trial.shell(machine, f"{shown}; {lines}; {said}")
    finally:
        process.kill()
        process.wait(30)
        process.stdout.close()
    eventually(lambda: left(trial) == [])
    for machine in trial.machines:
        eventually(
            lambda machine=machine: "kirsch-run-" not in trial.shell(machine, "podman secret ls; ls /run")
        )


def test_what_a_person_gives_stands_in_no_command_line(trial: Trial, image: str):
    trial.submit("rungiven.container", BOX)
    trial.kirsch("start", "rungiven.container")
    script = "echo $FRUIT; exec cat"
    lines = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"
    for words in (("run", "-e", "FRUIT", IMAGE), ("exec", "-e", "FRUIT", "rungiven.container")):
        process = subprocess.Popen(
            [KIRSCH, "--cluster", trial.record.name, *words, "sh", "-c", script],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "FRUIT": "a plum's stone"},
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "a plum's stone\n"
            # Machines are containers here: their processes are seen with ours.
            shown = subprocess.run(["sh", "-c", lines], capture_output=True, text=True, check=False).stdout
            assert "echo $FRUIT" in shown
            assert "plum" not in shown
        finally:
            process.stdin.close()
            assert process.wait(60) == 0
            process.stdout.close()
    trial.kirsch("destroy", "rungiven.container")


def test_nothing_of_it_is_left_by_a_kirsch_that_was_killed_on_its_machine(trial: Trial, database: str):
    machine = trial.machines[0]
    linked = f"/opt/kirsch/bin/kirsch run --link rundb:store {IMAGE}"
    there = "ls /run | grep kirsch-run- || :"
    # It does not end by SIGTERM.
    script = "echo runs; exec sleep infinity"
    trial.shell(machine, f"systemd-run --collect --unit runkilled {linked} sh -c '{script}'")
    eventually(lambda: "runs" in trial.shell(machine, "journalctl -o cat -u runkilled").splitlines())
    assert trial.shell(machine, there)
    trial.shell(machine, "systemctl kill --signal KILL --kill-whom main runkilled")
    trial.shell(machine, "find /run -maxdepth 1 -name 'kirsch-run-*' -exec touch -d @0 {} +")
    eventually(lambda: trial.shell(machine, f"{linked} true; {there}") == "")
    assert left(trial) == []
    assert "kirsch-run-" not in trial.shell(machine, "podman secret ls")


def test_its_status_and_its_pipes_are_ours(trial: Trial, database: str):
    assert trial.kirsch("run", IMAGE, "sh", "-c", "exit 7", check=False).status == 7
    assert trial.kirsch("run", IMAGE, "no-such-program", check=False).status == 127
    done = subprocess.run(
        [KIRSCH, "--cluster", trial.record.name, "run", IMAGE, "cat"],
        input=b"\0\xff\n", capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b"\0\xff\n"), done.stderr
    assert left(trial) == []


@pytest.mark.soak
def test_a_units_container_again_beside_it_or_without_it(trial: Trial, database: str):
    trial.submit("runuser.container", USER)
    command = ("run", "-e", "COLOUR=blue", "runuser", "sh", "-c", "env; ls -d /data; getent hosts store")
    try:
        without = trial.kirsch(*command).out
        trial.kirsch("start", "runuser.container")
        beside = trial.kirsch(*command).out
        for said in (without, beside):
            found = variables(said)
            assert (found["KIRSCH_UNIT"], found["COLOUR"]) == ("runuser.container", "blue")
            assert found["STORE_PORT"] == f"tcp://{database}:5432"
            assert "/data" in said.splitlines()
            assert f"{database}   store" in said.splitlines()
        assert trial.lines()["runuser.container"]["ready"]
        trial.kirsch("stop", "rundb.container")
        refused = trial.kirsch(*command, check=False)
        assert refused.status == 1
        assert refused.err == "kirsch: runuser.container is linked to rundb, which is not ready\n"
    finally:
        trial.kirsch("destroy", "runuser.container")
    assert left(trial) == []


def test_it_has_our_terminal(trial: Trial, image: str):
    script = "test -t 0 && stty size && read line && echo got $line"
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(KIRSCH, [KIRSCH, "--cluster", trial.record.name, "run", IMAGE, "sh", "-c", script])
    os.write(terminal, b"words\n")
    said = b""
    try:
        while chunk := os.read(terminal, 4096):
            said += chunk
    except OSError:
        pass  # nobody has it open any more
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0, said
    assert b"got words" in said


@pytest.mark.parametrize(
    ("tells", "script"),
    [
        ("terminate", "trap 'exit 0' TERM; echo runs; sleep infinity & wait"),
        # This one will not go by itself.
        ("kill", "echo runs; exec sleep infinity"),
    ],
)
def test_nothing_of_it_is_left_when_we_are_gone(trial: Trial, image: str, tells: str, script: str):
    process = subprocess.Popen(
        [KIRSCH, "--cluster", trial.record.name, "run", IMAGE, "sh", "-c", script],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"runs\n"
    assert len(left(trial)) == 1
    getattr(process, tells)()
    process.wait(30)
    process.stdout.close()
    eventually(lambda: left(trial) == [])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["no-such:1", "env"],
            "no-such:1 is neither a unit nor an image that this machine has or can fetch: ",
        ),
        (["127.0.0.1:1/none", "env"], "connection refused"),
        (["Not an image", "env"], "Not an image is neither a unit nor an image: "),
        (["--link", "nobody", IMAGE, "env"], "there is no unit or service nobody to link to"),
    ],
)
def test_what_cannot_be_run_is_one_line(trial: Trial, image: str, words: list[str], said: str):
    done = trial.kirsch("run", *words, check=False)
    assert done.status == 1
    assert said in done.err
    lines = [line for line in done.err.splitlines() if not line.startswith("kirsch: fetches ")]
    assert len(lines) == 1
    assert left(trial) == []


def test_journals_are_read_from_any_machine(trial: Trial, image: str):
    names = [f"rundiary@{number}.service" for number in range(len(trial.machines))]
    text = "[Service]\nExecStart=/bin/sh -c 'echo here is %%i; exec sleep infinity'\n"
    trial.submit("rundiary@.service", text.replace("%%", "%"))
    trial.submit(
        "runbox.container", BOX.replace("sleep infinity", "sh -c 'echo in a box; exec sleep infinity'")
    )
    try:
        trial.kirsch("start", *names, "runbox.container")
        assert {trial.machine_of(name).name for name in names} == {machine.name for machine in trial.machines}
        said = [f"here is {number}" for number in range(len(names))] + ["in a box"]
        for machine in trial.machines:
            journal = ["/opt/kirsch/bin/kirsch", "journal", "--lines", "100", *names, "runbox.container"]
            shown = trial.shell(machine, " ".join(journal))
            assert all(any(line.endswith(words) for line in shown.splitlines()) for words in said), shown
    finally:
        trial.kirsch("destroy", *names, "rundiary@.service", "runbox.container")
