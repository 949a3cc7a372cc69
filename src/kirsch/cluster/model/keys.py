"""Keys of the registry: one function for each kind, and parsers."""

from typing import NamedTuple

ROOT = "/kirsch/v1/"
MACHINES = ROOT + "machines/"
MACHINE_SETTINGS = ROOT + "machine-settings/"
UNITS = ROOT + "units/"
TEXTS = ROOT + "texts/"
HOMES = ROOT + "homes/"
SCHEDULE = ROOT + "schedule/"
STATES = ROOT + "states/"
ENDPOINTS = ROOT + "endpoints/"
ADDRESSES = ROOT + "addresses/"
MACHINE_NUMBERS = ROOT + "machine-numbers/"
MESH = ROOT + "mesh/"
# Written with each number and address that is given: it has changed for whoever did not see them all.
GIVEN = ROOT + "given"
MOVES = ROOT + "moves/"
APPLICATIONS = ROOT + "applications/"
RELEASES = ROOT + "releases/"
SECRETS = ROOT + "secrets/"
CERTIFICATES = ROOT + "certificates/"
LEADER = ROOT + "leader"
# The machines that keep the registry, once a machine has taken a lost one's place by itself.
VOTERS = ROOT + "voters"
# The first address of this machine's loopback block: kept, so that an address is for life.
LOOPBACK = ROOT + "loopback"

NO_SLOT = "-"


def machine(machine_id: str) -> str:
    """Leased: a machine that is there."""
    return MACHINES + machine_id


def machine_settings(machine_id: str) -> str:
    """Settings of a machine, made by people; they survive its absence."""
    return MACHINE_SETTINGS + machine_id


def unit(name: str) -> str:
    """A unit: hash of its text, desired state, order."""
    return UNITS + name


def text(digest: str) -> str:
    """A unit file's text, stored once."""
    return TEXTS + digest


def home(name: str) -> str:
    """The machine of a sticky unit."""
    return HOMES + name


def move(name: str) -> str:
    """A unit on its way from one machine to another, by order of a person or of a drain."""
    return MOVES + name


def schedule(machine_id: str, name: str) -> str:
    """A unit put on a machine; the engine writes it."""
    return f"{SCHEDULE}{machine_id}/{name}"


def state(name: str, machine_id: str) -> str:
    """Leased: what the runtime of a machine says of a unit."""
    return f"{STATES}{name}/{machine_id}"


def endpoint(service: str, name: str, slot: str) -> str:
    """Leased: where a unit's slot serves."""
    return f"{ENDPOINTS}{service}/{name}/{slot}"


def address(name: str, slot: str) -> str:
    """A unit's slot's address, for life."""
    return f"{ADDRESSES}{name}/{slot}"


def release(application: str, number: int) -> str:
    """A release of an application; numbers have eight digits, so that their keys are in order."""
    return f"{RELEASES}{application}/{number:08}"


def secret(name: str) -> str:
    """Sealed value of a secret."""
    return SECRETS + name


def certificate(serial: str) -> str:
    """A certificate that was issued, by its serial number in hexadecimal."""
    return CERTIFICATES + serial


def machine_number(machine_id: str) -> str:
    """A machine's number in the flat network."""
    return MACHINE_NUMBERS + machine_id


def mesh(machine_id: str) -> str:
    """Leased: a machine that is in the flat network, and its address among machines."""
    return MESH + machine_id


def application(name: str) -> str:
    """The units that came with an application's folder."""
    return APPLICATIONS + name


class Pair(NamedTuple):
    """The last two parts of a key such as schedule/MACHINE/NAME."""

    first: str
    second: str


def pair(key: str) -> Pair:
    """The last two parts of `key`."""
    head, second = key.rsplit("/", 1)
    return Pair(head.rsplit("/", 1)[1], second)


def kind(key: str) -> str:
    """The prefix of keys of a key's kind, such as UNITS; a key that is alone is its own."""
    end = key.find("/", len(ROOT))
    return key if end < 0 else key[: end + 1]


def last(key: str) -> str:
    """The last part of `key`."""
    return key.rsplit("/", 1)[1]
