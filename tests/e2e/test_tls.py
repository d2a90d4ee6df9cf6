"""TLS on the server's own listener and on the relay, and a certificate that is renewed meanwhile."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import NEW, OLD, Clients, Resolvers, setting
from harness.authority import Authority
from harness.client import Client, exchange
from harness.network import Network
from harness.server import Server
from harness.wait import until


@pytest.fixture
def authority(scratch: Path) -> Authority:
    return Authority(scratch / "authority")


@pytest.fixture
def secure(network: Network, scratch: Path, authority: Authority) -> Iterator[Server]:
    host = network.host("secure")
    # The scratch directory is there for the whole run.
    directory = Path(tempfile.mkdtemp(prefix="secure", dir=scratch))
    server = Server(setting("BOWLINE_BIN"), host, directory, authority)
    server.init()
    server.start()
    yield server
    server.kill()
    network.remove(host)


@pytest.fixture
def clients(network: Network, resolvers: Resolvers, cache: Path, scratch: Path) -> Iterator[Clients]:
    clients = Clients(network, resolvers, cache, scratch)
    yield clients
    clients.close()


def sees(viewer: Client, other: Client) -> None:
    viewer.wait_for_peer(other.device_id, f"{other.host.name} online", lambda p: p["Online"], deadline=30)


def test_clients_join_over_tls_and_stay_when_the_certificate_is_renewed(
    secure: Server, clients: Clients, authority: Authority
) -> None:
    key = secure.command("key", "create", "--reusable")["key"]

    def join(version: str, name: str) -> Client:
        client = clients.start(version, name, authority.certificate)
        # Packets go through the relay, whose certificate is checked like the server's.
        client.host.restrict_udp_to(secure.host.address)
        client.up(secure.url, key, name)
        client.wait_for_state("Running")
        return client

    old, new = join(OLD, "old"), join(NEW, "new")
    sees(old, new)
    sees(new, old)
    old.ping(new.ipv4, direct=False)
    exchange(old, new, new.ipv4)

    before = {port: secure.served(port) for port in (8080, 8443)}
    assert before[8080] == before[8443], "the relay has the certificate of its name"
    secure.renew()
    for port, certificate in before.items():
        until(
            f"a new certificate on port {port}",
            lambda port=port, certificate=certificate: secure.served(port) != certificate,
            deadline=30,
            also=secure.tail,
        )
    # Streams go on, and who comes anew takes the new certificate.
    third = join(NEW, "third")
    for client in (old, new):
        sees(client, third)
    old.stop()
    old.start()
    old.wait_for_state("Running")
    exchange(old, third, third.ipv4)


def test_a_client_refuses_a_certificate_that_it_does_not_trust(
    secure: Server, clients: Clients, scratch: Path
) -> None:
    key = secure.command("key", "create")["key"]
    other = Authority(scratch / "other-authority")
    stranger = clients.start(NEW, "stranger", other.certificate)
    with pytest.raises(AssertionError):
        stranger.up(secure.url, key, "stranger", seconds=10)
    assert secure.command("device", "list")["devices"] == []
