"""Joining with a key made by `curl`: what both sides then know."""

import json
import re
from datetime import datetime, timedelta

from conftest import NEW, OLD, Tailnet
from harness.api import Api
from harness.client import Client
from harness.server import OWNER
from harness.wait import until


def test_each_client_lists_the_other_in_its_status(pair: tuple[Client, Client]) -> None:
    for viewer, other in (pair, pair[::-1]):
        lines = viewer.cli("status").stdout.splitlines()
        # Own line first, then the peer: address, name, owner, system.
        assert any(line.split()[:2] == [viewer.ipv4, viewer.dns_name.split(".")[0]] for line in lines), lines
        assert any(line.split()[:2] == [other.ipv4, other.dns_name.split(".")[0]] for line in lines), lines
        printed = json.loads(viewer.cli("status", "--json").stdout)
        assert [peer["ID"] for peer in printed["Peer"].values()] == [other.device_id]


def test_a_client_is_named_after_its_host_in_the_tailnet_domain(pair: tuple[Client, Client]) -> None:
    for client, label in zip(pair, ("old", "new"), strict=True):
        suffix = client.status()["CurrentTailnet"]["MagicDNSSuffix"]
        assert client.dns_name == f"{label}.{suffix}."


def test_a_client_knows_its_owner_and_its_peers(pair: tuple[Client, Client]) -> None:
    for client, other in (pair, pair[::-1]):
        status = client.status()
        profile = status["User"][str(status["Self"]["UserID"])]
        assert profile["LoginName"] == OWNER
        said = client.cli("whois", other.ipv4).stdout
        assert OWNER in said and other.dns_name.rstrip(".") in said


def test_addresses_come_from_the_ranges_of_the_protocol(pair: tuple[Client, Client]) -> None:
    for client in pair:
        first, second = (int(part) for part in client.ipv4.split(".")[:2])
        assert first == 100 and 64 <= second < 128, client.ipv4
        assert client.ipv6.startswith("fd7a:115c:a1e0:"), client.ipv6
    assert pair[0].ipv4 != pair[1].ipv4
    assert pair[0].ipv6 != pair[1].ipv6


def test_the_api_shows_both_devices_as_they_are(pair: tuple[Client, Client], api: Api) -> None:
    listed = api.devices()
    for client, hostname, version in zip(pair, ("old", "new"), (OLD, NEW), strict=True):
        device = listed[client.device_id]
        me = client.me
        expected = {
            "addresses": me["TailscaleIPs"],
            "authorized": True,
            "blocksIncomingConnections": False,
            "connectedToControl": True,
            "hostname": hostname,
            "isEphemeral": False,
            "isExternal": False,
            "keyExpiryDisabled": False,
            "name": me["DNSName"].rstrip("."),
            "nodeId": me["ID"],
            "nodeKey": me["PublicKey"],
            "os": "linux",
            "user": OWNER,
        }
        assert {name: device.get(name) for name in expected} == expected
        assert device["clientVersion"].startswith(version)
        assert re.fullmatch(r"mkey:[0-9a-f]{64}", device["machineKey"])
        assert device["id"].isdigit()
        assert "lastSeen" not in device, "left out while the device is connected"
        lifetime = _time(device["expires"]) - _time(device["created"])
        assert abs(lifetime - timedelta(days=180)) < timedelta(minutes=1), lifetime
        # Both forms of the id name the same device.
        assert api.device(device["id"]) == api.device(device["nodeId"])


def test_the_api_shows_how_a_device_is_connected(pair: tuple[Client, Client], api: Api) -> None:
    for client in pair:

        def connected(client: Client = client) -> dict:
            device = api.device(client.device_id, fields="all")
            connectivity = device["clientConnectivity"]
            assert f"{client.host.address}:41641" in connectivity["endpoints"], connectivity
            preferred = [name for name, seen in connectivity["latency"].items() if seen.get("preferred")]
            assert len(preferred) == 1, connectivity
            assert connectivity["clientSupports"]["udp"] is True, connectivity
            return device

        # The client reports these a moment after it is Running.
        device = until(f"connectivity of {client.host.name}", connected, deadline=20)
        assert device["advertisedRoutes"] == device["enabledRoutes"] == []
        assert device["distro"]["name"]


def test_the_second_of_two_equal_host_names_gets_a_number(tailnet: Tailnet) -> None:
    first = tailnet.join(OLD, "twin")
    second = tailnet.join(NEW, "twin")
    assert first.dns_name.split(".")[0] == "twin"
    assert second.dns_name.split(".")[0] == "twin-1"
    names = {device["hostname"] for device in tailnet.api.devices().values() if "twin" in device["name"]}
    assert names == {"twin"}, "the host name stays what the device calls itself"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
