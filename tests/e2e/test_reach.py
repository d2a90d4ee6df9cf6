"""Devices reach each other: over the relay, directly, and by name."""

import pytest

from conftest import NEW, OLD, Tailnet
from harness import resolver
from harness.client import Client, exchange
from harness.wait import until

QUAD_100 = "100.100.100.100"


def test_traffic_takes_the_relay_until_a_direct_path_opens(tailnet: Tailnet) -> None:
    clients = [tailnet.client(OLD, "old"), tailnet.client(NEW, "new")]
    for client in clients:
        client.host.restrict_udp_to(tailnet.server.host.address)
    old, new = (tailnet.login(client, label) for client, label in zip(clients, ("old", "new"), strict=True))
    tailnet.meet(old, new)

    for caller, other in ((old, new), (new, old)):
        caller.ping(other.ipv4, direct=False)
        caller.icmp(other.ipv4)
        exchange(caller, other, other.ipv4)
        exchange(caller, other, other.ipv6)
    # Nothing of this went past the relay.
    assert old.peer(new.device_id)["CurAddr"] == ""

    for client in clients:
        client.host.lift_restriction()
    for caller, other in ((old, new), (new, old)):
        pong = caller.ping(other.ipv4, direct=True)
        assert other.host.address in pong


def test_devices_that_can_reach_each_other_talk_directly(pair: tuple[Client, Client]) -> None:
    for caller, other in (pair, pair[::-1]):
        pong = caller.ping(other.ipv4, direct=True)
        assert other.host.address in pong
        caller.icmp(other.ipv4)
        caller.icmp(other.ipv6)
        exchange(caller, other, other.ipv4)
        exchange(caller, other, other.ipv6)


@pytest.mark.parametrize("viewer", [0, 1], ids=[OLD, NEW])
def test_a_name_resolves_through_magic_dns(pair: tuple[Client, Client], viewer: int) -> None:
    asking, other = pair[viewer], pair[1 - viewer]
    until(
        "quad-100 answers",
        lambda: resolver.ask(asking.host, QUAD_100, other.dns_name) == [other.ipv4],
        also=asking.tail,
    )
    # As a program sees it: the short name, through the resolver file and its search path.
    short = other.dns_name.split(".")[0]
    assert other.ipv4 in asking.lookup(short), asking.resolver_file
    assert QUAD_100 in asking.resolver_file
