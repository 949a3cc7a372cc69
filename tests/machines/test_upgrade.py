"""`kirsch cluster upgrade`: kirschd is replaced while units run, or everything is as it was."""

import os
import zipfile
from pathlib import Path

import pytest
from tests.machines.computer import Computer, run

from kirsch.cluster.provision.command import Runner
from kirsch.cluster.provision.upgrade import refusal
from kirsch.cluster.provision.wheels import Wheels

UNIT = "[Service]\nExecStart=/bin/sleep infinity\n"
ASK = "systemctl show -p InvocationID --value nap@1.service nap@2.service"
VERSION = "/opt/kirsch/bin/python -c 'import importlib.metadata as m; print(m.version(\"kirsch\"))'"


@pytest.mark.parametrize("new", ["0.3.0", "0.3.4", "0.4.0", "0.4.0.dev0", "1.0.0"])
def test_the_same_and_the_next_minor_version_are_taken(new):
    assert refusal("n1", "0.3.1", new) == ""


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        ("0.2.9", "n1 runs kirsch 0.3.1, and 0.2.9 is older: a cluster does not go back to it"),
        (
            "0.5.0",
            "n1 runs kirsch 0.3.1, and 0.5.0 is more than one minor version ahead: first upgrade to 0.4",
        ),
        (
            "1.1.0",
            "n1 runs kirsch 0.3.1, and 1.1.0 is more than one minor version ahead: first upgrade to 0.4",
        ),
    ],
)
def test_other_versions_are_refused(new, reason):
    assert refusal("n1", "0.3.1", new) == reason
    assert "n1 has no kirsch in /opt/kirsch" in refusal("n1", "", new)


def next_wheel(folder: Path, version: str, broken: bool = False) -> Path:
    """kirsch's wheel as one of a later version, whose kirschd may not start."""
    (own,) = (path for path in Wheels(Runner()).own() if path.name.startswith("kirsch-0"))
    before = own.name.split("-")[1]
    folder.mkdir(exist_ok=True)
    made = folder / own.name.replace(before, version)
    with zipfile.ZipFile(own) as source, zipfile.ZipFile(made, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("/METADATA"):
                content = content.replace(
                    f"\nVersion: {before}\n".encode(), f"\nVersion: {version}\n".encode()
                )
            if name == "kirsch/cluster/daemon/__init__.py" and broken:
                content += b"\nraise SystemExit('this kirschd does not start')\n"
            if not name.endswith("/RECORD"):
                target.writestr(name.replace(f"kirsch-{before}", f"kirsch-{version}"), content)
        target.writestr(f"kirsch-{version}.dist-info/RECORD", "")
    return made


@pytest.mark.machines
@pytest.mark.soak
def test_kirschd_is_replaced_while_units_run_and_goes_back_when_it_does_not_start(tmp_path):
    computer = Computer(tmp_path, f"tests-upgrade-{os.getpid()}")
    try:
        name = computer.create("c", "--machines", "2")
        (tmp_path / "nap@.service").write_text(UNIT)
        computer.kirsch("--cluster", name, "submit", str(tmp_path / "nap@.service"))
        assert computer.kirsch("--cluster", name, "start", "nap@1", "nap@2").returncode == 0

        def shell(machine: str, script: str) -> str:
            return run("podman", "--runtime", "runc", "exec", f"kirsch-{name}-{machine}", "sh", "-c", script)

        def upgrade(wheel: Path) -> tuple[int, str]:
            done = computer.kirsch("cluster", "upgrade", name, "--wheel", str(wheel))
            return done.returncode, done.stderr

        before = [shell(machine, ASK) for machine in ("n1", "n2")]
        first = shell("n1", VERSION)

        status, said = upgrade(next_wheel(tmp_path / "far", "0.9.0"))
        assert status == 1
        assert "0.9.0 is more than one minor version ahead: first upgrade to 0.2" in said

        status, said = upgrade(next_wheel(tmp_path / "broken", "0.2.0", broken=True))
        assert status == 1
        assert "this kirschd does not start" in said
        assert "all machines run the kirsch that they ran before" in said
        assert [shell(machine, VERSION) for machine in ("n1", "n2")] == [first] * 2
        assert computer.kirsch("cluster", "status", name).returncode == 0

        wheel = next_wheel(tmp_path / "next", "0.2.0")
        assert upgrade(wheel) == (0, "")
        assert [shell(machine, VERSION) for machine in ("n1", "n2")] == ["0.2.0\n"] * 2
        assert upgrade(wheel) == (0, "")
        assert computer.kirsch("cluster", "status", name).returncode == 0
        assert [shell(machine, ASK) for machine in ("n1", "n2")] == before
        assert shell("n1", "ls -d /opt/kirsch*").split() == ["/opt/kirsch"]
    finally:
        computer.close()
