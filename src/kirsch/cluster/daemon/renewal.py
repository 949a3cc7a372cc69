"""Renewal of a machine's certificate while kirschd runs, and the list of revoked ones that etcd reads.

Machines that keep etcd have the authority's key beside its certificate: they issue the certificates, their
own and those of machines that ask them over the API. The key of a machine stays the same, so one file is
replaced.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kirsch.cluster.api.peers import Peers
from kirsch.cluster.model import keys
from kirsch.cluster.model.certificates import KEY, MACHINE, Certificates, Issued
from kirsch.cluster.node.node import Node
from kirsch.cluster.node.units import Refused
from kirsch.cluster.registry.base import RegistryError
from kirsch.cluster.secrets.files import write_file

log = logging.getLogger(__name__)

# Seconds from one look at the certificate to the next, and after one that failed.
CHECK, RETRY = 3600.0, 60.0
# etcd's copies of certificate and list: etcd is not root, and reads them anew at each handshake.
ETCD = Path("/run/kirsch-etcd")
REVOKED = "revoked.crl"
# The cluster's registry of images reads its certificate when it starts.
IMAGES = "kirsch-registry.service"


@dataclass
class Renewal:
    """Upkeep of one machine's certificate. `tls` is the API's context, which is to have it at once."""

    certificates: Certificates
    tls: ssl.SSLContext | None = None
    etcd: Path = ETCD
    _revoked: list[str] | None = field(default=None, init=False)

    def signs(self) -> bool:
        """True where the authority's key is here."""
        return self.certificates.authority.with_name(KEY).exists()

    def at_start(self) -> None:
        """Renew a certificate that is old or has ended, where the authority's key is here. Raises OSError."""
        from kirsch.cluster.node.authority import due, facts, renew, signer

        authority = signer(self.certificates)
        if authority is None:
            return
        before = self.certificates.certificate.read_bytes()
        with suppress(ValueError):  # what is no certificate is told by ssl
            known = facts(before)
            if due(known.start, known.until, time.time()):
                self._write(renew(authority, before))

    async def run(self, node: Node) -> None:
        """Look after it until cancelled."""
        wake = asyncio.Event()

        def notice(changed: frozenset[str]) -> None:
            if any(key.startswith(keys.CERTIFICATES) for key in changed):
                wake.set()

        node.mirror.listen(notice)
        try:
            while True:
                wake.clear()
                pause = CHECK
                try:
                    await self._look(node)
                except (OSError, ValueError, RegistryError, Refused) as error:
                    log.warning("this machine's certificate cannot be looked after: %s", error)
                    pause = RETRY
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await wake.wait()
        finally:
            node.mirror.ignore(notice)

    async def _look(self, node: Node) -> None:
        from kirsch.cluster.node.authority import due, facts, renew, revocations, signer

        before = self.certificates.certificate.read_bytes()
        known, authority = facts(before), signer(self.certificates)
        key = keys.certificate(known.serial)
        if key not in node.mirror.entries:
            issued = Issued(known.name, MACHINE, known.until, node.machine.id)
            await node.registry.put(key, issued.to_json(), unchanged=0)
        for entry in list(node.mirror.below(keys.CERTIFICATES)):
            issued = Issued.parse(entry.value)
            if issued.machine == node.machine.id and issued.until < time.time():
                await node.registry.delete(entry.key)
        if due(known.start, known.until, time.time()):
            if authority is not None:
                after = renew(authority, before)
                made = facts(after)
                issued = Issued(made.name, MACHINE, made.until, node.machine.id)
                await node.registry.put(keys.certificate(made.serial), issued.to_json())
            else:
                after = str((await self._asked(node))["certificate"]).encode()
            await self._take(after, node)
        if authority is not None:
            revoked = sorted(
                keys.last(entry.key)
                for entry in node.mirror.below(keys.CERTIFICATES)
                if Issued.parse(entry.value).revoked
            )
            if revoked != self._revoked:
                self._replace(self.certificates.authority.with_name(REVOKED), revocations(authority, revoked))
                self._revoked = revoked

    async def become_signer(self, node: Node) -> None:
        """Have the authority's key here, as machines that keep etcd do: one of them gives it to the machine
        that is to take a lost one's place. Raises Refused, OSError, ValueError."""
        from kirsch.cluster.node.authority import revocations, signer

        if not self.signs():
            answer = await self._asked(node)
            if "authority" not in answer:
                raise Refused(503, "no machine has given the authority's key")
            write_file(self.certificates.authority.with_name(KEY), str(answer["authority"]).encode())
            await self._take(str(answer["certificate"]).encode(), node)
        authority, revoked = signer(self.certificates), self.certificates.authority.with_name(REVOKED)
        if authority is not None and not revoked.exists():
            # Whole after the next look, which the new certificate leads to.
            write_file(revoked, revocations(authority, []))
            self._revoked = None

    async def _asked(self, node: Node) -> Mapping[str, Any]:
        """Return a new certificate, from the first machine that issues one; with the authority's key where
        this machine is to have it. Raises Refused, OSError."""
        peers, error = Peers(self.certificates), Refused(503, "no other machine is there")
        for machine in node.cluster().machines.values():
            if machine.id != node.machine.id:
                try:
                    answer = await asyncio.to_thread(peers.post, machine, "/kirsch/v1/certificates")
                    return dict(answer)
                except Refused as refused:
                    error = refused
        raise error

    async def _take(self, certificate: bytes, node: Node) -> None:
        """Use a new certificate from now on, for whatever connects or is connected to."""
        from kirsch.cluster.registry.etcd import EtcdRegistry

        self._write(certificate)
        if self.tls is not None:
            self.tls.load_cert_chain(self.certificates.certificate, self.certificates.key)
        if isinstance(node.registry, EtcdRegistry):
            await node.registry.renew(self.certificates)
        if node.runtime.durable:
            command = ("systemctl", "try-restart", "--no-block", "--quiet", IMAGES)
            await (await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)).wait()
        log.info("this machine's certificate was renewed")

    def _write(self, certificate: bytes) -> None:
        self._replace(self.certificates.certificate, certificate)

    def _replace(self, path: Path, content: bytes) -> None:
        """Replace a file and etcd's copy of it, each whole or not at all. Raises OSError."""
        write_file(path, content)
        if self.etcd.is_dir():
            write_file(self.etcd / path.name, content, self.etcd.stat())
