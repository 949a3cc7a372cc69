"""How a subnet is shared out: nobody has what is another's, and what cannot work is known at once."""

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kirsch.cluster.network.subnet import (
    Subnet,
    SubnetError,
    free_address,
    free_number,
    hardware_address,
)

SUBNETS = st.integers(8, 24).flatmap(
    lambda prefix: st.integers(0, (1 << (prefix - 8)) - 1).map(
        lambda number: Subnet(IPv4Network(((10 << 24) + (number << (32 - prefix)), prefix)))
    )
)


def test_the_default_is_as_documented():
    subnet = Subnet.parse("10.210.0.0/16")
    assert subnet.machines == 127
    assert (subnet.gateway(3), str(subnet.containers(3))) == ("10.210.0.3", "10.210.3.0/24")
    assert str(subnet.units) == "10.210.128.0/17"


@given(SUBNETS)
def test_machines_and_units_share_nothing(subnet: Subnet):
    numbers = {1, 2, subnet.machines // 2 + 1, subnet.machines}
    gateways = {IPv4Address(subnet.gateway(number)) for number in numbers}
    blocks = [subnet.containers(number) for number in sorted(numbers)]
    assert len(gateways) == len(numbers)
    for index, block in enumerate(blocks):
        assert block.subnet_of(subnet.network)
        assert not block.overlaps(subnet.units)
        assert not any(block.overlaps(other) for other in blocks[:index])
        assert not any(gateway in block for gateway in gateways)
    assert subnet.units.subnet_of(subnet.network)
    assert not any(gateway in subnet.units for gateway in gateways)
    assert subnet.network.network_address not in gateways


@given(SUBNETS)
def test_a_subnet_is_read_as_it_is_written(subnet: Subnet):
    assert Subnet.parse(str(subnet)) == subnet


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10.210.0.0/25", "a /8 to a /24"),
        ("10.210.0.0", "a /8 to a /24"),
        ("0.0.0.0/0", "a /8 to a /24"),
        ("10.210.0.1/16", "the subnet is 10.210.0.0/16"),
        ("fd00::/64", "no IPv4 subnet"),
        ("10.210.0.0/16/16", "no IPv4 subnet"),
        ("10.210.0.0/x", "no IPv4 subnet"),
        ("", "no IPv4 subnet"),
        ("127.0.0.0/16", "networks of one's own"),
        ("224.0.0.0/16", "networks of one's own"),
        ("169.254.0.0/16", "networks of one's own"),
        ("0.0.0.0/8", "networks of one's own"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(text: str, words: str):
    with pytest.raises(SubnetError, match=words) as refused:
        Subnet.parse(text)
    assert "\n" not in str(refused.value)


@given(SUBNETS, st.lists(st.text("abc@.", min_size=1), max_size=40, unique=True))
def test_addresses_that_are_given_are_units_and_each_is_one(subnet: Subnet, units: list[str]):
    taken: list[str] = []
    for unit in units:
        address = free_address(subnet, unit, taken)
        assert address not in taken
        assert IPv4Address(address) in subnet.units
        assert int(IPv4Address(address)) & 0xFF not in (0, 255)
        # It is the unit's as long as nobody else has it, on whatever machine it is asked for.
        assert free_address(subnet, unit, taken) == address
        taken.append(address)


def test_when_all_addresses_are_given_that_is_said():
    subnet, taken = Subnet.parse("192.168.7.0/24"), set()
    while len(taken) < 126:
        taken.add(free_address(subnet, f"unit{len(taken)}", taken))
    taken |= {str(address) for address in subnet.units}
    with pytest.raises(SubnetError, match="too small"):
        free_address(subnet, "one too many", taken)


def test_numbers_are_the_lowest_that_are_free():
    subnet = Subnet.parse("192.168.7.0/24")
    assert free_number(subnet, {1, 2, 4}) == 3
    with pytest.raises(SubnetError, match="room for 7 machines"):
        free_number(subnet, set(range(1, 8)))


@given(st.ip_addresses(v=4), st.ip_addresses(v=4))
def test_a_hardware_address_goes_with_one_address(first: IPv4Address, second: IPv4Address):
    made = hardware_address(str(first))
    assert (made == hardware_address(str(second))) is (first == second)
    # Locally administered, and no group's (IEEE 802).
    assert int(made[:2], 16) & 3 == 2


@given(SUBNETS, st.lists(SUBNETS, max_size=3))
def test_an_overlap_is_named(subnet: Subnet, others: list[Subnet]):
    networks = [other.network for other in others]
    found = subnet.overlap(networks)
    assert (found is None) is not any(subnet.network.overlaps(network) for network in networks)
