"""Names on three machines: who is answered for, by which machine, when, and by what."""

import json
from collections.abc import Iterator

import pytest
from tests.machines.tiny import IMAGE
from tests.machines.trial import Trial, eventually

from kirsch.cluster.provision.record import ClusterRecord, MachineRecord

pytestmark = [pytest.mark.machines, pytest.mark.slow]

BOX = f"[Container]\nImage={IMAGE}\nPull=never\nExec=sleep infinity\nStopTimeout=1\n"
# A question for the addresses of a name (RFC 1035, 4.1), and what is answered.
ASK = """
import json, socket, struct, sys
server, name = sys.argv[1:]
labels = b"".join(bytes([len(each)]) + each.encode() for each in name.split("."))
question = struct.pack(">HHHHHH", 7, 256, 1, 0, 0, 0) + labels + b"\\0" + struct.pack(">HH", 1, 1)
asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asker.settimeout(2)
try:
    asker.sendto(question, (server, 53))
    said = asker.recv(4096)
except OSError:
    print("null")
    sys.exit()
answers, at, found = struct.unpack(">H", said[6:8])[0], len(question), []
for _ in range(answers):
    at += 2  # a pointer to the question's name
    kind, _, _, length = struct.unpack(">HHIH", said[at:at + 10])
    if kind == 1:
        found.append(socket.inet_ntoa(said[at + 10:at + 14]))
    at += 10 + length
print(json.dumps(sorted(found)))
"""


def gateway(trial: Trial, machine: MachineRecord) -> str:
    """The machine's own address in the flat network."""
    return trial.shell(machine, "sed -n s/^listen-address=//p /run/kirsch/names/dnsmasq.conf").strip()


def ask(trial: Trial, machine: MachineRecord, name: str, server: str = "") -> list[str] | None:
    """The addresses that a machine says a name has; None if it says nothing."""
    at = server or gateway(trial, machine)
    answer: list[str] | None = json.loads(
        trial.shell(machine, f"/opt/kirsch/bin/python - {at} {name} <<'END'\n{ASK}\nEND")
    )
    return answer


NAMES = tuple(f"named@{number}.container" for number in range(3))


@pytest.fixture(scope="module")
def started(cluster: ClusterRecord, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Three instances of a container, one on each machine."""
    trial = Trial(cluster, tmp_path_factory.mktemp("names"))
    well = "HealthCmd=ls /bin/sh /tmp/well\nHealthInterval=1s\nHealthTimeout=30s\n"
    trial.submit("named@.container", f"{BOX}{well}[X-Kirsch]\nExpose=80\nSticky=yes\n")
    trial.kirsch("start", "--no-block", *NAMES)
    yield
    trial.kirsch("destroy", *NAMES, "named@.container")


@pytest.fixture
def instances(trial: Trial, started: None) -> dict[str, str]:
    """The addresses of the three, which run and are ready."""
    trial.kirsch("start", "--no-block", *NAMES)
    lines = trial.until(lambda lines: all(lines.get(name, {}).get("active") == "active" for name in NAMES))
    for name in NAMES:
        if not lines[name]["ready"]:
            trial.kirsch("exec", name, "sh", "-c", ": >/tmp/well")
    lines = trial.until(lambda lines: all(lines[name]["ready"] for name in NAMES))
    return {name: str(lines[name]["address"]) for name in NAMES}


def test_each_machine_answers_for_units_and_services_and_containers_ask_it(
    trial: Trial, instances: dict[str, str]
):
    everyone = sorted(instances.values())
    for machine in trial.machines:
        eventually(lambda machine=machine: ask(trial, machine, "named.kirsch.internal") == everyone)
        assert ask(trial, machine, "named-1.kirsch.internal") == [instances["named@1.container"]]
        assert ask(trial, machine, "named@2.container.kirsch.internal") == [instances["named@2.container"]]
        assert ask(trial, machine, "nobody.kirsch.internal") == []
    asks = "getent ahostsv4 named.kirsch.internal; echo; getent hosts named-0.kirsch.internal"
    for name in ("named@0.container", "named@1.container"):
        said, _, other = trial.kirsch("exec", name, "sh", "-c", asks).out.partition("\n\n")
        assert sorted({line.split()[0] for line in said.splitlines()}) == everyone
        assert other.split()[0] == instances["named@0.container"]


@pytest.mark.soak
def test_what_is_not_ready_has_no_name(trial: Trial, instances: dict[str, str]):
    sick, stopped, well = instances
    trial.kirsch("exec", sick, "rm", "/tmp/well")
    for machine in trial.machines:
        eventually(lambda machine=machine: ask(trial, machine, "named-0.kirsch.internal") == [])
        rest = sorted([instances[stopped], instances[well]])
        eventually(lambda machine=machine, rest=rest: ask(trial, machine, "named.kirsch.internal") == rest)
    trial.kirsch("stop", stopped)
    for machine in trial.machines:
        eventually(lambda machine=machine: ask(trial, machine, "named.kirsch.internal") == [instances[well]])
    trial.kirsch("exec", sick, "sh", "-c", ": >/tmp/well")
    for machine in trial.machines:
        eventually(
            lambda machine=machine: ask(trial, machine, "named-0.kirsch.internal") == [instances[sick]]
        )


@pytest.mark.soak
def test_names_are_answered_while_kirschd_is_not_there(trial: Trial, instances: dict[str, str]):
    first, everyone = trial.machines[0], sorted(instances.values())
    eventually(lambda: ask(trial, first, "named.kirsch.internal") == everyone)
    before = trial.running(first, "kirsch-names.service")
    trial.shell(first, "systemctl stop kirschd")
    try:
        assert ask(trial, first, "named.kirsch.internal") == everyone
    finally:
        trial.shell(first, "systemctl start kirschd")
    trial.until_present()
    trial.kirsch("stop", "named@2.container")
    rest = sorted({instances["named@0.container"], instances["named@1.container"]})
    eventually(lambda: ask(trial, first, "named.kirsch.internal") == rest)
    # The next kirschd took it up as it was.
    assert trial.running(first, "kirsch-names.service") == before


@pytest.mark.soak
def test_what_ends_dnsmasq_does_not_end_names(trial: Trial, instances: dict[str, str]):
    first, everyone = trial.machines[0], sorted(instances.values())
    before = trial.running(first, "kirsch-names.service")
    trial.shell(first, "systemctl kill --signal=KILL kirsch-names")
    eventually(lambda: trial.running(first, "kirsch-names.service") not in ({}, before))
    eventually(lambda: ask(trial, first, "named.kirsch.internal") == everyone)
    # Who stops it has it again a moment later.
    trial.shell(first, "systemctl stop kirsch-names")
    trial.kirsch("stop", "named@1.container")
    rest = sorted(at for name, at in instances.items() if name != "named@1.container")
    eventually(lambda: ask(trial, first, "named.kirsch.internal") == rest)


# As the kernel refuses where the limit of inotify's instances is reached.
NO_INOTIFY = "[Service]\nSystemCallFilter=~inotify_init inotify_init1\nSystemCallErrorNumber=EMFILE\n"


@pytest.mark.soak
def test_a_dnsmasq_that_cannot_start_is_told_and_systemd_tries_on(trial: Trial, instances: dict[str, str]):
    first, everyone = trial.machines[0], sorted(instances.values())
    folder = "/run/systemd/system/kirsch-names.service.d"
    trial.shell(first, f"mkdir -p {folder} && printf '{NO_INOTIFY}' >{folder}/trial.conf")
    words = "names below kirsch.internal are not answered: failed to create inotify: Too many open files: "
    try:
        trial.shell(first, "systemctl daemon-reload && systemctl kill --signal=KILL kirsch-names")
        eventually(lambda: words in trial.kirsch("list-machines").out)
        line = next(x for x in trial.kirsch("list-machines", "--full").out.splitlines() if words in x)
        assert line.startswith(first.id)
        assert "`sysctl fs.inotify.max_user_instances=" in line
        assert any(words in text for _, text in trial.journal(first, "kirschd"))
    finally:
        trial.shell(first, f"rm -r {folder} && systemctl daemon-reload")
    eventually(lambda: "kirsch.internal" not in trial.kirsch("list-machines").out)
    assert ask(trial, first, "named.kirsch.internal") == everyone


@pytest.mark.soak
def test_other_names_are_asked_of_the_machines_own_resolvers(trial: Trial, image: str):
    first = trial.machines[0]
    before = trial.shell(first, "cat /etc/resolv.conf")
    upstream = (
        "systemd-run --quiet --unit=trial-resolver dnsmasq --keep-in-foreground --conf-file=/dev/null "
        "--no-resolv --no-hosts --bind-interfaces --listen-address=127.0.0.77 --pid-file= "
        "--address=/elsewhere.example/192.0.2.7"
    )
    trial.shell(first, upstream)
    try:
        trial.shell(first, "echo nameserver 127.0.0.77 >/etc/resolv.conf")
        # podman has mounted that file over another, so that nobody is told of the change, as on a host.
        trial.shell(first, "systemctl restart kirsch-names")
        eventually(lambda: ask(trial, first, "elsewhere.example") == ["192.0.2.7"])
        box = f"podman run --rm --network=kirsch --dns={gateway(trial, first)} {IMAGE}"
        assert "192.0.2.7" in trial.shell(first, f"{box} getent hosts elsewhere.example")
    finally:
        restore = f"cat >/etc/resolv.conf <<'END'\n{before}END\n"
        trial.shell(first, f"{restore}systemctl stop trial-resolver; systemctl restart kirsch-names")


@pytest.mark.soak
def test_a_machine_without_dnsmasq_says_so(trial: Trial, image: str):
    third = trial.machines[2]
    there = trial.shell(third, "command -v dnsmasq").strip()
    kept = trial.running(third, "kirsch-names.service")
    trial.shell(third, f"mv {there} {there}.away; systemctl restart kirschd")
    try:
        trial.until_present()
        words = "dnsmasq is not installed (apt-get install dnsmasq-base)"
        eventually(lambda: words in trial.kirsch("list-machines").out)
        line = next(x for x in trial.kirsch("list-machines", "--full").out.splitlines() if words in x)
        assert line.startswith(third.id)
        # A container there asks whom the machine asks.
        trial.submit("nameless.container", f"{BOX}[X-Kirsch]\nMachineID={third.id}\n")
        trial.kirsch("start", "nameless.container")
        told = trial.kirsch("exec", "nameless.container", "cat", "/etc/resolv.conf").out
        assert gateway(trial, third) not in told.split()
        trial.kirsch("destroy", "nameless.container")
    finally:
        trial.shell(third, f"mv {there}.away {there}")
    eventually(lambda: "dnsmasq" not in trial.kirsch("list-machines").out)
    assert kept
