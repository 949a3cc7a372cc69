"""The cluster that an application goes to: what it has now, and the plan carried out there."""

import base64
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urlsplit

from kirsch.cluster.api.client import UNITS, Client, ClientError, application_path, applied
from kirsch.cluster.application import Application
from kirsch.cluster.application.plan import Image, MakeAccount, Now, Plan, known_units
from kirsch.cluster.image.reference import ImageError, Reference
from kirsch.cluster.image.registry import Registry, of_cluster
from kirsch.cluster.image.registry_client import RegistryClient
from kirsch.cluster.image.transfer import distribute, push
from kirsch.cluster.model.cluster import bracketed
from kirsch.cluster.model.links import targets
from kirsch.cluster.provision.command import Runner
from kirsch.cluster.provision.endpoint import Where, transport_to
from kirsch.cluster.provision.record import ClusterRecord, published
from kirsch.cluster.provision.steps import Show
from kirsch.unit import Link, UnitName

SECRETS = "/kirsch/v1/secrets"


@dataclass(slots=True)
class Target:
    """A cluster of this computer, by its record. Every method raises ProvisionError, ClientError."""

    record: ClusterRecord
    client: Client
    runner: Runner = field(default_factory=Runner)

    @classmethod
    def load(cls, name: str) -> "Target":
        """The cluster of a name."""
        return cls(ClusterRecord.load(name), Client(transport_to(Where(cluster=name))))

    @property
    def registry(self) -> Registry:
        """The cluster's own image registry."""
        return of_cluster(self.record)

    def now(self, application: Application) -> Now:
        """Return the present state, as far as it matters to an application."""
        lines, known = self.client.get(UNITS)["units"], applied(self.client, application.name)
        return Now(
            self.registry.address,
            known_units(lines),
            frozenset(known["units"]),
            self.secrets(),
            known["scale"],
        )

    def secrets(self) -> frozenset[str]:
        """The names of those that are set; what units wait for is listed too, and is not."""
        return frozenset(each["name"] for each in self.client.get(SECRETS)["secrets"] if each["set"])

    def seen(self, images: Mapping[Reference, Image]) -> dict[Reference, Image]:
        """Images, with whether its registry has them."""
        if not images:
            return {}
        registry = self.registry
        with RegistryClient(registry) as client:
            return {
                name: replace(image, there=client.has(image.at(registry.address)))
                for name, image in images.items()
            }

    def carry_out(
        self, plan: Plan, show: Show, note: Mapping[str, Any] | None = None
    ) -> tuple[list[str], int | None]:
        """Do what a plan says, but for waiting: warnings, and the number of the release that does the rest,
        None where nothing would change. `note` goes with it into the request. Units are submitted last, all
        in one request, and nothing of them before all images are there."""
        for step in plan.pushes:
            # By its own name too: `kirsch run localhost/NAME COMMAND` is what people type.
            named = step.image.name.at(self.registry.address)
            sent = push(str(step.image.name), named, self.registry, self.runner, show)
            if step.target not in sent:
                raise ImageError(f"{step.image.name} was built anew meanwhile: say it again")
        warnings = self._spread([step.target for step in plan.pushes], show)
        for name in plan.secrets:
            self._make_secret(name)
        for account in plan.accounts:
            self._make_account(account)
        answer = self._put(plan, note or {})
        return [*warnings, *answer["warnings"]], answer["release"]

    def _make_secret(self, name: str) -> None:
        """At random. Somebody may have set it meanwhile, or we ourselves, and the answer was lost: then that
        is it."""
        # Imported here, for it brings asyncio and the registry, which nothing else of this needs.
        from kirsch.cluster.secrets import made_up

        value = base64.b64encode(made_up().encode()).decode()
        try:
            self.client.put(f"{SECRETS}/{quote(name, safe='')}", {"value": value, "replace": False})
        except ClientError as error:
            if error.status != 409 or name not in self.secrets():
                raise

    def _make_account(self, account: MakeAccount) -> None:
        """Make an account and store it as a secret; repeated, it makes new credentials."""
        # Another `up` may have made it since the plan, and a database may be running with it.
        if account.secret in self.secrets():
            return
        from kirsch.cluster.provision.account import make_account

        value = base64.b64encode(make_account(self.record, account.service, self.runner)).decode()
        self.client.put(f"{SECRETS}/{quote(account.secret, safe='')}", {"value": value, "replace": True})

    def _spread(self, images: list[Reference], show: Show) -> list[str]:
        if not images:
            return []
        began = time.monotonic()
        show.begun("images on all machines")
        left = distribute(self.record, images, self.runner)
        show.done("images on all machines", time.monotonic() - began)
        return [f"{machine} has not fetched the images yet: {reason}" for machine, reason in left.items()]

    def check(self, plan: Plan) -> list[str]:
        """Have refused what would be refused of a plan's units, before anything is done: warnings."""
        warnings: list[str] = self._put(plan, {}, "?check=yes")["warnings"]
        return warnings

    def _put(self, plan: Plan, note: Mapping[str, Any], query: str = "") -> Any:
        application = plan.application
        return self.client.put(
            application_path(application.name) + query,
            {
                # Instances take their template's text there.
                "units": {name: text for name, text in plan.units.items() if name in application.units},
                "files": dict(application.files),
                "start": list(plan.start),
                "release": dict(application.release),
                **note,
            },
        )

    def address(self, application: Application) -> str:
        """Return the address at which a person opens the application: the port of this computer that leads
        there, or else a machine's own address; empty if it says no address."""
        if not application.open:
            return ""
        return published(application.open, self.record.published) or _at_machine(
            application.open, self.record
        )

    def names(self) -> dict[str, str]:
        """Machines' names, by their ids."""
        return {machine.id: machine.name for machine in self.record.machines}


def _at_machine(address: str, record: ClusterRecord) -> str:
    url = urlsplit(address)
    port = f":{url.port}" if url.port else ""
    return url._replace(netloc=f"{bracketed(record.machines[0].address)}{port}").geturl()


def standing(lines: Iterable[Mapping[str, Any]], wanted: str) -> tuple[list[Mapping[str, Any]] | None, str]:
    """Return the standing of a unit whose text is to have the hash `wanted`, of its lines, one a machine: the
    lines that are not as they should be yet (None while nothing is known of that text), and why it never will
    be (empty if it may). Pure."""
    told = list(lines)
    if not told or any(line["hash"] != wanted for line in told):
        return None, ""
    for line in told:
        if line["active"] == "failed" and line["settled"]:
            return told, "failed: " + "; ".join(line["reasons"])
        if line["refused"]:
            return told, "cannot be scheduled: " + "; ".join(line["reasons"])
    return [line for line in told if not (line["settled"] and (line["finished"] or line["ready"]))], ""


def meanwhile(lines: Iterable[Mapping[str, Any]], wanted: str) -> str:
    """Return what somebody else has done to a unit whose text was to have the hash `wanted`, and that was to
    run; empty if nothing. Pure."""
    told = list(lines)
    if not told:
        return "somebody has destroyed it"
    if any(line["hash"] != wanted for line in told):
        return "somebody has given it another text"
    return "somebody has stopped it" if any(line["desired"] != "launched" for line in told) else ""


def waves(lines: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Units in the order in which they are to stop: who uses others first. Pure."""
    links = {line["name"]: [link.partition("/")[0] for link in line["links"]] for line in lines}
    found: list[list[str]] = []
    while links:
        used = {
            name
            for name in links
            for user, linked in links.items()
            if user != name and any(targets(Link(target, target), UnitName.parse(name)) for target in linked)
        }
        free = sorted(links.keys() - used) or sorted(links)
        found.append(free)
        links = {name: links[name] for name in links.keys() - set(free)}
    return found
