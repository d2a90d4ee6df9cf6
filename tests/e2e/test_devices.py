"""What the API does to a device is what the device and its peers then do."""

from datetime import UTC, datetime

import pytest

from conftest import NEW, OLD, VERSIONS, Tailnet
from harness import resolver
from harness.api import Api
from harness.client import Client, exchange
from harness.wait import until

QUAD_100 = "100.100.100.100"


@pytest.fixture(params=[0, 1], ids=VERSIONS)
def roles(pair: tuple[Client, Client], request: pytest.FixtureRequest) -> tuple[Client, Client]:
    """The device that is changed, by version, and the other one, which must notice."""
    return pair[request.param], pair[1 - request.param]


def test_a_rename_is_seen_live(roles: tuple[Client, Client], api: Api) -> None:
    device, peer = roles
    device_id, before = device.device_id, device.dns_name
    suffix = before.split(".", 1)[1]
    assert api.ok("POST", f"/device/{device_id}/name", {"name": "renamed"}) == {}

    peer.wait_for_peer(device_id, "the new name", lambda p: p["DNSName"] == f"renamed.{suffix}")
    until("the device knows its name", lambda: device.dns_name == f"renamed.{suffix}", also=device.tail)
    until("it resolves", lambda: resolver.ask(peer.host, QUAD_100, f"renamed.{suffix}") == [device.ipv4])
    with pytest.raises(AssertionError, match="response code 3"):
        resolver.ask(peer.host, QUAD_100, before)
    assert api.device(device_id)["name"] == f"renamed.{suffix}".rstrip(".")

    # No name: back to the one of the host.
    assert api.ok("POST", f"/device/{device_id}/name", {"name": ""}) == {}
    peer.wait_for_peer(device_id, "the old name", lambda p: p["DNSName"] == before)
    assert api.device(device_id)["name"] == before.rstrip(".")


def test_a_device_follows_its_host_name_until_the_api_names_it(
    roles: tuple[Client, Client], api: Api
) -> None:
    device, peer = roles
    device_id, before = device.device_id, device.dns_name
    label, suffix = before.split(".", 1)
    device.cli("set", "--hostname=moved")
    peer.wait_for_peer(device_id, "the new host name", lambda p: p["DNSName"] == f"moved.{suffix}")
    shown = api.device(device_id)
    assert (shown["hostname"], shown["name"]) == ("moved", f"moved.{suffix}".rstrip("."))

    api.ok("POST", f"/device/{device_id}/name", {"name": "fixed"})
    device.cli("set", f"--hostname={label}")
    until("the API shows the host name", lambda: api.device(device_id)["hostname"] == label)
    assert api.device(device_id)["name"] == f"fixed.{suffix}".rstrip(".")
    assert peer.peer(device_id)["DNSName"] == f"fixed.{suffix}"

    api.ok("POST", f"/device/{device_id}/name", {"name": ""})
    peer.wait_for_peer(device_id, "the name of its host", lambda p: p["DNSName"] == before)


@pytest.mark.parametrize(("version", "other"), [(OLD, NEW), (NEW, OLD)], ids=VERSIONS)
def test_an_expired_device_must_log_in_again(tailnet: Tailnet, version: str, other: str) -> None:
    device = tailnet.join(version, "expiring")
    peer = tailnet.join(other, "watching")
    tailnet.meet(device, peer)
    device_id, address = device.device_id, device.ipv4

    assert tailnet.api.call("POST", f"/device/{device_id}/expire").body == b""
    device.wait_for_state("NeedsLogin")
    peer.wait_for_peer(device_id, "it expired", lambda p: p.get("Expired"))
    expires = datetime.fromisoformat(tailnet.api.device(device_id)["expires"])
    assert expires <= datetime.now(UTC)
    refused = peer.cli("ping", "--c=1", "--timeout=2s", address, check=False)
    assert "expired" in (refused.stdout + refused.stderr)

    # A new key brings back the same device.
    tailnet.login(device, "expiring")
    assert (device.device_id, device.ipv4) == (device_id, address)
    peer.wait_for_peer(device_id, "it is back", lambda p: p["Online"] and not p.get("Expired"))
    exchange(peer, device, address)


@pytest.mark.parametrize(("version", "other"), [(OLD, NEW), (NEW, OLD)], ids=VERSIONS)
def test_a_deleted_device_is_logged_out_and_gone(tailnet: Tailnet, version: str, other: str) -> None:
    device = tailnet.join(version, "leaving")
    peer = tailnet.join(other, "watching")
    tailnet.meet(device, peer)
    device_id = device.device_id

    assert tailnet.api.call("DELETE", f"/device/{device_id}").body == b""
    device.wait_for_state("NeedsLogin")
    peer.wait_until_gone(device_id)
    assert tailnet.api.call("GET", f"/device/{device_id}").status == 404
    assert "Logged out" in device.cli("status", check=False).stdout

    # With a new key the same machine is another device.
    tailnet.login(device, "leaving")
    assert device.device_id != device_id
    tailnet.meet(device, peer)


def test_a_device_without_approval_is_cut_off_until_it_has_it(roles: tuple[Client, Client], api: Api) -> None:
    device, peer = roles
    device_id = device.device_id
    assert api.ok("POST", f"/device/{device_id}/authorized", {"authorized": False}) == {}
    device.wait_for_state("NeedsMachineAuth")
    peer.wait_until_gone(device_id)
    assert api.device(device_id)["authorized"] is False

    assert api.ok("POST", f"/device/{device_id}/authorized", {"authorized": True}) == {}
    device.wait_for_state("Running")
    peer.wait_for_peer(device_id, "it is back", lambda p: p["Online"])
    device.wait_for_peer(peer.device_id, "its peer", lambda p: p["Online"])
    assert api.device(device_id)["authorized"] is True
    exchange(peer, device, device.ipv4)


def test_a_new_address_is_used_at_once(roles: tuple[Client, Client], api: Api) -> None:
    device, peer = roles
    device_id, before = device.device_id, device.ipv4
    address = "100.80.0.1"
    assert api.ok("POST", f"/device/{device_id}/ip", {"ipv4": address}) == {}
    peer.wait_for_peer(device_id, "the new address", lambda p: address in p["TailscaleIPs"])
    until("the device has the address", lambda: device.ipv4 == address, also=device.tail)
    assert api.device(device_id)["addresses"] == [address, device.ipv6]
    until(
        "its name leads there",
        lambda: resolver.ask(peer.host, QUAD_100, device.dns_name) == [address],
    )
    until("traffic flows", lambda: exchange(peer, device, address) is None, deadline=20)

    api.ok("POST", f"/device/{device_id}/ip", {"ipv4": before})
    peer.wait_for_peer(device_id, "the old address", lambda p: before in p["TailscaleIPs"])
    until("the device has it back", lambda: device.ipv4 == before, also=device.tail)


def test_a_route_needs_both_its_router_and_the_api(roles: tuple[Client, Client], api: Api) -> None:
    device, peer = roles
    device_id, route, inside = device.device_id, "10.99.1.0/24", "10.99.1.1"
    device.host.run("ip", "addr", "replace", f"{inside}/32", "dev", "lo")
    device.host.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    device.cli("set", f"--advertise-routes={route}")
    peer.cli("set", "--accept-routes")
    try:
        advertised = {"advertisedRoutes": [route], "enabledRoutes": []}
        until(
            "the API shows what is advertised",
            lambda: api.ok("GET", f"/device/{device_id}/routes") == advertised,
        )
        assert route not in (peer.peer(device_id).get("AllowedIPs") or [])

        enabled = api.ok("POST", f"/device/{device_id}/routes", {"routes": [route]})
        assert enabled == {"advertisedRoutes": [route], "enabledRoutes": [route]}
        peer.wait_for_peer(device_id, "the route", lambda p: route in p["AllowedIPs"])
        peer.wait_for_peer(device_id, "the primary router", lambda p: route in (p.get("PrimaryRoutes") or []))
        until("traffic takes the route", lambda: exchange(peer, device, inside) is None, deadline=20)

        cleared = api.ok("POST", f"/device/{device_id}/routes", {"routes": []})
        assert cleared == advertised
        peer.wait_for_peer(device_id, "no route", lambda p: route not in p["AllowedIPs"])
    finally:
        device.host.run("ip", "addr", "del", f"{inside}/32", "dev", "lo")
        device.cli("set", "--advertise-routes=")
        peer.cli("set", "--accept-routes=false")
    until(
        "nothing is advertised",
        lambda: api.ok("GET", f"/device/{device_id}/routes")["advertisedRoutes"] == [],
    )


def test_key_expiry_goes_off_and_back_to_its_time(roles: tuple[Client, Client], api: Api) -> None:
    device, peer = roles
    device_id, expires = device.device_id, device.me["KeyExpiry"]
    stored = api.device(device_id)["expires"]

    assert api.ok("POST", f"/device/{device_id}/key", {"keyExpiryDisabled": True}) == {}
    until("the device never expires", lambda: "KeyExpiry" not in device.me, also=device.tail)
    peer.wait_for_peer(device_id, "it never expires", lambda p: "KeyExpiry" not in p)
    shown = api.device(device_id)
    assert (shown["keyExpiryDisabled"], shown["expires"]) == (True, stored)

    assert api.ok("POST", f"/device/{device_id}/key", {"keyExpiryDisabled": False}) == {}
    until("the device expires as before", lambda: device.me.get("KeyExpiry") == expires, also=device.tail)
    peer.wait_for_peer(device_id, "it expires", lambda p: p.get("KeyExpiry") == expires)
    shown = api.device(device_id)
    assert (shown["keyExpiryDisabled"], shown["expires"]) == (False, stored)
