"""`make deb`: the package of each release of Debian, installed, used, upgraded and purged in a root of it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.machines.bare import base

from kirsch.cluster.provision.command import Runner
from kirsch.cluster.provision.podman import limits, ulimits

ROOT = Path(__file__).parents[2]
RELEASES = {"bookworm": "deb12", "trixie": "deb13"}
# The version before is the same package with a file that is gone now.
STORY = """
set -e
list() { find / -xdev '(' -path /proc -o -path /sys -o -path /tmp -o -path /var ')' -prune -o -print | sort; }
list >/tmp/before
dpkg --install /packages/before.deb
test -e /usr/lib/kirsch/share/gone
dpkg --install /packages/now.deb
test ! -e /usr/lib/kirsch/share/gone
cd /tmp/hello
kirsch up -d
kirsch status hello
kirsch version
kirsch down
kirschd --help >/dev/null
cd /
dpkg --purge kirsch
list >/tmp/after
diff /tmp/before /tmp/after
test ! -e /var/lib/dpkg/info/kirsch.list
echo nothing is left
"""
# The smallest application.
APPLICATION = {
    "kirsch.toml": 'name = "hello"\nstart = ["hello"]\n',
    "units/hello.service": "[Service]\nExecStart=/bin/sleep 600\n",
}

pytestmark = [pytest.mark.soak, pytest.mark.root, pytest.mark.machines, pytest.mark.timeout(1800)]


def run(*command: str | Path) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module", params=RELEASES)
def release(request):
    return request.param


@pytest.fixture(scope="module")
def package(release):
    run("make", "deb", f"RELEASES={release}")
    return max((ROOT / "dist").glob(f"kirsch_*~{RELEASES[release]}_*.deb"), key=os.path.getmtime)


def test_lintian_has_nothing_to_say(package):
    if shutil.which("lintian") is None:
        run("sh", "scripts/debian", "lintian")
    said = run("lintian", "--allow-root", "--fail-on", "error,warning", package)
    assert not [line for line in said.splitlines() if line.startswith(("E:", "W:"))]


def test_it_is_installed_used_upgraded_and_purged(package, release, tmp_path):
    shutil.copy(package, tmp_path / "now.deb")
    run("dpkg-deb", "--raw-extract", package, tmp_path / "old")
    (tmp_path / "old/usr/lib/kirsch/share/gone").write_text("")
    control = tmp_path / "old/DEBIAN/control"
    control.write_text(control.read_text().replace("\nVersion: ", "\nVersion: 0~"))
    run("dpkg-deb", "--root-owner-group", "-Zxz", "-z1", "--build", tmp_path / "old", tmp_path / "before.deb")
    for file, text in APPLICATION.items():
        (tmp_path / "hello" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "hello" / file).write_text(text)
    image = base(Runner(), release, ("python3",))
    told = run(
        *("podman", "run", "--rm", "--network=none", "--privileged", "--pids-limit=-1", "--cgroupns=private"),
        *("--volume", f"{tmp_path}:/packages:ro", "--volume", f"{tmp_path}/hello:/tmp/hello"),
        *(*ulimits(limits()), image, "sh", "-c", STORY),
    )
    assert "\nnothing is left\n" in told, told
    assert "(compiled)" in told
