"""The harness itself: nothing leaves the test network, and the checks can fail."""

import json
import socket

import pytest

from conftest import VERSIONS, Clients, Resolvers
from harness import resolver
from harness.machine import ResolverFiles
from harness.network import Host, Network, run
from harness.openapi import OpenApi, Violation
from harness.wait import NotReached, until


@pytest.fixture
def clients(network: Network, resolvers: Resolvers, cache, scratch):
    clients = Clients(network, resolvers, cache, scratch)
    yield clients
    clients.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_daemon_starts_without_a_login_and_leaves_the_machine_alone(
    clients: Clients, machine: ResolverFiles, version: str
) -> None:
    client = clients.start(version, "fresh")
    until(
        "the daemon knows that it has no login",
        lambda: client.state in ("NeedsLogin", "NoState"),
        also=client.tail,
    )
    assert client.cli("version").stdout.startswith(version)
    machine.check()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_daemon_has_its_own_etc_and_an_empty_run(clients: Clients, version: str) -> None:
    client = clients.start(version, "private")
    assert "netns" not in run(client.inside("ls", "/run")).stdout.split()
    assert run(client.inside("cat", "/etc/resolv.conf")).stdout == client.resolver_file
    assert "nameserver" in client.resolver_file


def test_no_route_leads_out_of_the_test_network(network: Network) -> None:
    host = network.host("lonely")
    try:
        # An address of a documentation range; asking the route sends nothing.
        with pytest.raises(AssertionError, match="unreachable"):
            host.run("ip", "route", "get", "198.51.100.1")
    finally:
        network.remove(host)


def test_hosts_reach_each_other_and_a_restricted_one_only_by_tcp(network: Network) -> None:
    one, two = network.host("one"), network.host("two")
    try:
        one.run("ping", "-c", "1", "-W", "2", two.address)
        assert _udp_arrives(one, two)
        one.restrict_udp_to("10.86.0.1")
        assert not _udp_arrives(one, two)
        one.run("ping", "-c", "1", "-W", "2", two.address)
        one.lift_restriction()
        assert _udp_arrives(one, two)
    finally:
        network.remove(one)
        network.remove(two)


def _udp_arrives(sender: Host, receiver: Host) -> bool:
    with (
        receiver.socket(socket.AF_INET, socket.SOCK_DGRAM) as inbound,
        sender.socket(socket.AF_INET, socket.SOCK_DGRAM) as outbound,
    ):
        inbound.bind((receiver.address, 0))
        inbound.settimeout(0.3)
        try:
            outbound.sendto(b"hello", inbound.getsockname())
            return inbound.recv(100) == b"hello"
        except (TimeoutError, PermissionError):
            return False


def test_each_resolver_gives_its_own_answer(network: Network, resolvers: Resolvers) -> None:
    for server in (resolvers.base, resolvers.first, resolvers.second):
        assert resolver.ask(network.hub, server.address, "any.example") == [server.answer]
        assert resolver.ask(network.hub, server.address, "any.example", resolver.AAAA) == []


def test_waiting_ends_at_the_deadline_and_says_what_was_seen() -> None:
    with pytest.raises(NotReached, match="the impossible\nlast seen: 0"):
        until("the impossible", lambda: 0, deadline=0.1)


GOOD_KEY = {"id": "k1CNTRL", "created": "2026-01-02T03:04:05Z", "capabilities": {"devices": {}}}


@pytest.mark.parametrize(
    ("method", "path", "status", "content_type", "body"),
    [
        ("GET", "/tailnet/-/keys/k1CNTRL", 200, "application/json", GOOD_KEY),
        ("GET", "/tailnet/-/keys/k1CNTRL", 404, "application/json", {"message": "not found"}),
        # Not documented for this operation, but an error as the document describes errors.
        ("DELETE", "/device/1", 404, "application/json", {"message": "not found"}),
        ("DELETE", "/device/1", 200, "", None),
        ("POST", "/device/1/key", 200, "application/json", {}),
        ("GET", "/tailnet/example.com/dns/split-dns", 200, "application/json", {"a.example": ["1.1.1.1"]}),
        ("GET", "/device/1?fields=all", 200, "application/json", {"clientConnectivity": {"derp": "1"}}),
    ],
)
def test_a_documented_response_passes(openapi: OpenApi, method, path, status, content_type, body) -> None:
    openapi.check(method, f"http://host/api/v2{path}", status, content_type, _encode(body))


@pytest.mark.parametrize(
    ("method", "path", "status", "content_type", "body", "complaint"),
    [
        ("GET", "/tailnet/-/keys/k1", 200, "application/json", {**GOOD_KEY, "id": 7}, "not of type 'string'"),
        ("GET", "/tailnet/-/keys/k1", 200, "application/json", {**GOOD_KEY, "created": "today"}, "date-time"),
        ("GET", "/tailnet/-/keys/k1", 200, "application/json", {**GOOD_KEY, "creatd": ""}, "creatd"),
        ("GET", "/tailnet/-/keys/k1", 200, "text/plain", GOOD_KEY, "content type"),
        ("GET", "/tailnet/-/keys/k1", 404, "application/json", {"message": ""}, "without a message"),
        ("GET", "/tailnet/-/keys/k1", 404, "application/json", {"error": "x"}, "error"),
        ("GET", "/tailnet/-/devices", 200, "application/json", {"devices": None}, "not of type 'array'"),
        ("POST", "/tailnet/-/keys", 201, "application/json", GOOD_KEY, "status not documented"),
        ("DELETE", "/device/1", 200, "application/json", {"id": "1"}, "has a body"),
        ("GET", "/tailnet/-/nothing", 200, "application/json", {}, "not an operation"),
        ("GET", "/device/1", 200, "application/json", {"derp": "1"}, "derp"),
        ("GET", "/device/1", 200, "application/json", None, "not JSON"),
    ],
)
def test_a_response_that_is_not_documented_is_refused(
    openapi: OpenApi, method, path, status, content_type, body, complaint
) -> None:
    with pytest.raises(Violation, match=complaint):
        openapi.check(method, f"http://host/api/v2{path}", status, content_type, _encode(body))


def _encode(body) -> bytes:
    return b"" if body is None else json.dumps(body).encode()


def test_the_document_must_be_there(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="BOWLINE_OPENAPI"):
        OpenApi(tmp_path / "missing.json")
