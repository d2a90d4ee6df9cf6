"""DNS settings made through the API are what clients do."""

from collections.abc import Callable, Iterator

import pytest

from conftest import Resolvers
from harness import resolver
from harness.api import Api
from harness.client import Client
from harness.wait import until

QUAD_100 = "100.100.100.100"
MAGIC = {"magicDNS": True}


@pytest.fixture(autouse=True)
def plain_settings(api: Api) -> Iterator[None]:
    """MagicDNS and nothing else, before and after each test."""
    api.set_dns(preferences=MAGIC)
    yield
    api.set_dns(preferences=MAGIC)


def answer(client: Client, name: str) -> list[str]:
    return resolver.ask(client.host, QUAD_100, name)


def both(pair: tuple[Client, Client], what: str, holds: Callable[[Client], bool]) -> None:
    for client in pair:
        until(f"{client.host.name}: {what}", lambda client=client: holds(client), also=client.tail)


def told(client: Client) -> set[str]:
    """The global name servers in the client's netmap, whichever way it is to use them."""
    dns = client.netmap()["DNS"]
    return {entry["Addr"] for kind in ("Resolvers", "FallbackResolvers") for entry in dns.get(kind) or []}


def test_a_nameserver_set_through_the_api_reaches_clients(
    pair: tuple[Client, Client], api: Api, resolvers: Resolvers
) -> None:
    address = resolvers.first.address
    reply = api.ok("POST", "/tailnet/-/dns/nameservers", {"dns": [address]})
    assert reply == {"dns": [address], "magicDNS": True}
    both(pair, "the name server is in the netmap", lambda client: told(client) == {address})
    assert api.ok("GET", "/tailnet/-/dns/nameservers") == {"dns": [address]}

    reply = api.ok("POST", "/tailnet/-/dns/nameservers", {"dns": []})
    assert reply == {"dns": [], "magicDNS": False}
    both(pair, "the name server is gone", lambda client: told(client) == set())


def test_clients_use_a_nameserver_that_overrides_their_own(
    pair: tuple[Client, Client], api: Api, resolvers: Resolvers
) -> None:
    name = "www.anywhere.example"
    both(pair, "the host's own resolver", lambda c: answer(c, name) == [resolvers.base.answer])
    api.set_dns(
        nameservers=[{"address": resolvers.first.address}],
        preferences={**MAGIC, "overrideLocalDNS": True},
    )
    both(pair, "the tailnet's resolver", lambda c: answer(c, name) == [resolvers.first.answer])
    for client in pair:
        assert resolvers.first.address in client.cli("dns", "status", "--all").stdout
    # A program beside the client gets the same answer.
    assert resolvers.first.answer in pair[0].lookup(name)


def test_split_dns_sends_one_domain_elsewhere(
    pair: tuple[Client, Client], api: Api, resolvers: Resolvers
) -> None:
    inside, outside = "db.corp.example", "www.anywhere.example"
    reply = api.ok("PATCH", "/tailnet/-/dns/split-dns", {"corp.example": [resolvers.second.address]})
    assert reply == {"corp.example": [resolvers.second.address]}
    both(pair, "the domain's resolver", lambda c: answer(c, inside) == [resolvers.second.answer])
    both(pair, "others as before", lambda c: answer(c, outside) == [resolvers.base.answer])

    assert api.ok("PATCH", "/tailnet/-/dns/split-dns", {"corp.example": None}) == {}
    both(pair, "the domain is not special", lambda c: answer(c, inside) == [resolvers.base.answer])


def test_a_search_path_completes_short_names(pair: tuple[Client, Client], api: Api) -> None:
    reply = api.ok("POST", "/tailnet/-/dns/searchpaths", {"searchPaths": ["lab.example", "corp.example"]})
    assert reply == {"searchPaths": ["lab.example", "corp.example"]}
    suffix = pair[0].status()["MagicDNSSuffix"]
    wanted = f"search {suffix} lab.example corp.example"
    both(pair, wanted, lambda client: wanted in client.resolver_file)
    for client in pair:
        assert "lab.example" in client.cli("dns", "status").stdout

    api.ok("POST", "/tailnet/-/dns/searchpaths", {"searchPaths": []})
    both(pair, "no search path but the tailnet's", lambda c: "lab.example" not in c.resolver_file)


def test_magic_dns_goes_off_and_on_live(pair: tuple[Client, Client], api: Api, resolvers: Resolvers) -> None:
    api.ok("POST", "/tailnet/-/dns/nameservers", {"dns": [resolvers.first.address]})
    for client, other in (pair, pair[::-1]):
        until("named", lambda client=client, other=other: answer(client, other.dns_name) == [other.ipv4])

    assert api.ok("POST", "/tailnet/-/dns/preferences", {"magicDNS": False}) == {"magicDNS": False}
    both(pair, "MagicDNS is off", lambda c: not c.status()["CurrentTailnet"]["MagicDNSEnabled"])

    assert api.ok("POST", "/tailnet/-/dns/preferences", MAGIC) == MAGIC
    both(pair, "MagicDNS is on", lambda c: c.status()["CurrentTailnet"]["MagicDNSEnabled"])
    for client, other in (pair, pair[::-1]):
        until("named", lambda client=client, other=other: answer(client, other.dns_name) == [other.ipv4])
