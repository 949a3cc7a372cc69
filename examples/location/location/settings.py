"""Settings: where to listen, who may ask, and who knows where this is."""

import argparse
import ipaddress
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kirsch.web import port_of

EVERYWHERE = "0.0.0.0"  # noqa: S104  only when it is told to
# Letters and digits that nobody takes for others (Crockford's).
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH = 10


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to listen (`address`, `port`), `token`, which whoever asks has to know (empty: nobody is asked
    for one), the sources' names, the names under which browsers may ask, and this instance's."""

    address: str
    port: int
    token: str
    sources: str
    hosts: frozenset[str]
    instance: str

    @classmethod
    def parse(cls, arguments: Sequence[str], environment: Mapping[str, str]) -> "Settings":
        """From the command line, and from the environment what that does not say. Raises SettingsError."""
        given = _parser().parse_args(arguments)
        address = EVERYWHERE if given.share else environment.get("KIRSCH_ADDRESS") or "127.0.0.1"
        port = port_of("--port" if given.port else "PORT", given.port or environment.get("PORT") or "8080")
        return cls(
            address=address,
            port=port,
            token="" if _is_loopback(address) else environment.get("LOCATION_TOKEN") or new_token(),
            sources=given.source or environment.get("LOCATION_SOURCE") or "auto",
            hosts=frozenset(environment.get("LOCATION_HOSTS", "").lower().split()),
            instance=environment.get("KIRSCH_UNIT", "").rpartition(".")[0] or "location",
        )


def new_token() -> str:
    """Fifty random bits that a person can type: K7QM4-XZ29P."""
    letters = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
    return f"{letters[: LENGTH // 2]}-{letters[LENGTH // 2 :]}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="location",
        description="Shows where this phone is, in a browser: http://localhost:8080/location",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--share",
        action="store_true",
        help="listen on all interfaces: others in the network who know the token that is shown may look",
    )
    parser.add_argument("--port", metavar="PORT", help="where to listen (PORT, or 8080)")
    parser.add_argument(
        "--source",
        metavar="NAMES",
        help="whom to ask, in order: auto, sl4a, termux, fixed:LATITUDE,LONGITUDE, recorded:FILE "
        "(LOCATION_SOURCE, or auto)",
    )
    return parser


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
