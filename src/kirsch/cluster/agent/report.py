"""Report of a machine to the store: the states of its units, where they serve, and that it is there. Pure.

It is said anew at each change, of all units: what has not changed is not written out again.
"""

from dataclasses import replace
from functools import lru_cache

from kirsch.cluster.agent.plan import Assigned
from kirsch.cluster.agent.readiness import Condition
from kirsch.cluster.model import Assignment, Endpoint, Machine, UnitState, keys, links
from kirsch.cluster.runtime.base import RuntimeState
from kirsch.unit import UnitName

# The state of a unit that is about to be started, from when the store has it as this machine's.
STARTS = UnitState("loaded", "activating", "start", "")


def unit_state(state: RuntimeState, started: Assignment | None, hold: str, problem: str) -> UnitState:
    """Return the reported state of one unit. `started` is what it was last started for, None also until that
    is done: what the runtime says until then is about an earlier start."""
    if problem:
        state = replace(state, active="failed", sub="failed", result="resources", message=problem)
    elif state.load != "loaded" and state.active == "inactive" and started:
        # To systemd what cannot be loaded never failed; to who started it it did.
        state = replace(state, active="failed", sub="failed", result="resources")
    return UnitState(
        load=state.load,
        active=state.active,
        sub=state.sub,
        hash=state.hash,
        result=state.result,
        message=hold or state.message,
        pid=state.pid,
        restarts=state.restarts,
        since=state.since,
        order=started.order if started else -1,
    )


@lru_cache(maxsize=8192)
def text(state: UnitState) -> str:
    """Return the state as it is stored."""
    return state.to_json()


class Report:
    """The keys and values of one machine, put together anew each time."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.values: dict[str, str] = {}
        self._there = machine.to_json()
        self._endpoints: dict[UnitName, tuple[Assigned, str, Condition, str, str]] = {}

    def become(self, machine: Machine) -> None:
        """The machine is otherwise from now on; its id and address stay."""
        self.machine = machine
        self._there = machine.to_json()

    def begin(self) -> None:
        """Nothing is said yet."""
        self.values = {}

    def state(self, name: UnitName, state: UnitState) -> None:
        """Say how a unit is."""
        self.values[keys.state(name.text, self.machine.id)] = text(state)

    def endpoint(self, name: UnitName, assigned: Assigned, address: str, condition: Condition) -> None:
        """Say where a unit serves, and in which role."""
        known = self._endpoints.get(name)
        if known is None or known[0].file is not assigned.file or known[1:3] != (address, condition):
            endpoint = self._endpoint(name, assigned, address, condition)
            key = keys.endpoint(endpoint.service, name.text, endpoint.slot)
            self._endpoints[name] = known = (assigned, address, condition, key, endpoint.to_json())
        self.values[known[3]] = known[4]

    def mesh(self) -> None:
        """Say that the machine is in the flat network, and where."""
        self.values[keys.mesh(self.machine.id)] = self.machine.address

    def end(self) -> dict[str, str]:
        """All of it. That the machine is there comes last: what it runs is known before."""
        self.values[keys.machine(self.machine.id)] = self._there
        return self.values

    def forget(self, name: UnitName) -> None:
        """The unit is not loaded any more."""
        self._endpoints.pop(name, None)

    def _endpoint(self, name: UnitName, assigned: Assigned, address: str, condition: Condition) -> Endpoint:
        roles = assigned.options.roles
        return Endpoint(
            service=name.service,
            unit=name.text,
            slot=self.machine.id if assigned.options.is_global else keys.NO_SLOT,
            machine=self.machine.id,
            address=address,
            ports=assigned.options.expose,
            ready=condition.ready,
            env=links.exposed_environment(assigned.file, assigned.options),
            role=condition.role,
            leads=not roles or condition.role == roles[0].name,
        )
