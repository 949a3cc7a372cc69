"""Units through the whole of kirschd and systemd: what runs goes on; what cannot is told in their words."""

import base64
import shlex
import time

import pytest
from tests.machines.trial import Trial, eventually

from kirsch.cluster.provision.record import MachineRecord

pytestmark = [pytest.mark.machines, pytest.mark.slow]

SLEEP = "[Service]\nExecStart=/bin/sleep infinity\n"


@pytest.fixture
def unit(trial: Trial):
    """Starts a unit, on the first machine unless it says where; destroys all of them in the end."""
    names: list[str] = []

    def start(name: str, text: str, check: bool = True) -> str:
        names.append(name)
        options = "" if "[X-Kirsch]" in text else f"[X-Kirsch]\nMachineID={trial.machines[0].id}\n"
        trial.submit(name, f"{text}{options}")
        said = trial.kirsch("start", name, check=check)
        return said.out + said.err

    yield start
    if names:
        trial.kirsch("destroy", *reversed(names))


def restart_kirschd(trial: Trial, machine: MachineRecord, how: str) -> None:
    """Have another kirschd there, and wait until it is in the cluster."""
    began = time.time()
    trial.shell(machine, how)
    joined = f"journalctl -u kirschd --since @{began:.6f} -o cat | grep -q 'is in the cluster'"
    eventually(lambda: trial.shell(machine, f"{joined} && echo yes || :").strip() == "yes")


@pytest.mark.parametrize("how", ["systemctl restart kirschd", "systemctl kill --signal=KILL kirschd"])
def test_what_runs_is_adopted_by_the_next_kirschd(trial: Trial, unit, how: str):
    first = trial.machines[0]
    unit("kept.service", SLEEP)
    unit("once.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo ran'\n")
    before = trial.running(first, "kept.service")
    assert before
    restart_kirschd(trial, first, how)
    trial.until(lambda lines: lines.get("kept.service", {}).get("active") == "active")
    assert trial.running(first, "kept.service") == before
    assert [line for _, line in trial.journal(first, "once.service")].count("ran") == 1
    # It is the new one's to stop.
    trial.kirsch("stop", "kept.service")
    assert trial.running(first, "kept.service") == {}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("none.service", "[Service]\nType=oneshot\n", "Service has no ExecStart="),
        ("gone.service", "[Service]\nExecStart=/no/such/program\n", "203/EXEC"),
        ("image.container", "[Container]\nImage=localhost/none\nPull=never\n", "localhost/none"),
        ("sshd.service", SLEEP, "is not kirsch's"),
        ("ssh.service", SLEEP, "is not kirsch's"),
        ("dbus.socket", "[Socket]\nListenStream=/run/x\n", "is not kirsch's"),
    ],
)
def test_why_a_unit_does_not_run_is_in_status_and_why(trial: Trial, unit, name: str, text: str, words: str):
    first = trial.machines[0]
    theirs = "systemctl show -p MainPID,FragmentPath,DropInPaths,ActiveState ssh.service dbus.socket"
    before = trial.shell(first, theirs)
    said = unit(name, text, check=False)
    trial.until(
        lambda lines: any(words in reason for reason in lines[name]["reasons"]) if name in lines else False
    )
    assert words in said
    assert words in trial.kirsch("why", name).out
    assert words in trial.kirsch("status", name, check=False).out
    assert trial.shell(first, theirs) == before


def test_what_quadlet_refuses_is_refused_when_it_is_submitted(trial: Trial):
    path = trial.write("bad.container", "[Container]\nImage=x\nColour=blue\n")
    said = trial.kirsch("submit", path, check=False)
    assert said.status == 1
    assert "unsupported key 'Colour'" in said.err
    assert "bad.container" not in trial.lines()


def test_what_systemd_passes_over_is_in_status(trial: Trial, unit):
    unit("odd.service", f"{SLEEP}Colour=blue\n")
    eventually(lambda: "Unknown key 'Colour'" in trial.kirsch("status", "odd.service").out)


def test_variables_and_secrets(trial: Trial, unit):
    first = trial.machines[0]
    script = "env | grep ^KIRSCH_; cat $CREDENTIALS_DIRECTORY/trial-a; echo; echo $WORD; exec sleep infinity"
    text = f"[Service]\nExecStart=/bin/sh -c '{script}'\n[X-Kirsch]\nMachineID={first.id}\n"
    secrets = ["chosen-a", "chosen-b"]
    for name, value in zip(("trial-a", "trial-b"), secrets, strict=True):
        trial.client.put(f"/kirsch/v1/secrets/{name}", {"value": base64.b64encode(value.encode()).decode()})
    unit("told@7.service", f"{text}Secret=trial-a trial-b:WORD\n")

    def printed() -> set[str]:
        return {line for _, line in trial.journal(first, "told@7.service")}

    eventually(lambda: {*secrets, "KIRSCH_UNIT=told@7.service", "KIRSCH_INSTANCE=7"} <= printed())
    shown = trial.shell(first, "systemctl cat told@7.service; systemctl show told@7.service")
    assert all(secret not in shown for secret in secrets)
    trial.kirsch("secret", "rm", "--force", "trial-a", "trial-b")


def test_units_with_install_and_timers(trial: Trial, unit):
    first = trial.machines[0]
    here = f"[X-Kirsch]\nMachineID={first.id}\n"
    trial.submit("tick.service", f"[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo tick'\n{here}")
    trial.kirsch("load", "tick.service")
    timer = "[Timer]\nOnActiveSec=100ms\nAccuracySec=10ms\n[Install]\nWantedBy=timers.target\n"
    unit("tick.timer", timer)
    assert trial.shell(first, "systemctl is-enabled tick.timer").strip() == "enabled-runtime"
    eventually(lambda: "tick" in {line for _, line in trial.journal(first, "tick.service")})
    trial.kirsch("destroy", "tick.service")


def test_a_full_disk_is_why(trial: Trial, unit):
    first = trial.machines[0]
    unit("before.service", SLEEP)
    before = trial.running(first, "before.service")
    trial.shell(
        first, "mount -o remount,size=64M /run; dd if=/dev/zero of=/run/filler bs=4096 2>/dev/null || :"
    )
    try:
        unit("after.service", SLEEP, check=False)
        eventually(lambda: "No space left on device" in trial.kirsch("why", "after.service").out)
        assert trial.running(first, "before.service") == before
        assert (
            trial.shell(first, "ls -A /run/systemd/system").split()
            == trial.shell(first, "ls -A /run/systemd/system | grep -v after").split()
        )
    finally:
        trial.shell(first, "rm -f /run/filler; mount -o remount,size=50% /run")
    trial.kirsch("start", "after.service")
    trial.until(lambda lines: lines.get("after.service", {}).get("active") == "active")


LIMITED = """\
set -e
mkdir -p /srv/limited && cd /srv/limited
printf '[Service]\\nExecStart=sleep 1000\\nMemoryMax=100M\\nTasksMax=7\\nUser=nobody\\n' >limited.service
/opt/kirsch/bin/kirsch up -d >&2
pid=$(pgrep -x sleep -u nobody)
ps -o user= -p $pid
scope=$(sed -n 's,.*/\\(run-[^/]*[.]scope\\)$,\\1,p' /proc/$pid/cgroup | head -1)
systemctl show -p MemoryMax,TasksMax "$scope"
/opt/kirsch/bin/kirsch down >&2
systemctl is-active "$scope" || true
"""


def test_up_has_systemd_limit_a_unit(trial: Trial):
    """Under `kirsch up` units are processes; where systemd is, each command gets a scope with its limits."""
    try:
        said = trial.shell(trial.machines[0], LIMITED).split()
    finally:
        trial.shell(trial.machines[0], "rm -rf /srv/limited")
    assert said == ["nobody", f"MemoryMax={100 << 20}", "TasksMax=7", "inactive"]


# su opens a session (pam_systemd), which starts the user's manager; that has one group for all that it runs.
LIMITED_OF_A_USER = """\
set -e
export XDG_RUNTIME_DIR=/run/user/$(id -u)
cd
printf '[Service]\\nExecStart=sleep 1000\\nMemoryMax=100M\\nTasksMax=7\\n' >limited.service
/opt/kirsch/bin/kirsch up -d >&2
pid=$(pgrep -x sleep -u ada)
scope=$(sed -n 's,.*/user@[0-9]*[.]service/.*/\\(run-[^/]*[.]scope\\)$,\\1,p' /proc/$pid/cgroup | head -1)
systemctl --user show -p MemoryMax,TasksMax "$scope"
/opt/kirsch/bin/kirsch down >&2
systemctl --user is-active "$scope" || true
"""


def test_up_of_a_user_has_the_user_s_manager_limit_a_unit(trial: Trial):
    """A user who is not root, with a systemd manager of their own (systemd-run --user)."""
    machine = trial.machines[0]
    trial.shell(machine, "useradd --create-home ada")
    try:
        said = trial.shell(machine, f"su ada -c {shlex.quote(LIMITED_OF_A_USER)}").split()
    finally:
        trial.shell(machine, "loginctl terminate-user ada || true; userdel --force --remove ada 2>&1")
    assert said == [f"MemoryMax={100 << 20}", "TasksMax=7", "inactive"]
