"""What fresh eyes broke: odd folders, odd files, and faults in the middle of things."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.application import KIRSCH, Application, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path is short."""
    path = Path(tempfile.mkdtemp(prefix="k"))
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("name", ["my app", "über", "a#b?c", "a%41b"])
def test_a_folder_may_be_called_as_people_call_folders(short: Path, name: str):
    (short / name).mkdir()
    application = Application(short / name)
    application.sleeper("a.service")
    assert f"{name} is up" in application.ok("up", "-d")
    application.close()


def test_a_folder_whose_path_is_too_long_for_sockets(short: Path):
    # kirsch.sock would fit, endpoints.sock does not.
    folder = short / ("d" * (107 - len("/.kirsch/kirsch.sock") - len(str(short)) - 3))
    folder.mkdir()
    application = Application(folder)
    application.sleeper("a.service")
    assert "too long for sockets" in application.fails("up")


def test_a_bad_name_is_told(application: Application):
    application.sleeper("ok.service")
    application.sleeper("a b.service")
    error = application.fails("up")
    assert error == f"{Path('units/a b.service')}: invalid character ' ' in unit name"
    assert not (application.directory / ".kirsch").exists()


def test_templates_alone_are_nothing_to_start(application: Application):
    application.sleeper("t@.service")
    assert 'write start = ["t@1.service"] into kirsch.toml' in application.fails("up")


def test_more_units_than_a_transaction_holds(application: Application):
    for number in range(70):
        application.unit(f"u{number}.service", f"[Service]\nType=oneshot\nExecStart=true\n# {number}\n")
    for name in ("big", "bigger"):
        application.unit(
            f"{name}.service", "[Service]\nType=oneshot\nExecStart=true\n" + "#" * 800_000 + "\n"
        )
    application.ok("up", "-d", "--timeout", "60")
    assert len(application.ok("list-unit-files", "--no-legend").splitlines()) == 72


@pytest.mark.parametrize("timeout", ["-5", "0", "nan", "inf", "soon"])
def test_a_timeout_is_a_time(application: Application, timeout: str):
    application.sleeper("a.service")
    assert "not a number of seconds above 0" in application.fails("up", f"--timeout={timeout}", status=2)


def test_a_unit_that_cannot_be_prepared_is_alone_with_it(application: Application):
    application.sleeper("good.service")
    application.sleeper("bad.service", "Secret=tok:TOK")
    secrets = application.directory / ".kirsch/secrets"
    secrets.mkdir(parents=True, mode=0o700)
    (secrets / "tok").write_bytes(b"a\0b")
    assert application.fails("up", "--exit-on-failure").endswith(
        "secret tok is empty, or has a NUL: it can be no variable"
    )
    (secrets / "tok").write_text("good")
    application.ok("up", "-d")
    (application.directory / "units/worse.container").write_text(
        '[Container]\nImage=x\nEnvironment="A=1\n[X-Kirsch]\nExposeEnv=A\n'
        "[X-Kirsch-Process]\nExecStart=sleep 1000\n"
    )
    assert "worse.container:3:" in application.fails("submit", "units/worse.container")
    assert application.units()["good.service"]["active"] == "active"


def test_down_without_the_socket_does_not_say_that_nothing_is_up(application: Application):
    application.sleeper("a.service")
    application.ok("up", "-d")
    pid = application.kirschd()
    (application.directory / ".kirsch/kirsch.sock").unlink()
    assert f"(process {pid}) does not answer" in application.fails("down")
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: application.run("down").stdout == ". is not up\n", "kirschd has ended")


def test_ctrl_c_during_the_launch_leaves_nothing(application: Application):
    application.sleeper("a.service")
    for delay in (0.08, 0.12, 0.16, 0.2):
        process = subprocess.Popen(
            [*KIRSCH, "up", "-d"],
            cwd=application.directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(delay)  # the moment is what is tested
        process.send_signal(signal.SIGINT)
        process.wait(30)
        state = str(application.directory / ".kirsch").encode()

        def left(state: bytes = state) -> bool:
            return any(
                state in (path / "cmdline").read_bytes()
                for path in Path("/proc").glob("[0-9]*")
                if (path / "cmdline").exists() and path.name != str(os.getpid())
            )

        wait_for(lambda: not left() or application.run("down"), "nothing is left")


@pytest.mark.services
def test_postgresql_comes_back_after_its_shim_was_killed(application: Application):
    application.unit(
        "db.service",
        """
        [Service]
        Environment=POSTGRES_PASSWORD=only-here
        StateDirectory=db
        KillSignal=SIGINT
        ExecStart=python -m kirsch.sql.postgres
        Restart=always
        [X-Kirsch]
        Expose=5432
        Health=tcp://:5432
        """,
    )
    application.ok("up", "-d")
    before = application.units()["db.service"]["pid"]
    shim = int(Path(f"/proc/{before}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(shim, signal.SIGKILL)

    def back() -> bool:
        unit = application.units()["db.service"]
        assert unit["active"] != "failed", unit["message"]
        return unit["ready"] and unit["pid"] != before

    wait_for(back, "PostgreSQL is back")


def test_a_link_to_nothing_says_so(application: Application):
    application.sleeper("a.service", "Link=nobody")
    error = application.fails("up", "--timeout", "1")
    assert "nobody" in error
