"""One file for a phone: what is in it, and that it runs where there is nothing else."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from tests.device.sl4a_stand_in import GPS

from kirsch.device.bundle import PHONE, BundleError, bundle, find_package

EXAMPLE = Path(__file__).parents[4] / "examples" / "location"
KIRSCH = (sys.executable, "-m", "kirsch.cli.main")


def call(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)


def run(program, *arguments, **options):
    return subprocess.run(
        [*options.pop("python", (sys.executable,)), "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


class TestAPhonesPython:
    """What the blocks do, and that all that runs on a phone can do without."""

    def test_there_is_no_multiprocessing(self):
        assert "ModuleNotFoundError" in run(f"{PHONE}\nimport multiprocessing").stderr

    def test_nothing_is_compiled_but_pythons_own(self):
        assert run(f"{PHONE}\nimport _json, zlib").returncode == 0
        assert "is compiled: a phone has no such" in run(f"{PHONE}\nimport httptools").stderr

    @pytest.mark.parametrize(
        "modules",
        [
            "kirsch.device, kirsch.device.plugin, kirsch.device.sl4a, kirsch.device.termux",
            "kirsch.device.source, kirsch.device.location, kirsch.device.report, kirsch.device.fixed",
            "kirsch.websocket.threaded",
            "kirsch.websocket.cherrypy, cherrypy",
            "location.__main__",
        ],
    )
    def test_what_runs_there_is_imported(self, modules):
        program = f"{PHONE}\nimport {modules}\nprint(sorted(n for n in sys.modules if 'multiproc' in n))"
        done = run(program, env=os.environ | {"PYTHONPATH": str(EXAMPLE)})
        assert (done.returncode, done.stderr) == (0, "")
        # That it is named at all is the block.
        assert done.stdout == "['_multiprocessing', 'multiprocessing']\n"

    def test_websockets_run_in_python_there(self):
        code = "from kirsch.websocket.core.speedups import implementation; print(implementation)"
        done = run(f"{PHONE}\n{code}")
        assert done.stdout == "python\n"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "location.pyz"
    done = subprocess.run(
        [*KIRSCH, "device", "bundle", str(EXAMPLE), "-o", str(path)],
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    assert f"adb push {path} /sdcard/sl4a/scripts/location.py" in done.stdout
    assert "CherryPy" in done.stdout
    return path


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A virtual environment with nothing in it, as poor as a phone's from its start."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    packages = next((folder / "lib").glob("python3.*/site-packages"))
    (packages / "phone.py").write_text(PHONE)
    (packages / "phone.pth").write_text("import phone\n")
    return str(folder / "bin" / "python")


class TestArchive:
    @pytest.mark.slow
    def test_what_is_in_it(self, archive):
        with zipfile.ZipFile(archive) as opened:
            names = set(opened.namelist())
        expected = {
            "__main__.py",
            "cherrypy/__init__.py",
            "kirsch/device/sl4a.py",
            "kirsch/websocket/threaded.py",
            "location/__main__.py",
            "location/static/index.html",
        }
        assert expected <= names
        assert not [name for name in names if name.endswith((".so", ".pyx", ".pyc")) or ".." in name]
        assert not [name for name in names if name.startswith(("kirsch/cluster", "kirsch/cli", "setuptools"))]
        # Whose it is goes along.
        assert [name for name in names if "LICENSE" in name.upper() and name.startswith("CherryPy")]

    @pytest.mark.slow
    def test_it_runs_where_there_is_nothing_else(self, archive, bare, start, sl4a):
        sl4a.move(gps=GPS)
        running = start(command=(bare, str(archive)), **sl4a.environment)
        client = (
            "from kirsch.websocket.threaded import connect\n"
            "with connect(sys.argv[1]) as ws: print(ws.recv(20))"
        )
        heard = run(
            f"import sys\n{client}",
            f"{running.url.replace('http', 'ws')}/location/live",
            python=(bare,),
            env={"PYTHONPATH": str(archive)},
        )
        assert '"source": "sl4a"' in heard.stdout, heard.stderr
        assert "multiprocessing" not in running.said

    def test_sl4a_wants_another_name(self, archive, bare, tmp_path):
        script = tmp_path / "location.py"
        script.write_bytes(archive.read_bytes())
        done = subprocess.run(
            [bare, str(script), "--source", "gps"], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 2
        assert done.stderr.startswith("location: there is no source 'gps': there are auto, sl4a")
        assert len(done.stderr.splitlines()) == 1

    def test_unpacked_it_runs_as_well(self, archive, bare, tmp_path):
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(tmp_path / "location")
        done = subprocess.run(
            [bare, str(tmp_path / "location"), "--help"], capture_output=True, text=True, timeout=60
        )
        assert "--share" in done.stdout

    def test_an_older_python_is_told(self, archive):
        with zipfile.ZipFile(archive) as opened:
            main = opened.read("__main__.py").decode()
        done = run(f"import sys\nsys.version_info = (2, 6)\n{main}")
        assert done.returncode == 1
        assert done.stderr.startswith("location needs Python 3.")
        # Python 2 reads it, too.
        assert "f'" not in main
        assert 'f"' not in main


class TestApplications:
    def application(self, folder, text, name="app"):
        (folder / name).mkdir()
        (folder / name / "__main__.py").write_text(text)
        return folder

    @pytest.mark.soak
    @pytest.mark.slow
    def test_the_same_twice_and_its_arguments(self, tmp_path):
        folder = self.application(tmp_path, "import sys\nif __name__ == '__main__': print(sys.argv[1:])\n")
        first = bundle(folder, tmp_path / "a.pyz", ["--share", "it's"])
        second = bundle(folder, tmp_path / "b.pyz", ["--share", "it's"])
        assert first.path.read_bytes() == second.path.read_bytes()
        assert list(first.contents) == ["kirsch"]
        out = call(sys.executable, "-I", first.path).stdout
        assert out == "['--share', \"it's\"]\n"
        out = call(sys.executable, "-I", first.path, "x").stdout
        assert out == "['x']\n"

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("import multiprocessing", "ModuleNotFoundError: import of multiprocessing halted"),
            ("import httptools", "cannot be imported as on a phone: ImportError: httptools"),
            ("import no_such", "No module named 'no_such'"),
            ("def", "SyntaxError"),
            ("raise SystemExit(3)", "exit status 3"),
        ],
    )
    def test_one_that_cannot_run_there(self, tmp_path, text, told):
        with pytest.raises(BundleError) as refused:
            bundle(self.application(tmp_path, text), tmp_path / "x.pyz")
        assert told in str(refused.value)
        assert "\n" not in str(refused.value)
        assert not (tmp_path / "x.pyz").exists()

    def test_a_folder_that_is_none(self, tmp_path):
        with pytest.raises(BundleError, match="has no package that can be run"):
            find_package(tmp_path)
        self.application(tmp_path, "")
        self.application(tmp_path, "", "other")
        with pytest.raises(BundleError, match="more than one package that can be run: app, other"):
            find_package(tmp_path)

    @pytest.mark.slow
    def test_what_is_no_archive_is_not_overwritten(self, tmp_path):
        folder = self.application(tmp_path, "")
        (tmp_path / "precious.txt").write_text("mine")
        with pytest.raises(BundleError, match="it is not overwritten"):
            bundle(folder, tmp_path / "precious.txt")
        with pytest.raises(BundleError, match="is a folder: name a file"):
            bundle(folder, tmp_path)
        with pytest.raises(BundleError, match="cannot be written: No such file or directory"):
            bundle(folder, tmp_path / "no" / "x.pyz")

    @pytest.mark.parametrize(
        ("arguments", "status"), [(["/no/such"], 1), (["--arguments", "'"], 2), (["--what"], 2)]
    )
    def test_the_command_tells_in_a_line(self, arguments, status):
        done = subprocess.run(
            [*KIRSCH, "device", "bundle", *arguments], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == status
        assert "Traceback" not in done.stderr
        assert done.stderr.startswith(("kirsch", "usage"))
