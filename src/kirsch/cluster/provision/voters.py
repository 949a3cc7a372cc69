"""Machines that keep the registry: etcd's voters, one, three or five, spread over zones.

One that is lost is replaced by another: it leaves etcd, the other joins as a learner and is promoted once it
has all data. At any moment the voters that there are have a quorum.
"""

import json
import shlex
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from kirsch.cluster.api.client import ClientError
from kirsch.cluster.model import keys
from kirsch.cluster.provision import install
from kirsch.cluster.provision.account import ETCDCTL, database_accounts, on_a_member
from kirsch.cluster.provision.archive import archive
from kirsch.cluster.provision.command import Runner
from kirsch.cluster.provision.endpoint import connected
from kirsch.cluster.provision.keyring import load_authority
from kirsch.cluster.provision.power import until_well
from kirsch.cluster.provision.record import ClusterRecord, MachineRecord, ProvisionError, etcd_url
from kirsch.cluster.provision.registry import registry_machine
from kirsch.cluster.provision.settings import (
    ETCD_DATA,
    ETCD_UNIT,
    FOLDER,
    PRIVATE_FOLDERS,
    etcd_files,
    etcd_setting,
    peer_url,
)
from kirsch.cluster.provision.shell import act, shell_of
from kirsch.cluster.provision.steps import Show, Step, perform

ZONE = "zone"
# Seconds until etcd takes a change of its members after another one, and until a learner has all data.
PATIENCE = 60.0
# Beside kirschd's settings, while it has to restart for them.
RESTART_MARK = ".restart"
# Fails where no etcd can be started.
INSTALLED = f"test -e /usr/lib/systemd/system/{ETCD_UNIT} -o -e /lib/systemd/system/{ETCD_UNIT}"


def recommended(machines: int) -> int:
    """Return the number of voters for so many machines: three survive the loss of one, five of two, and two
    are worse than one. Pure."""
    return 1 if machines < 3 else 3 if machines < 7 else 5


def choose(machines: Sequence[MachineRecord], count: int, now: Collection[str] = ()) -> tuple[str, ...]:
    """Return the machines that are to keep etcd: an odd number, `count` at most, from as many zones as there
    are. Of machines that serve equally well those that keep it `now` go on. Pure."""
    count = min(count, len(machines))
    count -= 1 - count % 2
    chosen: list[MachineRecord] = []
    zones: Counter[str] = Counter()
    while len(chosen) < count:
        left = [machine for machine in machines if machine not in chosen]
        best = min(left, key=lambda machine: (zones[_zone(machine)], machine.name not in now))
        chosen.append(best)
        zones[_zone(best)] += 1
    return tuple(machine.name for machine in machines if machine in chosen)


def _zone(machine: MachineRecord) -> str:
    """Return a machine's zone; one without is a zone of its own."""
    return machine.metadata.get(ZONE, f"/{machine.name}")


@dataclass(frozen=True, slots=True)
class Member:
    """A member as etcd lists it; `name` is its machine's."""

    name: str
    id: str  # as etcdctl takes it
    learner: bool


def with_members(record: ClusterRecord, names: Collection[str]) -> ClusterRecord:
    """Return the record with these machines as those that keep etcd; the images stay where they are. Pure."""
    machines = tuple(replace(machine, etcd=machine.name in names) for machine in record.machines)
    return replace(record, machines=machines, keeper=record.keeper or registry_machine(record).name)


def learn_members(record: ClusterRecord) -> ClusterRecord:
    """Return the record after a look at who keeps etcd: a machine takes a lost one's place by itself. It
    stays as it was where no kirschd answers."""
    try:
        with connected(record.name) as client:
            urls = {member["url"] for member in client.get("/kirsch/v1/store")["members"]}
    except (ClientError, ProvisionError):
        return record
    names = {machine.name for machine in record.machines if etcd_url(machine) in urls}
    if len(names) < len(urls) or names == {machine.name for machine in record.members}:
        return record
    return ClusterRecord.change(record.name, lambda known: with_members(known, names))


def change_members(folder: str, line: str) -> str:
    """Return a script that sets kirschd's line about etcd, and prints "changed" until the mark is removed. It
    is removed once kirschd is well, so that a change that ended before is taken up by the next one. Pure."""
    file, mark = f"{folder}/kirschd.toml", f"{folder}/{RESTART_MARK}"
    known = f"grep --quiet --line-regexp --fixed-strings {shlex.quote(line)} {file}"
    change = f"touch {mark} && sed -i {shlex.quote(f's|^etcd = .*|{line}|')} {file}"
    return f"{known} || {{ {change}; }} && if test -e {mark}; then echo changed; fi"


def parse_members(text: str, names: Mapping[str, str]) -> list[Member]:
    """Read `etcdctl member list --write-out=json`; `names` are machines by URL for peers, for a member has no
    name before it has started. Pure."""
    found = []
    for each in json.loads(text)["members"]:
        id = f"{each['ID']:x}"
        name = names.get(each["peerURLs"][0]) or each.get("name") or id
        found.append(Member(name, id, each.get("isLearner", False)))
    return found


@dataclass(slots=True)
class Voters:
    """A change of the machines that keep etcd: `leaving` are not to keep it any more, `count` is how many are
    to."""

    record: ClusterRecord
    leaving: Collection[str] = ()
    count: int = 0
    runner: Runner = field(default_factory=Runner)
    wanted: tuple[str, ...] = ()

    def prepare(self) -> list[Step]:
        """Ask etcd who its members are, choose, and return the steps; each can be done again. Raises
        ProvisionError."""
        machines = self.record.machines
        for name in self.leaving:
            self.record.machine(name)
        members = self._members()
        now = [member.name for member in members if not member.learner]
        able = [m for m in machines if m.name not in self.leaving and (m.name in now or self._able(m))]
        if not able:
            raise ProvisionError("no other machine can keep etcd: all are away, or have no etcd")
        count = self.count or max(len(self.record.members), recommended(len(machines)))
        self.wanted = choose(able, min(count, 5), now)
        if self.count and len(self.wanted) < self.count:
            raise ProvisionError(f"{len(able)} machines can keep etcd, not {self.count}")
        gone = [member.name for member in members if member.name not in self.wanted]
        answering = self._answering(gone)
        silent = [name for name in gone if name not in answering]
        # A lost member counts for the quorum until it is removed.
        steps = [Step(f"etcd without {name}", partial(self._remove, name)) for name in silent]
        steps += [
            Step(f"etcd of {name}", partial(self._add, name)) for name in self.wanted if name not in now
        ]
        steps.append(Step("etcd's members", self._tell))
        steps += [
            Step(f"etcd without {name}", partial(self._remove, name)) for name in gone if name not in silent
        ]
        return [*steps, Step("others", self._clear)]

    def perform(self, show: Show) -> None:
        """Do all steps. Raises ProvisionError; done again it goes on."""
        perform(self.prepare(), show, "what was done stays done: do it again")

    @property
    def accounts(self) -> list[str]:
        """Databases that know the members by their account."""
        return database_accounts(ClusterRecord.load(self.record.name), self.runner)

    def _members(self) -> list[Member]:
        names = {peer_url(machine): machine.name for machine in self.record.machines}
        shown = on_a_member(self._keepers(), self.runner, f"{ETCDCTL} member list --write-out=json")
        return parse_members(shown, names)

    def _answering(self, names: Collection[str]) -> list[str]:
        """Return those of some machines whose etcd runs."""
        found = []
        for name in names:
            try:
                self._act(self.record.machine(name), f"systemctl is-active --quiet {ETCD_UNIT}")
                found.append(name)
            except ProvisionError:
                self.runner.check()
        return found

    def _able(self, machine: MachineRecord) -> bool:
        try:
            self._act(machine, INSTALLED)
        except ProvisionError:
            self.runner.check()
            return False
        return True

    def _remove(self, name: str) -> None:
        for member in self._members():
            if member.name == name:
                self._etcdctl(f"member remove {member.id}", but=name)

    def _add(self, name: str) -> None:
        """Have a machine join as a learner, and vote once it has all data."""
        machine = self.record.machine(name)
        known = {member.name for member in self._members()}
        if name not in known:
            # Of another time: etcd would take itself for the member that it was.
            self._act(machine, f"systemctl stop {ETCD_UNIT} 2>/dev/null; rm -rf {ETCD_DATA}")
            self._etcdctl(f"member add {name} --learner --peer-urls={peer_url(machine)}", but=name)
        joined = replace(
            self.record,
            machines=tuple(replace(m, etcd=m.name in {name, *known}) for m in self.record.machines),
        )
        files = etcd_files(joined, joined.machine(name), load_authority(self.record), joining=True)
        self._act(machine, install.UNPACK, archive(files, PRIVATE_FOLDERS))
        self._act(machine, install.start(ETCD_UNIT))
        for member in self._members():
            if member.name == name and member.learner:
                self._etcdctl(f"member promote {member.id}", but=name)

    def _tell(self) -> None:
        """Have every kirschd that is there know the members, one after another; this computer too."""
        after = ClusterRecord.change(self.record.name, lambda known: with_members(known, self.wanted))
        # What machines did by themselves is over: kirschds go by their settings.
        self._etcdctl(f"del {keys.VOTERS}", but="")
        script = change_members(FOLDER, etcd_setting(after.etcd))
        for machine in after.machines:
            if self._there(machine) and self._act(machine, script):
                self._act(machine, install.RESTART)
                until_well(after, [machine], self.runner)
                self._act(machine, f"rm -f {FOLDER}/{RESTART_MARK}")

    def _clear(self) -> None:
        """Remove etcd's data and the authority's key from machines that do not keep it."""
        for machine in self.record.machines:
            if machine.name not in self.wanted and self._there(machine):
                self._act(machine, install.WITHOUT_ETCD)

    def _there(self, machine: MachineRecord) -> bool:
        try:
            self._act(machine, "true")
        except ProvisionError:
            self.runner.check()
            return False
        return True

    def _etcdctl(self, words: str, but: str) -> None:
        """Change the members; etcd refuses while a member is new or has just been away."""
        asked, deadline = self._keepers(but), time.monotonic() + PATIENCE
        while True:
            try:
                on_a_member(asked, self.runner, f"{ETCDCTL} {words} >/dev/null")
                return
            except ProvisionError:
                self.runner.check()
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.5)

    def _keepers(self, but: str = "") -> ClusterRecord:
        """Return the record as if the machines that keep etcd, or are to, were all."""
        machines = [m for m in self.record.machines if (m.etcd or m.name in self.wanted) and m.name != but]
        return replace(self.record, machines=tuple(replace(machine, etcd=True) for machine in machines))

    def _act(self, machine: MachineRecord, script: str, given: bytes = b"") -> str:
        return act(self.runner, shell_of(self.record, machine), machine.name, script, given)
