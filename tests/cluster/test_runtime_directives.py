"""Each directive of the process runtime, with real processes."""

import asyncio
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.runtime_bench import Bench, processes

from kirsch.bus.process.command import SHIM
from kirsch.cluster.runtime.host import Host
from kirsch.cluster.runtime.process.runtime import ProcessRuntime, check
from kirsch.unit import UnitFile, UnitName


def story(test: Callable[[Bench], Any]) -> Callable[..., None]:
    """Make a test of an async function: it is given a bench with a process runtime."""

    async def play(folder):
        bench = Bench.of_processes(folder)
        try:
            async with asyncio.timeout(60):
                await test(bench)
        finally:
            await bench.runtime.close()
            bench.journal.close()

    def run(tmp_path):
        asyncio.run(play(tmp_path))

    run.__doc__ = test.__doc__
    return run


async def output(bench: Bench, lines: str, command: str, **environment: str) -> list[str]:
    """What a oneshot of these lines prints when it runs a shell command."""
    name = await bench.service(f"Type=oneshot\n{lines}\nExecStart=sh -c '{command}'", **environment)
    before = len(bench.lines(name))
    state = await bench.runtime.start(name)
    assert state.result == "success", state.message
    return bench.lines(name)[before:]


@story
async def test_the_environment_is_small_and_known(bench):
    lines = await output(bench, "", "env", KIRSCH_UNIT="x.service")
    variables = dict(line.split("=", 1) for line in lines)
    assert variables["KIRSCH_UNIT"] == "x.service"
    assert variables["PATH"].split(":")[0] == os.path.dirname(sys.executable)
    assert "/usr/sbin" in variables["PATH"].split(":")
    assert len(variables["INVOCATION_ID"]) == 32
    shells_own = {"PWD", "SHLVL", "OLDPWD", "_"}
    ours = {"PATH", "INVOCATION_ID", "KIRSCH_UNIT", "KIRSCH_CHILD", "LANG", "TZ"}
    assert set(variables) <= ours | shells_own | {"HOME", "USER", "LOGNAME", "SHELL"}


@story
async def test_which_environment_wins(bench):
    (bench.folder / "one.env").write_text("B=file\nC=file\nD=file\n")
    (bench.folder / "two.env").write_text("D='file two'\n")
    lines = """
        Environment=A=unit B=unit "E=a b"
        EnvironmentFile=@FOLDER@/one.env
        EnvironmentFile=@FOLDER@/t*.env
        EnvironmentFile=-@FOLDER@/missing.env
    """
    shown = await output(bench, lines, "echo $$A $$B $$C $$D ${E}", C="prepared")
    assert shown == ["unit file prepared file two a b"]


@story
async def test_an_environment_file_that_is_missing(bench):
    name = await bench.service("EnvironmentFile=@FOLDER@/missing.env\nExecStart=/bin/true")
    state = await bench.runtime.start(name)
    assert state.sub == "failed"
    assert state.message == f"EnvironmentFile={bench.folder}/missing.env: there is no such file"


@story
async def test_pass_and_unset_environment(bench):
    lines = "PassEnvironment=PYTEST_CURRENT_TEST NOT_THERE\nEnvironment=A=1 B=2\nUnsetEnvironment=A B=3"
    [shown] = await output(bench, lines, "echo [$$A] [$$B] $$PYTEST_CURRENT_TEST")
    assert shown == f"[] [2] {os.environ['PYTEST_CURRENT_TEST']}"


@story
async def test_working_directory(bench):
    (bench.folder / "a b").mkdir()
    assert await output(bench, "", "pwd") == [str(bench.folder)]
    assert await output(bench, "WorkingDirectory=@FOLDER@/a b", "pwd") == [f"{bench.folder}/a b"]
    assert await output(bench, "WorkingDirectory=-/no/such/folder", "pwd") == [str(bench.folder)]
    assert await output(bench, "WorkingDirectory=~", "pwd") == [pwd.getpwuid(os.geteuid()).pw_dir]
    name = await bench.service("WorkingDirectory=/no/such/folder\nExecStart=/bin/true")
    assert "/no/such/folder" in (await bench.runtime.start(name)).message


@story
async def test_umask_nice_and_limits(bench):
    lines = "UMask=0027\nNice=3\nLimitNOFILE=111:222"
    shown = await output(bench, lines, "umask; nice; ulimit -Sn; ulimit -Hn")
    assert shown == ["0027", str(os.nice(0) + 3), "111", "222"]


@pytest.mark.root
@story
async def test_user_and_group(bench):
    lines = "User=nobody\nWorkingDirectory=/"
    shown = await output(bench, lines, "id -un; id -gn; echo $$HOME $$USER $$LOGNAME $$SHELL")
    entry = pwd.getpwnam("nobody")
    assert shown == ["nobody", "nogroup", f"{entry.pw_dir} nobody nobody {entry.pw_shell}"]
    assert await output(bench, f"{lines}\nGroup=daemon", "id -gn") == ["daemon"]
    name = await bench.service("User=nosuchuser\nExecStart=/bin/true")
    assert (await bench.runtime.start(name)).message == "User=nosuchuser: there is no such user"


@story
async def test_directories(bench):
    lines = """
        StateDirectory=db db/more
        StateDirectoryMode=0700
        RuntimeDirectory=r
        CacheDirectory=c
        LogsDirectory=l
    """
    root = bench.folder / "kirsch"
    shown = await output(bench, lines, "env | grep _DIRECTORY | sort; ls -d $$RUNTIME_DIRECTORY")
    assert shown == [
        f"CACHE_DIRECTORY={root}/cache/c",
        f"LOGS_DIRECTORY={root}/logs/l",
        f"RUNTIME_DIRECTORY={root}/run/r",
        f"STATE_DIRECTORY={root}/state/db:{root}/state/db/more",
        f"{root}/run/r",
    ]
    assert stat.S_IMODE((root / "state/db").stat().st_mode) == 0o700
    assert not (root / "run/r").exists()
    assert (root / "cache/c").is_dir()


@story
async def test_a_runtime_directory_may_be_kept_for_a_restart(bench):
    lines = "RuntimeDirectory=r\nRuntimeDirectoryPreserve=restart\nRestart=on-failure\nRestartSec=10ms"
    script = (
        "if [ -e $$RUNTIME_DIRECTORY/seen ]; then exec sleep 1000; fi; touch $$RUNTIME_DIRECTORY/seen; exit 1"
    )
    name = await bench.service(f"{lines}\nExecStart=sh -c '{script}'")
    await bench.runtime.start(name)
    await bench.until(name, lambda state: state.sub == "running" and state.restarts == 1)
    assert (await bench.runtime.stop(name)).sub == "dead"
    assert not (bench.folder / "kirsch/run/r").exists()


@pytest.mark.root
def test_directories_belong_to_the_user():
    async def play(folder):
        bench = Bench.of_processes(folder)
        lines = "User=nobody\nWorkingDirectory=/\nStateDirectory=db"
        assert await output(bench, lines, "cd $$STATE_DIRECTORY; echo new > old; cat old") == ["new"]
        (folder / "kirsch").chmod(0o700)
        name = await bench.service(f"{lines}\nExecStart=/bin/true")
        state = await bench.runtime.start(name)
        assert state.message == f"StateDirectory=db: user nobody may not enter {folder}/kirsch"
        await bench.runtime.close()

    # Other users may not enter pytest's own folders.
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        old = folder / "kirsch/state/db/old"
        old.parent.mkdir(parents=True)
        old.write_text("of root")
        asyncio.run(play(folder))


@story
async def test_output(bench):
    name = await bench.service("Type=oneshot\nExecStart=sh -c 'echo one; echo two >&2; printf three'")
    await bench.runtime.start(name)
    assert bench.lines(name, "out") == ["one", "three"]
    assert bench.lines(name, "err") == ["two"]
    assert await output(bench, "StandardOutput=null\nStandardError=journal", "echo x; echo y >&2") == ["y"]
    assert await output(bench, "StandardOutput=null", "echo x; echo y >&2") == []


@story
async def test_prefixes(bench):
    shown = await output(bench, "ExecStartPre=-/bin/false\nExecStartPre=-/no/such/program", "echo fine")
    assert shown == ["fine"]
    name = await bench.service("Type=oneshot\nExecStart=@sh another -c 'echo $$0'\nExecStart=:echo $HOME")
    before = len(bench.lines(name))
    await bench.runtime.start(name)
    assert bench.lines(name)[before:] == ["another", "$HOME"]


@story
async def test_a_program_that_is_nowhere(bench):
    name = await bench.service("ExecStart=no-such-program --flag", unit="StartLimitBurst=0")
    state = await bench.runtime.start(name)
    assert (state.active, state.result) == ("failed", "exit-code")
    assert state.message.startswith("ExecStart=no-such-program: not found on PATH /")
    name = await bench.service("ExecStart=/no/such/program")
    message = (await bench.runtime.start(name)).message
    assert message == "ExecStart=/no/such/program: cannot execute /no/such/program: No such file or directory"
    (bench.folder / "script").write_text("#!/bin/sh\n")
    name = await bench.service("ExecStart=@FOLDER@/script")
    assert "Permission denied" in (await bench.runtime.start(name)).message


@story
async def test_a_relative_program_of_a_container(bench):
    script = bench.folder / "serve"
    script.write_text("#!/bin/sh\necho served $1\n")
    script.chmod(0o755)
    text = """
        [Container]
        Image=x
        Environment=WHAT=cake
        [X-Kirsch-Process]
        Type=oneshot
        ExecStart=./serve $WHAT
    """
    name = await bench.load(text, "x.container")
    await bench.runtime.start(name)
    assert bench.lines(name) == ["served cake"]


@story
async def test_all_commands_and_what_they_are_told(bench):
    name = await bench.service(
        """
        ExecStartPre=sh -c 'echo pre'
        ExecStart=sh -c 'echo main; exec sleep 1000'
        ExecStartPost=sh -c 'echo post $MAINPID'
        ExecStop=sh -c 'echo stop $MAINPID $SERVICE_RESULT'
        ExecStopPost=sh -c 'echo stop-post [$MAINPID] $SERVICE_RESULT $EXIT_CODE $EXIT_STATUS'
        """
    )
    pid = (await bench.runtime.start(name)).pid
    await bench.line(name, "main")
    await bench.runtime.stop(name)
    assert sorted(bench.lines(name)[:3]) == ["main", f"post {pid}", "pre"]
    assert bench.lines(name)[3:] == [f"stop {pid} success", "stop-post [] success killed TERM"]


@story
async def test_what_exec_start_pre_leaves_behind_is_gone_before_the_service_comes(bench):
    name = await bench.service(
        """
        ExecStartPre=sh -c 'sleep 1000 & echo $$! > @FOLDER@/pid'
        ExecStart=sleep 1000
        """
    )
    await bench.runtime.start(name)
    pid = int((bench.folder / "pid").read_text())
    await bench.poll(lambda: pid not in processes("sleep"))


@story
async def test_the_journal_says_what_kirsch_did(bench):
    name = await bench.service(
        "ExecStart=sh -c 'exit 3'\nRestart=always\nRestartSec=10ms", unit="StartLimitBurst=2"
    )
    await bench.runtime.start(name)
    await bench.until_sub(name, "failed")
    assert bench.lines(name, "kirsch") == [
        "Started x.service.",
        "Main process exited, code=exited, status=3/NOTIMPLEMENTED",
        "Failed with result 'exit-code'.",
        "Scheduled restart job, restart counter is at 1.",
        "Started x.service.",
        "Main process exited, code=exited, status=3/NOTIMPLEMENTED",
        "Failed with result 'exit-code'.",
        "Scheduled restart job, restart counter is at 2.",
        "Start request repeated too quickly.",
        "Failed with result 'start-limit-hit'.",
        "Failed to start x.service.",
    ]


@story
async def test_a_failed_units_message_has_its_last_lines(bench):
    script = 'for i in 1 2 3 4 5 6 7; do echo "line  $$i"; done; echo; echo address in use >&2; exit 3'
    name = await bench.service(f"ExecStart=sh -c '{script}'")
    await bench.runtime.start(name)
    message = (await bench.until_sub(name, "failed")).message
    assert message.startswith("exited with status 3; last lines: ")
    assert "address in use" in message
    assert "line  7" in message
    assert "line  1" not in message
    long = await bench.service("ExecStart=sh -c 'yes long | head -c 100000 | tr -d \"\\\\n\"; exit 3'")
    await bench.runtime.start(long)
    message = (await bench.until_sub(long, "failed")).message
    assert len(message) < 600
    assert "\n" not in message


def test_specifiers_name_the_runtimes_folders(tmp_path):
    async def play():
        bench = Bench.of_processes(tmp_path)
        name = await bench.service("Type=oneshot\nExecStart=echo %t %S %H %n %u", name="a@b.service")
        await bench.runtime.start(name)
        await bench.runtime.close()
        return bench.lines(name)

    user = pwd.getpwuid(os.geteuid()).pw_name
    root = tmp_path / "kirsch"
    assert asyncio.run(play()) == [f"{root}/run {root}/state {os.uname().nodename} a@b.service {user}"]


def test_a_path_of_ones_own(tmp_path):
    script = tmp_path / "bin" / "hello"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\necho hello\n")
    script.chmod(0o755)

    async def play():
        bench = Bench.of_processes(tmp_path)
        await bench.runtime.close()
        bench.runtime = ProcessRuntime(tmp_path / "two", bench.journal, path=[str(script.parent)])
        name = await bench.service("Type=oneshot\nExecStart=hello")
        await bench.runtime.start(name)
        await bench.runtime.close()
        return bench.lines(name)

    assert asyncio.run(play()) == ["hello"]


@story
async def test_no_new_privileges_for_life(bench):
    [line] = await output(bench, "NoNewPrivileges=yes", "grep NoNewPrivs /proc/self/status")
    assert line.split() == ["NoNewPrivs:", "1"]


@story
async def test_the_score_for_the_oom_killer(bench):
    assert await output(bench, "OOMScoreAdjust=500", "cat /proc/self/oom_score_adj") == ["500"]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take capabilities away")
@story
async def test_an_empty_set_of_capabilities(bench):
    [line] = await output(bench, "CapabilityBoundingSet=", "grep CapEff /proc/self/status")
    assert int(line.split()[1], 16) == 0
    lines = f"CapabilityBoundingSet=\nUser={pwd.getpwuid(65534).pw_name}\nWorkingDirectory=/"
    [line] = await output(bench, lines, "grep CapBnd /proc/self/status")
    assert int(line.split()[1], 16) == 0


PLACES = "/usr /etc /var/tmp /tmp $STATE_DIRECTORY"
WRITES = f"for each in {PLACES}; do touch $$each/kirsch-x && echo $$each; done; true"


@story
async def test_protected_system(bench):
    """What the program can write to, by level; in its own folders always."""
    state = bench.folder / "kirsch/state/s"
    for level, writable in (
        ("yes", {"/etc", "/var/tmp", "/tmp", str(state)}),
        ("full", {"/var/tmp", "/tmp", str(state)}),
        ("strict", {"/var/tmp", "/tmp", str(state)}),
    ):
        lines = f"ProtectSystem={level}\nPrivateTmp=yes\nStateDirectory=s\nStandardError=null"
        assert set(await output(bench, lines, WRITES)) == writable, level
    assert await output(bench, "", "rm -f /etc/kirsch-x; ls /usr | grep kirsch-x; true") == []
    lines = f"ProtectSystem=strict\nReadWritePaths={bench.folder} -/not/there\nStandardError=null"
    assert await output(bench, lines, "touch a /tmp/kirsch-x && echo written; ls a") == ["a"]
    assert (bench.folder / "a").exists()
    lines = f"ReadOnlyPaths={bench.folder}\nStandardError=null"
    assert await output(bench, lines, "touch b || echo refused") == ["refused"]


@story
async def test_a_tmp_of_ones_own(bench):
    """It is there for all commands of a run and empty at the next; the application's folder is below it."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="kirsch-outside-") as outside:
        lines = "PrivateTmp=yes\nExecStartPre=touch /tmp/made"
        for _ in range(2):
            shown = await output(bench, lines, "ls -a /tmp /var/tmp; pwd; touch /tmp/left")
            assert {"made", "left"} & set(shown) == {"made"}
            assert os.path.basename(outside) not in shown
            assert str(bench.folder) in shown
        assert "made" not in os.listdir("/tmp")
        assert not os.listdir(bench.folder / "kirsch/run/.private")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a unit as another user")
@story
async def test_a_tmp_of_another_user(bench):
    lines = f"PrivateTmp=yes\nProtectSystem=strict\nUser={pwd.getpwuid(65534).pw_name}\nWorkingDirectory=/"
    assert await output(bench, lines, "touch /tmp/a && stat -c %%u /tmp/a") == ["65534"]


PERSON = """
import os, sys
shim = {"__name__": "shim"}
exec(sys.stdin.read(), shim)
own = sys.argv[1].encode()
shim["isolate"]({"read_only": [], "strict": True, "writable": [], "private": {b"/tmp": own}, "kept": []})
command = "id -u; touch /tmp/made; ls /tmp; touch /var/tmp/x || mount -t tmpfs x /mnt || echo no"
os.execvp("sh", ["sh", "-c", command])
"""


def test_a_person_who_is_not_root_has_mounts_too():
    """In a user namespace, as themselves and without a capability in it."""
    python = shutil.which("python3", path="/usr/bin")
    if python is None:
        pytest.skip("there is no Python that everybody may run")
    nobody = 65534 if os.geteuid() == 0 else os.geteuid()
    own = Path(tempfile.mkdtemp())
    try:
        os.chown(own, nobody, nobody if os.geteuid() == 0 else -1)
        done = subprocess.run(
            [python, "-I", "-S", "-c", PERSON, str(own)],
            input=Path(SHIM).read_text(),
            capture_output=True,
            text=True,
            timeout=30,
            cwd="/",
            **({"user": nobody, "group": nobody, "extra_groups": []} if os.geteuid() == 0 else {}),
        )
        if "Operation not permitted: 'unshare'" in done.stderr:
            pytest.skip("this kernel gives only root namespaces")
        assert done.stdout.split() == [str(nobody), "made", "no"], done.stderr
    finally:
        shutil.rmtree(own)


def test_what_the_machine_does_not_give_is_named(tmp_path, monkeypatch):
    """Without systemd there is no control group, and it is said."""
    monkeypatch.setenv("PATH", "/nowhere")
    host = Host.create(tmp_path, tmp_path, [])
    text = "[Service]\nExecStart=sleep 1\nMemoryMax=1G\nTasksMax=20\n"
    assert check(host, UnitName.parse("a.service"), UnitFile.parse(text)) == [
        "a.service: MemoryMax=1G, TasksMax=20 is not honoured: no systemd is here that makes control groups"
    ]
