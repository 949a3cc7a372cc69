"""gRPC as etcd is spoken to with it: the one module that knows grpcio and the messages that aetcd brings.

Of aetcd only the messages and stubs are used, which protoc made of etcd's own .proto files. Its client takes
one host without TLS, gives calls no deadline of their own, and ends every watch when one connection breaks.
"""

import os
from collections.abc import AsyncIterator
from typing import Any

from kirsch.cluster.model.certificates import Certificates
from kirsch.cluster.registry.base import RegistryError
from kirsch.cluster.registry.etcd.endpoint import Endpoint

# What gRPC's core would say on standard error is said in our own errors.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
import grpc.aio
from aetcd import rpc as messages

__all__ = ["END", "Connection", "RpcError", "StatusCode", "credentials", "messages"]

RpcError = grpc.aio.AioRpcError
StatusCode = grpc.StatusCode
END = grpc.aio.EOF

# etcd ends connections whose pings come more often than every 5 s (--grpc-keepalive-min-time).
PING_MS = 5500
PING_TIMEOUT_MS = 2000
OPTIONS = [
    # A peer that is dead without a word is noticed in PING_MS + PING_TIMEOUT_MS; no ping while nothing waits.
    ("grpc.keepalive_time_ms", PING_MS),
    ("grpc.keepalive_timeout_ms", PING_TIMEOUT_MS),
    # The same for today's grpcio, which else waits a minute for a ping's answer.
    ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    # Back within about a second of the member; this is also how long one attempt to connect may take.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.min_reconnect_backoff_ms", 2000),
    # etcd bounds what is written; a list of all of it can be longer than gRPC's 4 MiB.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
    # A registry's connections are its own: another's waiting to reconnect is not inherited.
    ("grpc.use_local_subchannel_pool", 1),
]
# A member that has lost the others says so at once, and ends its watches, instead of being silently behind.
METADATA = (("hasleader", "true"),)


class Connection:
    """The way to one member. gRPC connects it when it is first used, and again when it broke."""

    def __init__(self, endpoint: Endpoint, credentials: grpc.ChannelCredentials | None) -> None:
        self.endpoint = endpoint
        self._credentials = credentials
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(endpoint.target, OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(endpoint.target, credentials, OPTIONS)
        self._kv = messages.KVStub(self._channel)
        self._lease = messages.LeaseStub(self._channel)
        self._watch = messages.WatchStub(self._channel)
        self._maintenance = messages.MaintenanceStub(self._channel)
        self._cluster = messages.ClusterStub(self._channel)
        self._watches: set[Any] = set()

    @property
    def secure(self) -> bool:
        """True if it is encrypted."""
        return self._credentials is not None

    def like(self, endpoint: Endpoint) -> "Connection":
        """Return a connection to another member, with the same credentials."""
        return Connection(endpoint, self._credentials)

    async def call(self, request: Any, timeout: float) -> Any:
        """The answer to one request, within `timeout` seconds. Raises RpcError."""
        if isinstance(request, messages.LeaseKeepAliveRequest):
            return await self._keep_alive(request, timeout)
        return await self._method(request)(request, timeout=timeout, metadata=METADATA)

    async def status(self, timeout: float) -> Any:
        """Return the member's own status, also of one that has lost the others. Raises RpcError."""
        return await self._maintenance.Status(messages.StatusRequest(), timeout=timeout)

    async def hand_over(self, member: int, timeout: float) -> None:
        """Have this member, which leads, hand over to another, by its id. Raises RpcError."""
        await self._maintenance.MoveLeader(messages.MoveLeaderRequest(targetID=member), timeout=timeout)

    def watch(self, request: Any) -> Any:
        """The stream of a watch: `read()` it, `cancel()` it, and `unwatch` it at the end."""
        stream = self._watch.Watch(once(messages.WatchRequest(create_request=request)), metadata=METADATA)
        self._watches.add(stream)
        return stream

    def unwatch(self, stream: Any) -> None:
        """The watch has ended."""
        self._watches.discard(stream)
        stream.cancel()

    def end_watches(self) -> None:
        """Cancel every watch's stream: its reader is told by CancelledError."""
        for stream in self._watches:
            stream.cancel()

    async def close(self) -> None:
        await self._channel.close()

    def _method(self, request: Any) -> Any:
        match request:
            case messages.RangeRequest():
                return self._kv.Range
            case messages.PutRequest():
                return self._kv.Put
            case messages.DeleteRangeRequest():
                return self._kv.DeleteRange
            case messages.TxnRequest():
                return self._kv.Txn
            case messages.LeaseGrantRequest():
                return self._lease.LeaseGrant
            case messages.MemberListRequest():
                return self._cluster.MemberList
            case messages.MemberAddRequest():
                return self._cluster.MemberAdd
            case messages.MemberRemoveRequest():
                return self._cluster.MemberRemove
            case messages.MemberPromoteRequest():
                return self._cluster.MemberPromote
            case _:
                return self._lease.LeaseRevoke

    async def _keep_alive(self, request: Any, timeout: float) -> Any:
        # A stream of one renewal: one that waits behind others' would have no deadline of its own.
        stream = self._lease.LeaseKeepAlive(once(request), timeout=timeout, metadata=METADATA)
        try:
            answer = await stream.read()
            if answer is END:
                raise RpcError(
                    StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "no answer to a renewal"
                )
            return answer
        finally:
            stream.cancel()


def credentials(certificates: Certificates | None) -> grpc.ChannelCredentials | None:
    """Return the credentials for TLS; None for none. Raises RegistryError for files that cannot be read."""
    if certificates is None:
        return None
    try:
        # Read by ssl first, which says what is wrong with them; gRPC's core does not.
        certificates.client()
        return grpc.ssl_channel_credentials(
            certificates.authority.read_bytes(),
            certificates.key.read_bytes(),
            certificates.certificate.read_bytes(),
        )
    except OSError as error:
        names = f"{certificates.authority}, {certificates.certificate}, {certificates.key}"
        raise RegistryError(
            f"certificates for etcd cannot be used ({names}): {error.strerror or error}"
        ) from error


async def once(request: Any) -> AsyncIterator[Any]:
    yield request
