"""`kirsch cluster create`, `list`, `status`, `ssh-config`, `destroy`, on this computer's podman."""

import json
import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from tests.cli.application import descendants
from tests.machines.computer import KIRSCH, LONG, Computer, parts, podman, traces, words_of
from tests.machines.trial import eventually

pytestmark = [pytest.mark.machines, pytest.mark.slow]

# podman as it is, but for one call: the first whose arguments have a word in them.
FAILING = """\
#!/bin/sh
case "$*" in
*"{word}"*) {act} ;;
esac
exec {real} "$@"
"""

# Says when it listens.
SERVER = """\
import socket
listening = socket.create_server(("", 8091))
print(flush=True)
while True:
    listening.accept()[0].send(b"hello\\n")
"""


@pytest.fixture
def computer(tmp_path):
    made = Computer(tmp_path, f"tests-{os.getpid()}")
    yield made
    made.close()


def failing(folder: Path, word: str, act: str) -> Path:
    """A folder with a podman that fails at one call."""
    return program(folder, "podman", FAILING.format(word=word, act=act, real=shutil.which("podman")))


def program(folder: Path, name: str, text: str) -> Path:
    """A folder with a program of ours in it."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path.parent


@pytest.mark.soak
def test_clusters_come_side_by_side_and_go_without_a_trace(computer):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    one = computer.create("one", "--metadata", "zone=a,disk=ssd", "--publish", f"{port}:8091")
    two = computer.create("two", "--machines", "2", "--metadata", "zone=a/b")

    listed = json.loads(computer.kirsch("cluster", "list", "--json").stdout)
    ours = {row["name"]: row for row in listed if row["name"] in (one, two)}
    assert (ours[one]["machines"], ours[one]["running"]) == (1, 1)
    assert (ours[two]["machines"], ours[two]["running"]) == (2, 2)
    assert ours[one]["publish"] == f"127.0.0.1:{port}:8091"

    for name, zones in ((one, ["a"]), (two, ["a", "b"])):
        status = computer.kirsch("cluster", "status", name)
        assert status.returncode == 0, status.stdout
        shown = json.loads(computer.kirsch("--cluster", name, "list-machines", "--json").stdout)
        assert sorted(machine["metadata"]["zone"] for machine in shown) == zones
        config = computer.folder / f"config-{name}"
        config.write_text(computer.kirsch("cluster", "ssh-config", name).stdout)
        done = subprocess.run(
            ["ssh", "-F", config, "n1", "hostname"], capture_output=True, text=True, timeout=30
        )
        assert done.stdout == "n1\n", done.stderr

    # What is published leads to whichever machine answers, whoever listens there later.
    server = subprocess.Popen(
        ["podman", "--runtime", "runc", "exec", f"kirsch-{one}-n1", "python3", "-c", SERVER],
        stdout=subprocess.PIPE, env={**os.environ, "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"},
    )  # fmt: skip
    assert server.stdout.readline() == b"\n"

    def answer() -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            return connection.recv(10)

    eventually(lambda: answer() == b"hello\n")
    server.kill()
    server.communicate(timeout=30)

    words = {name: words_of(name) for name in (one, two)}
    assert all(len(traces(name, words[name])) > 10 for name in words), "the test looks in the wrong places"
    destroyed = computer.kirsch("cluster", "destroy", one)
    assert destroyed.returncode == 0, destroyed.stderr
    assert traces(one, words[one]) == []
    assert computer.kirsch("cluster", "status", two).returncode == 0
    assert computer.kirsch("cluster", "destroy", two).returncode == 0
    assert traces(two, words[two]) == []
    assert not list(computer.data.rglob("*")) or not computer.data.exists()
    gone = computer.kirsch("cluster", "destroy", two)
    assert (gone.returncode, gone.stderr) == (1, f"kirsch: there is no cluster {two}\n")


@pytest.mark.parametrize(
    ("word", "step"),
    [
        ("network create", "network"),
        ("create --name", "machines"),
        ("start kirsch-", "machines"),
        ("start etcd.service", "etcd"),
        ("kirsch-registry.service", "registry"),
        ("start kirschd.service", "kirschd"),
    ],
)
def test_what_fails_half_way_leaves_nothing(computer, tmp_path, word, step):
    name = computer.name("half")
    path = failing(tmp_path, word, "echo 'Error: no luck today' >&2; exit 125")
    done = computer.kirsch("cluster", "create", name, path=path)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"kirsch: {step}: ")
    assert last.endswith("no luck today; nothing is left behind")
    assert f"failed  {step}" in done.stdout
    assert traces(name, []) == []
    assert not list(computer.data.rglob("*"))


def told(fifo: Path, process: "subprocess.Popen[str]") -> str:
    """What somebody writes there, if it is before the process ends."""
    with open(os.open(fifo, os.O_RDWR), "rb", buffering=0) as reading:  # so that opening it does not wait
        ends = os.pidfd_open(process.pid)
        try:
            ready, _, _ = select.select([reading, ends], [], [], LONG)
        finally:
            os.close(ends)
        assert reading in ready, process.communicate()
        return reading.read(100).decode().strip()


def commands(pid: int) -> list[str]:
    """The command lines of all that descends from a process."""
    return [
        path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        for each in descendants(pid)
        if (path := Path(f"/proc/{each}/cmdline")).exists()
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_interrupts_it_is_left_with_nothing(computer, tmp_path, number):
    name = computer.name("stop")
    fifo = tmp_path / "begun"
    os.mkfifo(fifo)
    path = failing(tmp_path, "start etcd.service", f"echo > {fifo}; exec sleep 600")
    process = subprocess.Popen(
        [KIRSCH, "cluster", "create", name], env=computer.environment(path),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    told(fifo, process)
    process.send_signal(number)
    try:
        _, errors = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        pytest.fail(f"it did not end; it waits for {commands(process.pid)}")
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "kirsch: etcd: interrupted; nothing is left behind"
    assert traces(name, []) == []


@pytest.mark.soak
def test_a_machine_that_is_away_is_seen(computer):
    name = computer.create("away")
    podman("kill", f"kirsch-{name}-n1")
    podman("wait", f"kirsch-{name}-n1")
    status = computer.kirsch("cluster", "status", name, "--json")
    assert status.returncode == 1
    (machine,) = json.loads(status.stdout)["machines"]
    assert (machine["container"], machine["sshd"], machine["kirschd"]) == ("exited", "silent", "not ready")
    again = computer.kirsch("cluster", "create", name)
    assert again.returncode == 1
    assert f"there is a cluster {name} already" in again.stderr
    # It is found by podman's labels too, when its record was lost.
    shutil.rmtree(computer.data)
    again = computer.kirsch("cluster", "create", name)
    assert again.returncode == 1
    assert "destroy" in again.stderr
    assert computer.kirsch("cluster", "destroy", name).returncode == 0
    assert parts(name) == []


@pytest.mark.soak
def test_who_interrupts_the_making_of_the_image_is_left_with_nothing(computer, tmp_path):
    # A podman that has no image, and asks no registry for one; an mmdebstrap that stops in the middle.
    graph = Path(tempfile.mkdtemp(dir="/var/tmp"))
    storage = f'[storage]\ndriver = "overlay"\ngraphroot = "{graph}/g"\nrunroot = "{graph}/r"\n'
    (tmp_path / "storage.conf").write_text(storage)
    fifo = tmp_path / "begun"
    os.mkfifo(fifo)
    hook = shlex.quote(f"--setup-hook=echo $$ > {fifo}; exec sleep 600")
    program(tmp_path, "mmdebstrap", f'#!/bin/sh\nexec {shutil.which("mmdebstrap")} {hook} "$@"\n')
    path = failing(tmp_path, "manifest inspect", "exit 125")
    environment = {
        **computer.environment(path),
        "CONTAINERS_STORAGE_CONF": str(tmp_path / "storage.conf"), "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }  # fmt: skip
    process = subprocess.Popen(
        [KIRSCH, "cluster", "create", computer.name("image")], env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        sleeper = Path("/proc", told(fifo, process))
        assert sleeper.exists()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
        assert errors.splitlines()[-1] == "kirsch: machine image: interrupted; nothing is left behind"
        eventually(lambda: not sleeper.exists())
        assert not list(computer.data.rglob("*"))
        assert not list(Path("/var/tmp").glob("tmp*/mmdebstrap*"))
    finally:
        process.kill()
        subprocess.run(["umount", graph / "g/overlay"], stderr=subprocess.DEVNULL)
        shutil.rmtree(graph)


@pytest.mark.soak
def test_two_who_make_one_cluster_do_not_undo_each_other(computer):
    name = computer.name("both")
    both = [
        subprocess.Popen(
            [KIRSCH, "cluster", "create", name], env=computer.environment(),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=300) for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], said
    assert any(f"there is a cluster {name} already" in errors for _, errors in said)
    assert computer.kirsch("cluster", "status", name).returncode == 0


def test_a_port_that_is_taken_is_told_before_anything_is_done(computer):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = computer.kirsch("cluster", "create", computer.name("port"), "--publish", f"{port}:80")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"--publish: port {port} of 127.0.0.1 is taken" in done.stderr
    assert not computer.data.exists()


def test_what_cannot_be_asked_for_is_wrong_usage(computer):
    for words in (
        ["NAME!"],
        ["x", "--machines", "0"],
        ["x", "--machines", "99"],
        ["x", "--metadata", "zone"],
    ):
        done = computer.kirsch("cluster", "create", *words)
        assert done.returncode == 2, done
        assert done.stderr
    assert not computer.data.exists()
