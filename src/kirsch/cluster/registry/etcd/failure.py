"""Meaning of errors of gRPC and etcd for a caller: an error of the registry's, and whether to try again."""

import re
from dataclasses import dataclass
from enum import Enum, auto

from kirsch.cluster.registry.base import LeaseLost, LimitExceeded, RegistryError, Unavailable
from kirsch.cluster.registry.etcd.rpc import RpcError, StatusCode


class Outcome(Enum):
    """Outcome of a request that failed."""

    REFUSED = auto()  # etcd has said no, and would again
    UNREACHED = auto()  # there was no connection: nothing was sent
    POSTPONED = auto()  # etcd has not done it, and may do it in a moment
    UNCERTAIN = auto()  # it may have been done, or may yet be


@dataclass(frozen=True, slots=True)
class Failure:
    """The error to raise in the end, or (but for REFUSED) the reason of one attempt among several."""

    outcome: Outcome
    error: RegistryError

    @classmethod
    def of(cls, error: RpcError) -> "Failure":
        """Judge by the status and etcd's words (etcd/api/v3rpc/rpctypes/error.go, the same since 3.4)."""
        code, details = error.code(), error.details() or ""
        if "lease not found" in details:
            return cls(Outcome.REFUSED, LeaseLost("the lease has run out or was revoked"))
        if "too large lease TTL" in details:
            return cls(
                Outcome.REFUSED, RegistryError("a lease of that many seconds is more than etcd grants")
            )
        if any(
            words in details for words in ("request is too large", "too many operations", "duplicate key")
        ):
            return cls(Outcome.REFUSED, LimitExceeded(details))
        if "database space exceeded" in details:
            return cls(
                Outcome.REFUSED, Unavailable("etcd's database is full: compact it, or raise its quota")
            )
        if code == StatusCode.DEADLINE_EXCEEDED:
            return cls(Outcome.UNCERTAIN, Unavailable("does not answer"))
        if "failed to connect" in details:
            return cls(Outcome.UNREACHED, Unavailable(reason(details)))
        if any(words in details for words in ("no leader", "proposal dropped", "too many requests")):
            return cls(Outcome.POSTPONED, Unavailable(details))
        if code in (StatusCode.UNAVAILABLE, StatusCode.CANCELLED, StatusCode.INTERNAL):
            return cls(Outcome.UNCERTAIN, Unavailable(reason(details)))
        if code in (StatusCode.INVALID_ARGUMENT, StatusCode.PERMISSION_DENIED, StatusCode.UNAUTHENTICATED):
            return cls(Outcome.REFUSED, RegistryError(f"etcd refuses this: {details}"))
        return cls(Outcome.UNCERTAIN, Unavailable(reason(details) or code.name))


def reason(details: str) -> str:
    """gRPC's words without its own addresses and wrappings, in one line."""
    if "CERTIFICATE_VERIFY_FAILED" in details:
        why = details.rpartition("CERTIFICATE_VERIFY_FAILED")[2].removesuffix(": OK").strip(": ")
        return f"its certificate is not of our authority, or out of date ({why})"
    if "Hostname Verification" in details:
        return "its certificate is not for this address"
    if "TSI_DATA_CORRUPTED" in details:
        return "it refuses our certificate: is that of its authority, and in date?"
    if "before receiving SETTINGS" in details:
        return "does not answer"
    last = re.split(r"ipv[46]:\S+: |last error: |UNKNOWN:|UNAVAILABLE:", details)[-1]
    return " ".join(last.split())
