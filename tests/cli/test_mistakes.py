"""What is neither a unit's fault nor kirschd's: streams, folders, extras, Ctrl-C at any moment.

One line, a stable exit status, never a traceback."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tests.cli.application import KIRSCH, Application, alive, descendants
from tests.cli.screen import Screen
from tests.source import PYTHONPATH

from kirsch.install import pip_install

K = shlex.join(KIRSCH)
# Ctrl-C while a module is imported.
INTERRUPTED = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
sys.argv = ["kirsch", *sys.argv[1:]]
from kirsch.cli.main import main
sys.exit(main())
"""

# All is imported before, for nobody may not enter the folder of every Python.
AS_NOBODY = """
import os, sys
import kirsch.cli.dev, kirsch.cli.lists, kirsch.cli.up, kirsch.cli.verb
import kirsch.cluster.application.remains
import kirsch.cluster.network.inotify, kirsch.cluster.provision.record, kirsch.websocket.core.errors
from kirsch.cli.main import main
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that anybody may enter."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        timeout=60,
    )


class TestStreams:
    @pytest.mark.parametrize("closed", [">&-", "<&- >&-"])
    def test_one_that_is_closed(self, tmp_path: Path, closed: str):
        done = shell(f"{K} version {closed}", tmp_path)
        assert (done.returncode, done.stderr) == (0, b"")

    @pytest.mark.slow
    def test_without_any_what_is_opened_is_none_of_them(self, application: Application):
        application.sleeper("a.service")
        done = shell(f"{K} up -d <&- >&- 2>&-", application.directory)
        assert done.returncode == 0
        assert application.units()["a.service"]["active"] == "active"

    def test_a_disk_that_is_full(self, tmp_path: Path):
        done = shell(f"{K} version >/dev/full", tmp_path)
        assert (done.returncode, done.stderr) == (1, b"kirsch: No space left on device\n")

    @pytest.mark.parametrize("verb", ["--help", "help up", "cluster --help"])
    def test_a_reader_that_has_gone(self, tmp_path: Path, verb: str):
        # Nobody has the other end of the pipe by the time that kirsch begins.
        done = shell(f"set -o pipefail; {{ read -r; {K} {verb}; }} < <(sleep 0.2; echo) | true", tmp_path)
        assert (done.returncode, done.stderr) == (0, b"")

    def test_names_that_are_not_text(self, tmp_path: Path):
        folder = os.fsencode(tmp_path) + b"/d\xff"
        os.mkdir(folder)
        with open(folder + b"/a.service", "w") as file:
            file.write("[Service]\nExecStart=true\n")
        done = shell(f"{K} verify d*/a.service", tmp_path, PYTHONIOENCODING="utf-8:strict")
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout == b"d\\udcff/a.service: ok\n"

    @pytest.mark.slow
    def test_an_encoding_without_the_character(self, application: Application):
        application.unit("a.service", "[Unit]\nDescription=a → b\n[Service]\nExecStart=sleep 1000\n")
        application.ok("up", "-d")
        for encoding in ("ascii", "ascii:surrogateescape"):
            done = shell(f"{K} status a", application.directory, PYTHONIOENCODING=encoding)
            assert (done.returncode, done.stderr) == (0, b"")
            assert done.stdout.startswith(b"\\u25cf a.service - a \\u2192 b\n")


class TestFolders:
    @pytest.mark.parametrize("verb", ["list-units", "verify a.service"])
    def test_one_that_is_gone(self, tmp_path: Path, verb: str):
        done = shell(f"mkdir gone && cd gone && rmdir ../gone && {K} {verb}", tmp_path)
        assert (done.returncode, done.stderr) == (
            1,
            b"kirsch: the folder that you are in is gone: go to one that is there\n",
        )

    def test_no_home(self, tmp_path: Path):
        """Where neither HOME says it nor passwd(5) knows who we are; XDG_DATA_HOME may say it."""
        code = (
            "import pathlib, sys\n"
            "from kirsch.cli.main import main\n"
            "def home(): raise RuntimeError('Could not determine home directory.')\n"
            "pathlib.Path.home = home\n"
            "sys.exit(main(['cluster', 'list']))"
        )

        def listed(**more: str) -> subprocess.CompletedProcess[str]:
            environment = {name: value for name, value in os.environ.items() if name != "XDG_DATA_HOME"}
            return subprocess.run(
                [sys.executable, "-c", code],
                env=environment | more,
                capture_output=True,
                text=True,
                timeout=60,
            )

        done = listed()
        assert (done.returncode, done.stderr) == (
            1,
            "kirsch: you have no home folder here: set HOME, or XDG_DATA_HOME\n",
        )
        assert listed(XDG_DATA_HOME=str(tmp_path)).returncode == 0

    @pytest.mark.root
    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
    @pytest.mark.parametrize("verb", ["list-units", "up", "down", "dev"])
    def test_an_application_that_another_user_has_up(self, open_folder: Path, verb: str):
        state = open_folder / ".kirsch"
        state.mkdir(0o700)
        (state / "kirsch.sock").touch()
        (open_folder / "a.service").write_text("[Service]\nExecStart=sleep 1000\n")
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, verb],
            cwd=open_folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1, done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert "is another user's" in done.stderr
        assert "run kirsch as that user" in done.stderr


class TestInterrupts:
    @pytest.mark.parametrize("module", ["kirsch.cli.errors", "kirsch.cli.verbs"])
    def test_before_anything_is_done(self, module: str):
        code = INTERRUPTED.format(module=module)
        done = subprocess.run(
            [sys.executable, "-c", code, "help"], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stdout, done.stderr) == (130, "", "")

    def test_time_that_is_up_says_what_was_waited_for(self, application: Application):
        application.sleeper("a.service", "Expose=9", "Health=tcp://:9")
        assert application.fails("up", "--timeout", "0.5") == (
            "not ready after 0.5 s: a.service (it runs, but its Health= says it is not ready)"
        )

    def test_what_was_to_be_left_running_is_not_up(self, application: Application):
        application.sleeper("a.service", "Expose=9", "Health=tcp://:9")
        process = subprocess.Popen(
            [*KIRSCH, "up", "-d"], cwd=application.directory, stdout=subprocess.PIPE, text=True
        )
        application.started.append(process)
        assert process.stdout is not None
        assert "a.service" in process.stdout.readline()
        pids = descendants(application.kirschd())
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert not alive(pids)

    def test_a_question_leaves_its_line(self, application: Application):
        application.sleeper("a.service")
        application.ok("up", "-d")
        endpoint = f"unix://{application.directory}/.kirsch/kirsch.sock"
        asking = [*KIRSCH, "--endpoint", endpoint, "secret", "set", "tok"]
        with Screen(["bash", "-c", f"{shlex.join(asking)}; echo status $?"], dict(os.environ)) as screen:
            screen.shows("Secret tok:")
            screen.type("\x03")
            screen.shows("Secret tok:", "status 130", "")


def test_a_cluster_that_is_gone_and_still_in_the_environment(tmp_path: Path):
    environment = {"XDG_DATA_HOME": str(tmp_path), "KIRSCH_CLUSTER": "lab"}
    done = shell(f"{K} list-units", tmp_path, **environment)
    assert (done.returncode, done.stderr.decode()) == (
        1,
        "kirsch: there is no cluster lab; make one: `kirsch cluster create lab`; "
        "KIRSCH_CLUSTER names it: `unset KIRSCH_CLUSTER` for what runs here\n",
    )
    assert b"unset" not in shell(f"{K} --cluster lub list-units", tmp_path, **environment).stderr


def test_who_waits_for_make_is_told_for_what(tmp_path: Path):
    """pip is quiet, for minutes; here it is one that does nothing."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/pip").symlink_to("/bin/true")
    script = Path(__file__).parents[2] / "scripts/venv"
    done = shell(shlex.join(["sh", str(script), sys.executable, str(tmp_path)]), tmp_path)
    assert done.returncode == 0
    assert done.stderr.decode().startswith(f"setting up {tmp_path}: ")


class TestExtras:
    @pytest.mark.parametrize(
        ("arguments", "missing"),
        [
            ("up", f"cherrypy is not installed: {pip_install('kirsch')}"),
            ("dev", f"inotify_simple is not installed: {pip_install('kirsch')}"),
            ("balancer --config x", f"cherrypy is not installed: {pip_install('kirsch')}"),
            (
                "cluster user add a --cluster x",
                f"cryptography is not installed: {pip_install('kirsch[machines]')}",
            ),
        ],
    )
    def test_one_that_is_missing(self, tmp_path: Path, arguments: str, missing: str):
        """-S: what is installed beside Python is not found, but for click, which parses the command line."""
        site = tmp_path / "site"
        site.mkdir()
        (site / "click").symlink_to(Path(click.__file__).parent)
        (tmp_path / "a.service").write_text("[Service]\nExecStart=sleep 1000\n")
        done = shell(
            f"{sys.executable} -S -m kirsch.cli.main {arguments}", tmp_path, PYTHONPATH=f"{PYTHONPATH}:{site}"
        )
        assert (done.returncode, done.stdout, done.stderr.decode()) == (1, b"", f"kirsch: {missing}\n")
        assert not (tmp_path / ".kirsch").exists()


class TestBalancer:
    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            ("", "the following arguments are required: --config"),
            ("--config x --drain nan", "argument --drain: 'nan' is not a number of seconds"),
            ("--config x --drain=-1", "argument --drain: '-1' is not a number of seconds"),
        ],
    )
    def test_wrong_usage_is_one_line(self, tmp_path: Path, arguments: str, error: str):
        done = shell(f"{K} balancer {arguments}", tmp_path)
        expected = f"kirsch balancer: {error} (see kirsch balancer --help)\n"
        assert (done.returncode, done.stderr.decode()) == (2, expected)
