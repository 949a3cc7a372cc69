"""Links on three machines: variables and hosts, who waits for whom, what happens when a target moves."""

import json
from collections.abc import Callable, Iterator

import pytest
from tests.machines.tiny import IMAGE
from tests.machines.trial import Trial, eventually

from kirsch.cluster.provision.record import MachineRecord

pytestmark = [pytest.mark.machines, pytest.mark.slow]

SLEEP = "[Service]\nExecStart=/bin/sleep infinity\n"
# As the first process of a container sleep would not end when it is asked to.
BOX = f"[Container]\nImage={IMAGE}\nPull=never\nExec=sleep infinity\nStopTimeout=1\n"

Submit = Callable[..., str]


@pytest.fixture
def unit(trial: Trial, image: str) -> Iterator[Submit]:
    """Submits a unit, pinned to a machine if one is named; destroys all of them in the end."""
    names: list[str] = []

    def submit(name: str, text: str, *options: str, on: MachineRecord | None = None) -> str:
        pinned = [f"MachineID={on.id}"] if on else []
        trial.submit(name, text + "\n".join(["[X-Kirsch]", *pinned, *options, ""]))
        names.append(name)
        return name

    yield submit
    if names:
        trial.kirsch("destroy", *reversed(names))


def hosts(trial: Trial, name: str, *wanted: str) -> dict[str, str]:
    """The addresses that names lead to, for the processes of a running unit."""
    found = {}
    for each in wanted:
        if name.endswith(".container"):
            said = trial.kirsch("exec", name, "getent", "hosts", each).out
        else:
            there = trial.machine_of(name)
            pid = trial.shell(there, f"systemctl show -p MainPID --value {name}").strip()
            said = trial.shell(there, f"nsenter -t {pid} -m getent hosts {each}")
        found[each] = said.split()[0]
    return found


def variables(trial: Trial, name: str) -> dict[str, str]:
    said = trial.kirsch("exec", name, "env").out
    return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)


def endpoint(trial: Trial, name: str) -> dict[str, object]:
    """Where a unit serves."""
    found = trial.client.get("/kirsch/v1/endpoints")["endpoints"]
    return next((each for each in found if each["unit"] == name), {})


def invocations(trial: Trial, *names: str) -> dict[str, str]:
    """Which run of each unit is the one that runs."""
    shown = {}
    for name in names:
        service = name.replace(".container", ".service")
        shown[name] = trial.running(trial.machine_of(name), service)[service].invocation
    return shown


@pytest.mark.soak
def test_a_container_that_moves_takes_its_address_along_and_nobody_starts_anew(trial: Trial, unit: Submit):
    first, second, third = trial.machines
    unit(
        "linkdb.container",
        BOX,
        "Expose=5432",
        f'MachineMetadata="hostname={first.name}" "hostname={second.name}"',
    )
    unit("linkuser.container", BOX, "Link=linkdb:postgres", on=third)
    unit("linkplain.service", SLEEP, "Link=linkdb:postgres", on=third)
    users = ("linkuser.container", "linkplain.service")
    trial.kirsch("start", "linkdb.container", *users)
    address = str(endpoint(trial, "linkdb.container")["address"])
    assert address.startswith("10.210.")
    for name in users:
        assert hosts(trial, name, "postgres", "linkdb") == {"postgres": address, "linkdb": address}
        found = variables(trial, name)
        assert found["POSTGRES_PORT"] == f"tcp://{address}:5432"
        assert found["POSTGRES_NAME"] == f"/{name}/postgres"
    before = invocations(trial, *users)
    source = trial.machine_of("linkdb.container")
    target = second if source is first else first
    trial.kirsch("move", "linkdb.container", target.name)
    trial.until(
        lambda lines: lines["linkdb.container"]["machine"] == target.id and lines["linkdb.container"]["ready"]
    )
    assert endpoint(trial, "linkdb.container")["address"] == address
    assert invocations(trial, *users) == before


def test_who_uses_a_service_that_moved_starts_anew_unless_it_says_not_to(trial: Trial, unit: Submit):
    third = trial.machines[2]
    unit("linkdb.service", SLEEP, "Expose=5432")
    unit("linkuser.container", BOX, "Link=linkdb:postgres", on=third)
    unit("linkplain.service", SLEEP, "Link=linkdb:postgres", on=third)
    unit("linkdeaf.service", SLEEP, "Link=linkdb:postgres", "LinkUpdate=ignore", on=third)
    users = ("linkuser.container", "linkplain.service")
    trial.kirsch("start", "linkdb.service", *users, "linkdeaf.service")
    source = trial.machine_of("linkdb.service")
    for name in users:
        assert hosts(trial, name, "postgres")["postgres"] == source.address
    before = invocations(trial, *users, "linkdeaf.service")
    target = next(machine for machine in trial.machines if machine is not source)
    trial.kirsch("move", "linkdb.service", target.name)

    def moved() -> bool:
        now = invocations(trial, *users)
        return all(now[name] != before[name] for name in users)

    eventually(lambda: all(trial.lines()[name]["ready"] for name in users) and moved())
    for name in users:
        assert hosts(trial, name, "postgres") == {"postgres": target.address}
        assert variables(trial, name)["POSTGRES_PORT_5432_TCP_ADDR"] == target.address
    after = invocations(trial, *users, "linkdeaf.service")
    assert after["linkdeaf.service"] == before["linkdeaf.service"]
    # Once, not again and again.
    assert invocations(trial, *users) == {name: after[name] for name in users}


def test_what_a_timer_starts_has_the_address_of_now(trial: Trial, unit: Submit):
    third = trial.machines[2]
    unit("linkdb.service", SLEEP, "Expose=5432")
    says = "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo at $POSTGRES_PORT_5432_TCP_ADDR'\n"
    unit("linktimed.service", says, "Link=linkdb:postgres", on=third)
    trial.kirsch("start", "linkdb.service")
    trial.until(lambda lines: lines["linkdb.service"]["ready"])
    trial.kirsch("load", "linktimed.service")

    def said() -> str:
        # As a timer does: kirsch is not asked.
        trial.shell(third, "systemctl start linktimed.service", check=False)
        return trial.shell(third, "journalctl -o cat -u linktimed.service | grep '^at ' | tail -n 1").strip()

    source = trial.machine_of("linkdb.service")
    eventually(lambda: said() == f"at {source.address}")
    target = next(machine for machine in trial.machines if machine is not source)
    trial.kirsch("move", "linkdb.service", target.name)
    eventually(lambda: said() == f"at {target.address}")


def test_a_unit_waits_for_what_is_not_there_and_starts_once_it_is(trial: Trial, unit: Submit):
    first, second, _ = trial.machines
    unit("linkuser.service", SLEEP, "Link=linklater:late", on=first)
    trial.kirsch("start", "--no-block", "linkuser.service")
    trial.until(lambda lines: lines.get("linkuser.service", {}).get("reasons"))
    said = trial.kirsch("why", "linkuser.service").out
    assert "waits for linklater to be ready" in said
    assert "there is no unit linklater" in said
    unit("linklater.service", SLEEP, on=second)
    trial.kirsch("start", "linklater.service")
    trial.until(lambda lines: lines["linkuser.service"]["ready"])
    assert hosts(trial, "linkuser.service", "late") == {"late": second.address}


def test_a_circle_of_links_is_refused_and_nothing_of_it_is_there(trial: Trial):
    paths = [
        trial.write("linka.service", f"{SLEEP}[X-Kirsch]\nLink=linkb\n"),
        trial.write("linkb.service", f"{SLEEP}[X-Kirsch]\nLink=linka\n"),
    ]
    said = trial.kirsch("submit", *paths, check=False)
    assert said.status == 1
    assert "links go in a circle: linka.service -> linkb.service -> linka.service" in said.err
    assert not {"linka.service", "linkb.service"} & trial.lines().keys()


@pytest.mark.soak
def test_a_port_is_published_once_a_machine(trial: Trial, unit: Submit):
    first = trial.machines[0]
    published = BOX + "PublishPort=18099:80\n"
    unit("linkport@1.container", published, on=first)
    unit("linkport@2.container", published, on=first)
    unit("linkport@3.container", published)
    trial.kirsch("start", "linkport@1.container", "linkport@3.container")
    assert trial.machine_of("linkport@3.container") is not first
    trial.kirsch("start", "--no-block", "linkport@2.container")
    trial.until(lambda lines: lines.get("linkport@2.container", {}).get("reasons"))
    said = trial.kirsch("why", "linkport@2.container").out
    assert "linkport@1.container publishes port 18099/tcp there" in said
    trial.kirsch("stop", "linkport@1.container")
    trial.kirsch("unload", "linkport@1.container")
    trial.until(lambda lines: lines["linkport@2.container"]["ready"])


@pytest.mark.parametrize(
    "health", ["HealthCmd=test -e /tmp/well\nHealthInterval=500ms", "HealthCmd=CMD ls /tmp/well"]
)
def test_a_health_command_makes_a_container_ready_and_not_ready(trial: Trial, unit: Submit, health: str):
    first, second, _ = trial.machines
    unit("linkwell.container", f"{BOX}{health}\n", "Expose=80", on=first)
    unit("linkuser.service", SLEEP, "Link=linkwell", on=second)
    trial.kirsch("start", "--no-block", "linkwell.container", "linkuser.service")
    trial.until(lambda lines: lines.get("linkwell.container", {}).get("active") == "active")
    waits = "waits for linkwell to be ready"
    trial.until(lambda lines: waits in lines.get("linkuser.service", {}).get("reasons", ()))
    assert endpoint(trial, "linkwell.container")["ready"] is False
    trial.kirsch("exec", "linkwell.container", "sh", "-c", ": >/tmp/well")
    trial.until(lambda lines: lines["linkwell.container"]["ready"] and lines["linkuser.service"]["ready"])
    trial.kirsch("exec", "linkwell.container", "sh", "-c", "rm /tmp/well")
    trial.until(lambda lines: not lines["linkwell.container"]["ready"])
    assert endpoint(trial, "linkwell.container")["ready"] is False
    said = trial.kirsch("why", "linkwell.container").out
    assert "says it is not ready" in said
    # Whoever starts now waits; who runs runs on.
    trial.kirsch("restart", "--no-block", "linkuser.service")
    trial.until(lambda lines: waits in lines["linkuser.service"]["reasons"])


@pytest.mark.soak
def test_an_image_that_cannot_be_fetched_is_told_in_podmans_words(trial: Trial, unit: Submit):
    first = trial.machines[0]
    nobody = "[Container]\nImage=127.0.0.1:1/none:1\n[Service]\n"
    unit("linkgone.container", f"{nobody}Restart=no\n", on=first)
    said = trial.kirsch("start", "linkgone.container", check=False)
    assert said.status == 1
    assert "podman: " in said.err
    assert "connection refused" in said.err
    assert len(said.err.splitlines()) == 1
    line = trial.lines()["linkgone.container"]
    assert (line["active"], line["result"]) == ("failed", "exit-code")
    why = trial.kirsch("why", "linkgone.container").out
    assert why.startswith("linkgone.container: podman: ")
    assert len(why.splitlines()) == 1
    # It is tried again as its file says.
    unit("linkagain.container", f"{nobody}Restart=always\nRestartSec=500ms\n", on=first)
    trial.kirsch("start", "--no-block", "linkagain.container")
    lines = trial.until(lambda lines: lines.get("linkagain.container", {}).get("restarts", 0) >= 2)
    assert "connection refused" in lines["linkagain.container"]["message"], lines["linkagain.container"]
    trial.kirsch("stop", "linkagain.container", "linkgone.container")
    left = trial.shell(first, "podman ps --all --format json")
    assert not [each for each in json.loads(left) if "none" in each["Image"]]


def test_an_image_that_comes_later_is_run_then(trial: Trial, unit: Submit):
    first = trial.machines[0]
    later = "localhost/later:1"
    text = BOX.replace(IMAGE, later) + "[Service]\nRestart=always\nRestartSec=500ms\n"
    unit("linkawaits.container", text, on=first)
    trial.kirsch("start", "--no-block", "linkawaits.container")
    trial.until(lambda lines: "podman: " in lines.get("linkawaits.container", {}).get("message", ""))
    trial.shell(first, f"podman tag {IMAGE} {later}")
    try:
        trial.until(lambda lines: lines["linkawaits.container"]["ready"])
        assert trial.lines()["linkawaits.container"]["reasons"] == []
    finally:
        trial.kirsch("stop", "linkawaits.container")
        trial.shell(first, f"podman untag {later}")
