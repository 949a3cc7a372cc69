"""Secrets on real machines: units have them, and nothing that shows anything of units shows them."""

import json
import subprocess
from collections.abc import Callable, Iterator

import pytest
from tests.machines import tiny
from tests.machines.trial import KIRSCH, Trial, eventually, podman

pytestmark = [pytest.mark.machines, pytest.mark.slow]

# In each of them something that a shell, systemd or podman might take for its own.
WORD = 'w0rd-$HOME-"%n"-`id`-\\x'
FILE = "first line\n\xff\x00second: w0rd-file\n".encode("latin-1")
# It ends on SIGTERM, as the first process of a container too.
SCRIPT = "trap exit TERM; sleep 10000 & wait"
# All that a machine shows of its units, and all that it keeps.
SHOWN = """
systemctl show '*' 2>/dev/null
systemctl cat 'sealed*' 2>/dev/null
journalctl --no-pager -o export
podman ps --all --format json
podman inspect $(podman ps --all --quiet) 2>/dev/null
podman secret ls; podman secret inspect $(podman secret ls --quiet) 2>/dev/null
cat /proc/[0-9]*/cmdline | tr '\\0' ' '
cat /run/systemd/system/*/50-kirsch.conf /run/containers/systemd/*/50-kirsch.conf 2>/dev/null
cat /var/lib/containers/storage/secrets/* 2>/dev/null
"""


@pytest.fixture
def secret(trial: Trial) -> Iterator[Callable[..., str]]:
    """Sets a secret; all are removed in the end."""
    names: list[str] = []

    def set_(name: str, value: bytes, *more: str) -> str:
        names.append(name)
        done = subprocess.run(
            [KIRSCH, "--cluster", trial.record.name, "secret", "set", name, *more],
            input=value, capture_output=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    yield set_
    for name in dict.fromkeys(names):
        trial.kirsch("secret", "rm", "--force", name, check=False)


@pytest.fixture
def here(trial: Trial) -> Iterator[str]:
    """The options of a unit of the first machine, which has a small image; its units go in the end."""
    first = trial.machines[0]
    tiny.make(trial, [first])
    yield f"[X-Kirsch]\nMachineID={first.id}\n"
    names = [name for name in trial.lines() if name.startswith("sealed")]
    if names:
        trial.kirsch("destroy", *names)
    eventually(lambda: not [name for name in trial.lines() if name.startswith("sealed")])


def test_units_have_secrets_that_nothing_shows(trial: Trial, here: str, secret):
    first = trial.machines[0]
    asks = f"{here}Secret=trial.word:WORD trial.file\n"
    service = f"[Service]\nExecStart=/bin/sh -c '{SCRIPT}'\nUser=nobody\n{asks}"
    container = f'[Container]\nImage={tiny.IMAGE}\nPull=never\nUser=65534\nExec=sh -c "{SCRIPT}"\n{asks}'
    for name, text in (("sealed.service", service), ("sealed-box.container", container)):
        trial.submit(name, text)
        trial.kirsch("start", "--no-block", name)
    missing = "waits for secrets trial.word, trial.file: kirsch secret set trial.word < FILE"
    eventually(lambda: trial.kirsch("why", "sealed", "sealed-box").out.count(missing) == 2)
    secret("trial.word", WORD.encode() + b"\n")
    secret("trial.file", FILE)
    names = ("sealed.service", "sealed-box.container")
    trial.until(lambda lines: all(lines.get(name, {}).get("active") == "active" for name in names))

    # They have them, as another user than root.
    pid = trial.shell(first, "systemctl show -p MainPID --value sealed").strip()
    assert f"WORD={WORD}" in trial.shell(first, f"tr '\\0' '\\n' </proc/{pid}/environ").splitlines()
    credential = subprocess.run(
        ["podman", "--runtime", "runc", "exec", first.container, "nsenter", "-t", pid, "-m", "-S", "65534",
         "cat", "/run/credentials/sealed.service/trial.file"], capture_output=True, timeout=60,
    ).stdout  # fmt: skip
    assert credential == FILE
    box = ("exec", first.container, "podman", "exec", "systemd-sealed-box")
    assert f"WORD={WORD}" in podman(*box, "env").stdout.splitlines()
    shown = subprocess.run(
        ["podman", "--runtime", "runc", *box, "cat", "/run/secrets/trial.file"],
        capture_output=True, timeout=60,
    ).stdout  # fmt: skip
    assert shown == FILE

    # Nothing that shows them, on their machine or another; no answer; not the store.
    for machine in trial.machines:
        assert trial.shell(machine, f"({SHOWN}) | grep -aE 'w[0]rd' | cut -c-300") == ""
    assert trial.shell(first, f"({SHOWN}) | grep -acF sealed-box") != "0\n", (
        "the test looks in the wrong places"
    )
    for path in ("units", "units/sealed.service", "units/sealed-box.container", "secrets", "endpoints"):
        assert "w0rd" not in json.dumps(trial.client.get(f"/kirsch/v1/{path}")), path
    verbs = (("status", *names), ("cat", *names), ("journal", *names), ("why", *names), ("secret", "list"))
    for verb in verbs:
        assert "w0rd" not in trial.kirsch(*verb).out, verb
    # Files that have them are root's, and in memory; but for a container's variables with podman.
    kept = trial.shell(first, "grep -rlaE 'w[0]rd' /run /etc /var/lib /var/log || :").split()
    folders = (
        "/run/kirsch/units/sealed",
        "/run/credentials/",
        "/var/lib/containers/storage/overlay-containers/",
    )
    assert all(path.startswith(folders) for path in kept), kept
    assert len(kept) > 3
    assert (
        trial.shell(
            first, "stat -c %a /run/kirsch/units /var/lib/containers/storage/overlay-containers"
        ).split()
        == ["700"] * 2
    )
    assert trial.shell(first, "stat -f -c %T /run/kirsch/units").strip() == "tmpfs"

    # A stopped unit leaves nothing at podman, a destroyed one nothing at all.
    trial.kirsch("stop", *names)
    assert trial.shell(first, "podman secret ls --quiet").strip() == ""
    trial.kirsch("destroy", *names)
    search = "grep -rlaE 'w[0]rd' /run /etc /var/lib /var/log || :"
    eventually(lambda: trial.shell(first, search).strip() == "")


# As podman has a secret of a unit's, by a file that went with the machine's power; and one of somebody else.
LEFT = """
drive='--driver=shell --driver-opts=list=true --driver-opts=delete=true'
echo . | podman secret create $drive --driver-opts='store=cat >/dev/null' \
    --driver-opts='lookup=cat /run/kirsch/units/gone@1.container.secrets/=WORD' kirsch-gone-1-container-0 -
echo mine | podman secret create kirsch-of-a-person -
systemctl restart kirschd
"""


def test_what_a_loss_of_power_left_at_podman_is_removed(trial: Trial, here: str, secret):
    first = trial.machines[0]
    secret("trial.word", b"one")
    box = f"[Container]\nImage={tiny.IMAGE}\nPull=never\nExec=sleep 1000\n{here}Secret=trial.word:WORD\n"
    trial.submit("sealed.container", box)
    trial.kirsch("start", "sealed")

    def there() -> list[str]:
        return sorted(trial.shell(first, "podman secret ls --format '{{.Name}}'").split())

    before = there()
    assert len(before) == 1
    try:
        trial.shell(first, LEFT)
        eventually(lambda: "kirsch-gone-1-container-0" not in there())
        # What a unit that runs has stays, and what others have.
        assert there() == sorted([*before, "kirsch-of-a-person"])
    finally:
        trial.shell(first, "podman secret rm kirsch-of-a-person")
    trial.until_present()


@pytest.mark.soak
def test_a_new_value_comes_with_a_restart(trial: Trial, here: str, secret):
    first = trial.machines[0]
    secret("trial.word", b"one")
    container = (
        f'[Container]\nImage={tiny.IMAGE}\nPull=never\nExec=sh -c "{SCRIPT}"\n{here}Secret=trial.word:WORD\n'
    )
    trial.submit("sealed.container", container)
    trial.kirsch("start", "sealed")

    def word() -> str:
        environment = podman("exec", first.container, "podman", "exec", "systemd-sealed", "env", check=False)
        return environment.stdout.partition("WORD=")[2].partition("\n")[0]

    assert word() == "one"
    assert "Running units have the old value" in secret("trial.word", b"two", "--no-restart")
    assert word() == "one"
    assert "Restarted sealed.container" in secret("trial.word", b"three")
    assert word() == "three"


def test_the_key_is_each_machines_and_nobody_elses(trial: Trial):
    keys = {trial.shell(machine, "cat /etc/kirsch/secrets.key") for machine in trial.machines}
    assert len(keys) == 1
    for machine in trial.machines:
        assert trial.shell(machine, "stat -c '%a %U' /etc/kirsch/secrets.key").strip() == "600 root"
    [key] = keys
    for path in trial.record.folder.rglob("*"):
        assert not path.is_file() or key.strip().encode() not in path.read_bytes(), path


def test_a_machine_without_the_key_says_so(trial: Trial, here: str, secret):
    first = trial.machines[0]
    secret("trial.word", b"one")
    trial.shell(first, "mv /etc/kirsch/secrets.key /etc/kirsch/away.key")
    try:
        trial.submit(
            "sealed-key.service", f"[Service]\nExecStart=/bin/sleep 1000\n{here}Secret=trial.word:WORD\n"
        )
        trial.kirsch("start", "--no-block", "sealed-key")
        eventually(lambda: "this machine has no key for secrets" in trial.kirsch("why", "sealed-key").out)
    finally:
        trial.shell(first, "mv /etc/kirsch/away.key /etc/kirsch/secrets.key")
    trial.kirsch("start", "sealed-key")
