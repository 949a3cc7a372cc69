"""Steps and their undoing, commands that fail, keys and certificates, wheels for another Python."""

import os
import re
import signal
import ssl
import subprocess
import threading
import time
import zipfile
from dataclasses import replace
from importlib.metadata import distribution

import pytest

from kirsch.cluster.model.certificates import Certificates
from kirsch.cluster.node.authority import authority, issue
from kirsch.cluster.provision.archive import File, archive
from kirsch.cluster.provision.command import Command, CommandError, Runner
from kirsch.cluster.provision.destroy import destroy_steps
from kirsch.cluster.provision.install import CHECK, WHEELS
from kirsch.cluster.provision.keyring import generate
from kirsch.cluster.provision.record import Interrupted, ProvisionError
from kirsch.cluster.provision.steps import Step, attempted, perform
from kirsch.cluster.provision.wheels import (
    Target,
    Wheels,
    digests,
    download,
    needs,
    repack,
    shipped,
    source_tree,
    tree_files,
)


class Told:
    """What was shown, in order."""

    def __init__(self):
        self.lines = []

    def begun(self, name):
        self.lines.append(f"begun {name}")

    def done(self, name, seconds):
        self.lines.append(f"done {name}")

    def undoing(self, name):
        self.lines.append(f"undoing {name}")


def steps(log, **acts):
    def act(name):
        log.append(name)
        if name in acts:
            acts[name]()

    return [Step(name, lambda name=name: act(name), lambda name=name: act(f"-{name}")) for name in "abc"]


def fails(error):
    def act():
        raise error

    return act


def test_steps_are_done_in_order_and_shown():
    log, told = [], Told()
    perform(steps(log), told)
    assert log == ["a", "b", "c"]
    assert told.lines == [f"{what} {name}" for name in "abc" for what in ("begun", "done")]


@pytest.mark.parametrize("error", [ProvisionError("no luck"), OSError("no luck"), KeyboardInterrupt()])
def test_a_step_that_fails_undoes_all_the_last_first(error):
    log, told = [], Told()
    with pytest.raises(ProvisionError) as failed:
        perform(steps(log, b=fails(error)), told)
    assert log == ["a", "b", "-b", "-a"]
    assert told.lines[-1] == "undoing b"
    reason = "interrupted" if isinstance(error, KeyboardInterrupt) else "no luck"
    assert str(failed.value) == f"b: {reason}; nothing is left behind"


def test_what_cannot_be_undone_is_named_and_the_rest_is_undone():
    log = []
    with pytest.raises(ProvisionError) as failed:
        perform(steps(log, c=fails(OSError("full")), **{"-b": fails(ProvisionError("stuck"))}), Told())
    assert log == ["a", "b", "c", "-c", "-b", "-a"]
    assert str(failed.value) == "c: full; left behind: b (stuck)"


def test_a_mistake_of_ours_undoes_all_and_stays_what_it_is():
    log = []
    with pytest.raises(ZeroDivisionError):
        perform(steps(log, b=fails(ZeroDivisionError())), Told())
    assert log == ["a", "b", "-b", "-a"]


def test_sigterm_interrupts_a_step_and_not_what_undoes_it():
    log = []

    def term():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    def undone():
        os.kill(os.getpid(), signal.SIGTERM)
        log.append("undone")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ProvisionError, match="b: interrupted"):
        perform(steps(log, b=term, **{"-b": undone}), Told())
    assert log == ["a", "b", "-b", "undone", "-a"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_ctrl_c_does_not_end_the_wait_for_what_is_being_ended():
    log = []

    def ctrl_c():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        except KeyboardInterrupt:
            os.kill(os.getpid(), signal.SIGINT)
            log.append("ended")
            raise

    with pytest.raises(Interrupted, match="b: interrupted; nothing is left behind"):
        perform(steps(log, b=ctrl_c), Told())
    assert log == ["a", "b", "ended", "-b", "-a"]


def test_each_part_is_attempted_where_one_before_it_failed():
    log = []
    assert attempted(steps(log, a=fails(OSError("busy")), b=fails(ProvisionError("stuck")))) == [
        "a: busy",
        "b: stuck",
    ]
    assert log == ["a", "b", "c"]


# Lists one container until it was asked to remove it; its files are busy until it is asked a third time.
BUSY_PODMAN = """#!/bin/sh
echo "$*" >> {log}
case "$*" in
*" ps "*) test -e {log}.rm || echo kirsch-blue-n1 ;;
*" rm "*) echo x >> {log}.rm; test $(wc -l < {log}.rm) -ge 3 || {{ echo "Error: busy" >&2; exit 125; }} ;;
esac
"""


def test_a_container_that_is_busy_is_removed_once_it_is_not(tmp_path, monkeypatch):
    log, program = tmp_path / "log", tmp_path / "podman"
    program.write_text(BUSY_PODMAN.format(log=log))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    destroy_steps("blue", Runner())[0].do()
    removals = [line for line in log.read_text().splitlines() if " rm " in line]
    assert len(removals) == 3
    assert all(line.endswith(" kirsch-blue-n1") for line in removals)


@pytest.mark.parametrize(
    ("argv", "words", "status"),
    [
        (("sh", "-c", "echo out; echo 'Error: at last' >&2; exit 3"), "sh: at last", 3),
        (("sh", "-c", "echo only this; exit 1"), "sh: only this", 1),
        (("sh", "-c", "exit 4"), "sh: exit status 4", 4),
        (("sh", "-c", "echo get http://me:secret@host/x >&2; exit 1"), "sh: get http://host/x", 1),
        (("kirsch-no-such-program",), "kirsch-no-such-program is not installed", None),
    ],
)
def test_a_command_that_fails_says_its_own_last_words(argv, words, status):
    with pytest.raises(CommandError) as failed:
        Runner().run(Command(argv))
    assert (str(failed.value), failed.value.status) == (words, status)


def test_a_command_that_takes_too_long_is_ended(tmp_path):
    with pytest.raises(CommandError, match="not done after 0 s"):
        Runner().run(Command(("sleep", "600"), timeout=0.2))


def test_who_is_interrupted_ends_what_runs_and_runs_nothing_more(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    runner = Runner()
    failures = []

    def run():
        try:
            runner.run(Command(("sh", "-c", f"echo > {fifo}; exec sleep 600")))
        except CommandError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    fifo.read_text()
    runner.interrupt()
    thread.join(20)
    assert len(failures) == 1
    with pytest.raises(CommandError, match="interrupted"):
        runner.run(Command(("true",)))


def test_acting_on_many_raises_the_first_error_once_all_are_done():
    done = []

    def act(number):
        if number == 1:
            raise ProvisionError("the second")
        done.append(number)

    with pytest.raises(ProvisionError, match="the second"):
        Runner().together([0, 1, 2], act)
    assert sorted(done) == [0, 2]


def test_certificates_are_good_for_their_own_cluster_alone(tmp_path):
    def written(name, signer, *hosts):
        folder = tmp_path / name
        folder.mkdir()
        pair = issue(signer, name, *hosts)
        for file, content in {"ca": signer.certificate, "crt": pair.certificate, "key": pair.key}.items():
            (folder / file).write_bytes(content)
        return Certificates(folder / "ca", folder / "crt", folder / "key")

    blue, red = authority("blue"), authority("red")
    server = written("server", blue, "n1", "10.0.0.1")
    assert shaken(written("client", blue), server, "10.0.0.1") == ""
    assert shaken(written("person", blue), server, "n1") == ""
    assert "Hostname mismatch" in shaken(written("lost", blue), server, "n2")
    assert "certificate verify failed" in shaken(written("stranger", red), server, "n1")
    for file in (tmp_path / "client/crt", tmp_path / "server/crt"):
        checked = subprocess.run(
            ["openssl", "verify", "-x509_strict", "-CAfile", tmp_path / "client/ca", file],
            capture_output=True,
            text=True,
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr


def shaken(client: Certificates, server: Certificates, name: str) -> str:
    """What is wrong with a TLS handshake between them; empty if nothing."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.client().wrap_bio(down, up, server_hostname=name)
    theirs = server.server().wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                return str(error)
    return ""


def test_ssh_takes_the_keys_we_make(tmp_path):
    key, path = generate(), tmp_path / "key"
    path.touch(mode=0o600)
    path.write_bytes(key.private)
    shown = subprocess.run(["ssh-keygen", "-y", "-f", path], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == key.public
    assert "PRIVATE" not in repr(key)


def test_files_are_unpacked_as_they_are_meant(tmp_path):
    files = [File("/etc/x/a", b"a", 0o600), File("/etc/x/b", target="/dev/null")]
    subprocess.run(["tar", "-x", "-C", tmp_path], input=archive(files, ["/etc/x"]), check=True)
    assert (tmp_path / "etc/x").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "etc/x/a").stat().st_mode & 0o777 == 0o600
    assert os.readlink(tmp_path / "etc/x/b") == "/dev/null"


def test_that_no_space_is_left_is_said_whatever_followed():
    script = "echo 'tar: /x: No space left on device'; echo giving up; exit 1"
    with pytest.raises(CommandError, match="No space left on device"):
        Runner().run(Command(("sh", "-c", f"{{ {script}; }} >&2")))


@pytest.mark.parametrize("size", [0, 1, 512, 9000, 20_000])
def test_nothing_stands_behind_the_end_of_an_archive(size):
    blocks = 1 + -(-size // 512) + 2
    assert len(archive([File("/file", bytes(size))])) == blocks * 512


METADATA = {
    "kirsch": [
        "always>=1",
        "kirsch-websocket",
        "web>=2; extra == 'web'",
        'grpc>=1; extra == "machines"',
        'kirsch[web]; extra == "machines"',
        'old; python_version < "3.12" and extra == "machines"',
        'other; extra == "robot"',
    ],
    "kirsch-websocket": ["arm; platform_machine == 'aarch64'", "kirsch"],
}


def test_needs_are_those_of_an_extra_and_of_the_extras_it_names():
    target = Target("3.13", "aarch64", (2, 36))
    found = needs(["kirsch[machines]"], METADATA.__getitem__, target.environment)
    assert found.own == ("kirsch", "kirsch-websocket")
    assert found.others == ("always>=1", "arm", "grpc>=1", "web>=2")
    older = replace(target, python="3.11", architecture="x86_64").environment
    assert needs(["kirsch[machines]"], METADATA.__getitem__, older).others == (
        "always>=1", "grpc>=1", "old", "web>=2",
    )  # fmt: skip


def test_what_a_machine_needs_is_in_its_extra():
    needed = needs(["kirsch[machines]"], lambda name: distribution(name).requires or [])
    names = {re.match(r"[A-Za-z0-9-]+", line)[0] for line in needed.others}
    assert {"cherrypy", "aetcd", "grpcio", "dbus-fast"} <= names
    assert needed.own == ("kirsch", "kirsch-websocket")


def test_an_own_distribution_that_is_not_installed_is_named(tmp_path):
    with pytest.raises(ProvisionError, match="kirsch-nothing is not installed here"):
        Wheels(Runner(), tmp_path).own(["kirsch-nothing"])


def test_wheels_are_asked_for_by_the_machines_python_not_ours(tmp_path):
    argv = download(["grpcio>=1"], Target("3.13", "aarch64", (2, 36)), tmp_path).argv
    assert argv[argv.index("--python-version") + 1] == "3.13"
    platforms = [argv[i + 1] for i, word in enumerate(argv) if word == "--platform"]
    assert platforms[0] == "manylinux_2_36_aarch64"
    assert "manylinux_2_17_aarch64" in platforms
    assert "--only-binary" in argv


def test_an_installed_kirsch_is_packed_again_without_what_is_compiled(tmp_path):
    tree = source_tree()
    assert tree is not None
    made = distribution("kirsch")
    files = [
        (path.removeprefix("src/"), content) for path, content in tree_files(tree) if path.startswith("src/")
    ]
    files.append(
        (f"kirsch-{made.version}.dist-info/METADATA", b"Metadata-Version: 2.4\nName: kirsch\nVersion: 1\n")
    )
    wheel = repack(made, files, tmp_path)
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        assert packed.testzip() is None
    assert "kirsch/cluster/daemon/command.py" in names
    assert not any(name.endswith((".so", ".pyc")) for name in names)


def test_wheels_are_shipped_with_their_digests_which_a_machine_checks(tmp_path):
    for name in ("pip-1-py3-none-any.whl", "grpcio-1-py3-none-any.whl"):
        (tmp_path / name).write_bytes(name.encode())
    wheels = sorted(tmp_path.glob("*.whl"))
    (tmp_path / "SHA256SUMS").write_text(digests(wheels))
    machine = tmp_path / "machine"
    for file in shipped(wheels):
        path = machine / file.path.strip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)

    def checked():
        script = CHECK.replace(WHEELS, str(machine / WHEELS.strip("/")))
        return subprocess.run(["sh", "-c", script], capture_output=True, text=True)

    assert checked().returncode == 0
    (machine / WHEELS.strip("/") / wheels[0].name).write_bytes(b"another")
    assert wheels[0].name in checked().stdout
    assert checked().returncode == 1
    wheels[1].write_bytes(b"another")
    with pytest.raises(ProvisionError, match="is not what was downloaded: remove"):
        shipped(wheels)


def make_wheel(folder, name, tag="py3-none-any", *requires):
    """An empty wheel of a distribution."""
    distribution = name.replace("-", "_")
    lines = ["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", "Provides-Extra: machines", *requires]
    with zipfile.ZipFile(folder / f"{distribution}-1.0-{tag}.whl", "w") as wheel:
        wheel.writestr(f"{distribution}-1.0.dist-info/METADATA", "".join(f"{line}\n" for line in lines))
        wheel.writestr(f"{distribution}-1.0.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")
        wheel.writestr(f"{distribution}-1.0.dist-info/RECORD", "")


@pytest.mark.slow
def test_wheels_of_a_folder_are_those_for_the_machine_and_no_index_is_asked(tmp_path):
    extra = 'Requires-Dist: grpcio; extra == "machines"'
    make_wheel(tmp_path, "kirsch", "py3-none-any", "Requires-Dist: kirsch-websocket==1.0", extra)
    for tag in ("cp311-cp311", "cp313-cp313"):
        make_wheel(tmp_path, "kirsch-websocket", f"{tag}-manylinux_2_17_x86_64")
    make_wheel(tmp_path, "grpcio", "cp313-cp313-manylinux_2_17_x86_64")
    target = Target("3.13", "x86_64", (2, 41))
    with pytest.raises(ProvisionError, match="pip"):
        Wheels(Runner(), tmp_path / "cache").kept_in(tmp_path, target)
    make_wheel(tmp_path, "pip")
    files = Wheels(Runner(), tmp_path / "cache").kept_in(tmp_path, target)
    assert {file.path.rpartition("/")[2] for file in files} == {
        "grpcio-1.0-cp313-cp313-manylinux_2_17_x86_64.whl",
        "kirsch-1.0-py3-none-any.whl",
        "kirsch_websocket-1.0-cp313-cp313-manylinux_2_17_x86_64.whl",
        "pip-1.0-py3-none-any.whl",
        "SHA256SUMS",
    }


@pytest.mark.slow
def test_our_own_wheel_is_made_once(tmp_path):
    wheels = Wheels(Runner(), tmp_path)
    own = wheels.own()
    before = [wheel.stat() for wheel in own]
    assert [wheel.stat() for wheel in wheels.own()] == before
    assert [wheel.name.partition("-")[0] for wheel in own] == ["kirsch", "kirsch_websocket"]
    assert all(wheel.name.endswith("-py3-none-any.whl") for wheel in own)
    wheel = own[0]
    with zipfile.ZipFile(wheel) as packed:
        points = packed.read(next(n for n in packed.namelist() if n.endswith("entry_points.txt"))).decode()
    assert "kirschd = kirsch.cluster.daemon:main" in points


def test_what_fails_by_chance_is_run_once_more_however_long_it_says_so(tmp_path):
    """podman wraps a cause in many words, and it stands at their end."""
    there, words = tmp_path / "there", "very " * 100
    script = f"test -e {there} && echo done || {{ touch {there}; echo {words} unlucky >&2; false; }}"
    command = Command(("sh", "-c", script))
    with pytest.raises(CommandError, match=r"^sh: very very .*….*very unlucky$") as told:
        Runner().run(command)
    assert len(told.value.words) < 310
    there.unlink()
    assert Runner().run(replace(command, again="unlucky")) == "done\n"
