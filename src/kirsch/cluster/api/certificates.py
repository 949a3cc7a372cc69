"""/certificates: those that the cluster knows of, by serial number; and the audit log, at /audit."""

import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import cherrypy

from kirsch.cluster.api.access import Identity, plain_serial
from kirsch.cluster.api.answers import (
    MOST_SECONDS,
    empty,
    flag,
    json_answer,
    json_body,
    parameters,
    run,
    seconds,
    single,
)
from kirsch.cluster.api.peers import HERE
from kirsch.cluster.api.resource import Collection, Resource
from kirsch.cluster.engine.voters import Succession
from kirsch.cluster.model import Machine, keys
from kirsch.cluster.model.certificates import MACHINE, PEOPLE, Issued
from kirsch.cluster.node.audit import AuditEntry, merged
from kirsch.cluster.node.units import Refused
from kirsch.cluster.registry.base import Delete, Put, Unchanged

MOST_ENTRIES = 10_000
_KINDS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "role": (str,),
    "until": (int, float),
    "machine": (str,),
    "revoked": (bool,),
}


class Certificates(Collection["OneCertificate"]):
    """All certificates that are valid or were revoked, at /certificates."""

    def GET(self, /, **query: Any) -> bytes:
        """List all certificates that the registry has."""
        parameters(query)

        async def read() -> list[dict[str, Any]]:
            return [
                {"serial": keys.last(entry.key), **asdict(Issued.parse(entry.value))}
                for entry in self.node.mirror.below(keys.CERTIFICATES)
            ]

        return self.read_answer({"certificates": run(self.loop, read())})

    def POST(self, /, **query: Any) -> bytes:
        """Issue a new certificate for the machine that asks with a valid one: the same key, name and
        hosts."""
        parameters(query)
        json_body()
        environ = cherrypy.request.wsgi_environ
        if "SSL_CLIENT_CERT" not in environ:
            raise Refused(409, "a certificate is renewed over TCP, with the one before")
        identity = Identity.of(environ)
        if identity.user or identity.role != MACHINE:
            raise Refused(409, f"{identity.name} is no machine: make a new one by `kirsch cluster user add`")
        own = self.api.peers.certificates
        if own is None:
            raise Refused(503, "this machine has no authority")
        from kirsch.cluster.node.authority import facts, renew, signer

        try:
            authority = signer(own)
        except OSError as error:
            raise Refused(503, f"this machine's authority cannot be used: {error.strerror}") from None
        if authority is None:
            raise Refused(503, "this machine has no authority's key: ask one that keeps etcd")
        made = renew(authority, environ["SSL_CLIENT_CERT"].encode())
        known = facts(made)
        issued = Issued(known.name, MACHINE, known.until)
        machine = run(self.loop, self._enter(identity.serial, known.serial, issued))
        answer = {"certificate": made.decode()}
        if machine and machine == run(self.loop, self._successor()):
            # It is about to keep etcd, and machines that do have the key.
            answer["authority"] = authority.key.decode()
            cherrypy.response.headers["Cache-Control"] = "no-store"
        return json_answer(answer)

    async def _successor(self) -> str:
        """Return the machine that is to take a lost voter's place, as etcd has it now."""
        entry = await self.node.registry.get(keys.VOTERS)
        return Succession.parse(entry.value).machine if entry else ""

    async def _enter(self, before: str, serial: str, issued: Issued) -> str:
        """Have it known for the same machine, so that it can be revoked; not if that has happened
        meanwhile. Return the machine's id."""
        entry = self.node.mirror.entries.get(keys.certificate(before))
        if entry is None:
            raise Refused(503, "the certificate is not known yet: ask again in a moment")
        known = Issued.parse(entry.value)
        made = Put(keys.certificate(serial), replace(issued, machine=known.machine).to_json())
        unchanged = Unchanged(entry.key, entry.modified)
        if known.revoked or await self.node.registry.transact([made], [unchanged]) is None:
            raise Refused(409, f"the certificate of {issued.name} was revoked")
        return known.machine

    def item(self, name: str) -> "OneCertificate":
        """Return the resource of one certificate."""
        return OneCertificate(self.api, plain_serial(name))


@dataclass
class OneCertificate(Resource):
    """One certificate, at /certificates/SERIAL."""

    serial: str

    def PUT(self, /, **query: Any) -> bytes:
        """Have a certificate known: {"name", "role", "until", "machine"?, "revoked"?}. A user's takes the
        place of those that the user had."""
        parameters(query)
        if not self.serial or not all(digit in "0123456789ABCDEF" for digit in self.serial):
            raise cherrypy.HTTPError(400, f"{self.serial!r} is no serial number in hexadecimal")
        issued = read_issued(json_body())
        run(self.loop, self._put(issued))
        return json_answer({"serial": self.serial, **asdict(issued)})

    def DELETE(self, /, **query: Any) -> None:
        """Revoke a certificate; the API refuses it from then on, and etcd where it is a machine's."""
        parameters(query)
        run(self.loop, self._revoke())
        empty()

    async def _put(self, issued: Issued) -> None:
        mirror, registry, now = self.node.mirror, self.node.registry, time.time()
        for entry in list(mirror.below(keys.CERTIFICATES)):
            known = Issued.parse(entry.value)
            replaced = known.role in PEOPLE and issued.role in PEOPLE and known.name == issued.name
            if known.until < now or (replaced and keys.last(entry.key) != self.serial):
                await registry.transact([Delete(entry.key)], [Unchanged(entry.key, entry.modified)])
        revision = await registry.put(keys.certificate(self.serial), issued.to_json())
        await mirror.reached(revision or 0)

    async def _revoke(self) -> None:
        key = keys.certificate(self.serial)
        entry = self.node.mirror.entries.get(key)
        if entry is None:
            raise Refused(404, f"there is no certificate {self.serial}")
        revoked = replace(Issued.parse(entry.value), revoked=True)
        revision = await self.node.registry.transact([Put(key, revoked.to_json())])
        await self.node.mirror.reached(revision or 0)


def read_issued(body: dict[str, Any]) -> Issued:
    """Read the body of a PUT. Raises HTTPError 400."""
    for key, value in body.items():
        if type(value) not in _KINDS.get(key, ()):
            raise cherrypy.HTTPError(400, f"{key} is not known, or not what it should be")
    if missing := [key for key in ("name", "role", "until") if key not in body]:
        raise cherrypy.HTTPError(400, f"{missing[0]} is needed")
    if not 0 <= body["until"] <= MOST_SECONDS:
        raise cherrypy.HTTPError(400, "until is to be a number of seconds")
    if body["role"] not in (*PEOPLE, MACHINE):
        raise cherrypy.HTTPError(400, f"role is to be one of {', '.join((*PEOPLE, MACHINE))}")
    return Issued(**body)


class Audit(Resource):
    """Audit log of all machines, at /audit."""

    def GET(self, /, **query: Any) -> bytes:
        """The last entries, merged by time: since=SECONDS (since the epoch), entries=N; with here=yes those
        of this machine alone. Machines that do not answer are in `missing`."""
        given = parameters(query, "since", "entries", HERE)
        since, entries = seconds(given, "since"), single(given, "entries", "100")
        if not re.fullmatch("[0-9]{1,5}", entries, re.ASCII) or int(entries) > MOST_ENTRIES:
            raise cherrypy.HTTPError(400, f"entries is to be a number from 0 to {MOST_ENTRIES}")
        return json_answer(self._read(since, int(entries), flag(given, HERE)))

    def _read(self, since: float, most: int, here: bool) -> dict[str, Any]:
        log = self.api.audit
        parts = [log.read(since, most)] if log is not None else []
        others = [] if here else run(self.loop, self._others())
        answers, missing = self.api.peers.get_all(others, "/kirsch/v1/audit", since=since, entries=most)
        parts += ([AuditEntry.parse(values) for values in answer["entries"]] for answer in answers)
        return {"entries": [asdict(entry) for entry in merged(parts, most)], "missing": missing}

    async def _others(self) -> Sequence[Machine]:
        machines = self.node.cluster().machines
        return [machines[id] for id in sorted(machines) if id != self.node.machine.id]
