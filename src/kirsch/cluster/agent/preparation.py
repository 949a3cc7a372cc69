"""Units made ready for their runtime: with addresses, what their links know of others, and secrets."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from kirsch.cluster.agent.allocation import Addresses
from kirsch.cluster.agent.plan import Assigned
from kirsch.cluster.model import Endpoint, links
from kirsch.cluster.network.names.records import DOMAIN
from kirsch.cluster.network.names.server import Names
from kirsch.cluster.runtime.base import Prepared
from kirsch.cluster.secrets import Secrets, variable
from kirsch.unit import Options, UnitFile, UnitName


class Preparation:
    """Additions of the cluster to units on one machine. `endpoints` is the path of the socket that tells who
    is ready; `names` answers for units' names, where that is done here."""

    def __init__(
        self, addresses: Addresses, secrets: Secrets, endpoints: str, names: Names | None = None
    ) -> None:
        self.addresses = addresses
        self.secrets = secrets
        self.endpoints = endpoints
        self.names = names
        # What a unit was prepared with: its own address, which values of its secrets, and what of its links
        # was ready.
        self._versions: dict[UnitName, tuple[str, tuple[float, ...]]] = {}
        self._linked: dict[UnitName, dict[str, Endpoint]] = {}

    def unaddressed(self, assigned: Mapping[UnitName, Assigned]) -> frozenset[UnitName]:
        """The units that have no address in the flat network yet, and are to have one."""
        flat = self.addresses.flat
        return frozenset(name for name, unit in assigned.items() if flat(name, unit.options) is None)

    def lacking(self, assigned: Mapping[UnitName, Assigned]) -> dict[UnitName, tuple[str, ...]]:
        """The secrets that units ask for and nobody has set."""
        lacking = {}
        for name, unit in assigned.items():
            if missing := self.secrets.missing(secret.name for secret in unit.options.secrets):
                lacking[name] = tuple(dict.fromkeys(missing))
        return lacking

    def outdated(
        self, assigned: Mapping[UnitName, Assigned], endpoints: Sequence[Endpoint]
    ) -> frozenset[UnitName]:
        """The units that were made ready with secrets that have changed since, before they had an address, or
        before what they are linked to was where it is now: a timer would start them like that. What is not
        ready any more is where it was until it is ready elsewhere."""
        return frozenset(
            name for name, unit in assigned.items() if self._is_outdated(name, unit.options, endpoints)
        )

    def _is_outdated(self, name: UnitName, options: Options, endpoints: Sequence[Endpoint]) -> bool:
        if name not in self._versions:
            # Whatever made it ready was an earlier kirschd.
            return bool(options.links or options.secrets)
        if self._versions[name] != self._version(name, options):
            return True
        known = self._linked[name]
        now = links.ready(options.links, endpoints)
        return any(known.get(which) != endpoint for which, endpoint in now.items())

    async def of(
        self, name: UnitName, assigned: Assigned, endpoints: Sequence[Endpoint], without: Collection[str]
    ) -> Prepared:
        """A unit of this machine. Raises as `prepare` does."""
        self._versions[name] = self._version(name, assigned.options)
        self._linked[name] = links.ready(assigned.options.links, endpoints)
        prepared = await self.prepare(name, assigned.file, assigned.options, endpoints, without)
        return replace(prepared, address=self.addresses.flat(name, assigned.options) or "")

    async def prepare(
        self,
        name: UnitName,
        file: UnitFile,
        options: Options,
        endpoints: Sequence[Endpoint],
        without: Collection[str] = (),
    ) -> Prepared:
        """A unit with all that the cluster adds to it here, but for secrets that it is to be `without`.

        Raises RegistryError, SecretError, OSError."""
        dns = self.names.address if self.names is not None and options.flat else ""
        environment = {
            "KIRSCH_UNIT": name.text,
            "KIRSCH_INSTANCE": name.instance or "",
            "KIRSCH_ADDRESS": await self.addresses.of(name, options),
            **links.variables(name, options.links, endpoints, DOMAIN if dns else ""),
        }
        credentials, secrets = {}, {}
        for secret in options.secrets:
            if secret.name in without:
                continue
            value, login = await self.secrets.get(secret.name), self.secrets.login(secret.name)
            if login:
                environment |= login.variables(environment, secret.env or "")
            if secret.env:
                secrets[secret.env] = variable(secret.name, value)
            else:
                credentials[secret.name] = value
        hosts = links.hosts(options.links, endpoints)
        socket = self.endpoints if options.endpoints else ""
        return Prepared(
            name, file, environment, credentials, hosts=hosts, dns=dns, secrets=secrets, endpoints=socket
        )

    def forget(self, name: UnitName) -> None:
        """The unit is not loaded any more."""
        self._versions.pop(name, None)
        self._linked.pop(name, None)

    def _version(self, name: UnitName, options: Options) -> tuple[str, tuple[float, ...]]:
        secrets = tuple(self.secrets.version(secret.name) for secret in options.secrets)
        return self.addresses.flat(name, options) or "", secrets
