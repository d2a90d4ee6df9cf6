"""Restarts lose nothing: of a client, and of the server under its clients."""

import pytest

from conftest import NEW, OLD, VERSIONS, Tailnet
from harness.client import exchange
from harness.wait import until


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_comes_back_as_the_same_device(tailnet: Tailnet, version: str) -> None:
    key = tailnet.api.auth_key()["key"]
    device = tailnet.login(tailnet.client(version, "returning"), "returning", key=key)
    peer = tailnet.join(NEW, "watching")
    tailnet.meet(device, peer)
    before = (device.device_id, device.me["TailscaleIPs"], device.dns_name)

    device.stop()
    peer.wait_for_peer(before[0], "it is offline", lambda p: not p["Online"], deadline=30)
    until("the API shows it offline", lambda: not tailnet.api.device(before[0])["connectedToControl"])
    assert tailnet.api.device(before[0])["lastSeen"]

    device.start()
    device.wait_for_state("Running")
    assert (device.device_id, device.me["TailscaleIPs"], device.dns_name) == before
    peer.wait_for_peer(before[0], "it is back", lambda p: p["Online"])

    # Services keep the key in their start command and send it at every start, long after it was
    # used; that must neither fail nor make another device.
    device.stop()
    device.start()
    tailnet.login(device, "returning", key=key)
    assert (device.device_id, device.me["TailscaleIPs"], device.dns_name) == before
    assert len(tailnet.api.devices()) == 2
    tailnet.meet(device, peer)
    exchange(peer, device, device.ipv4)


def test_a_reusable_key_sent_again_makes_no_second_device(tailnet: Tailnet) -> None:
    key = tailnet.api.auth_key(reusable=True)["key"]
    device = tailnet.login(tailnet.client(NEW, "again"), "again", key=key)
    device_id = device.device_id
    device.stop()
    device.start()
    tailnet.login(device, "again", key=key)
    assert set(tailnet.api.devices()) == {device_id}


@pytest.mark.parametrize("end", ["SIGTERM", "SIGKILL"])
def test_clients_come_back_after_a_restart_of_the_server(tailnet: Tailnet, end: str) -> None:
    old, new = tailnet.join(OLD, "old"), tailnet.join(NEW, "new")
    far = tailnet.client(NEW, "far")
    far.host.restrict_udp_to(tailnet.server.host.address)
    tailnet.login(far, "far")
    clients = (old, new, far)
    tailnet.meet(*clients)
    old.ping(new.ipv4, direct=True)
    old.ping(far.ipv4, direct=False)
    tailnet.api.set_dns(preferences={"magicDNS": True}, searchPaths=["kept.example"])
    unused = tailnet.api.auth_key()
    before = identities(tailnet)
    # The last acknowledged change before the end.
    tailnet.api.ok("POST", f"/device/{new.device_id}/name", {"name": "kept"})

    tailnet.server.stop() if end == "SIGTERM" else tailnet.server.kill()
    try:
        # What is connected directly needs no server.
        exchange(old, new, new.ipv4)
    finally:
        tailnet.server.start()

    # Their streams carry changes again. Being shown online would prove nothing: devices that were
    # online before a restart count as online until they had time to come back.
    tailnet.api.ok("POST", f"/device/{old.device_id}/name", {"name": "changed"})
    for viewer in (new, far):
        viewer.wait_for_peer(
            old.device_id, "a later change", lambda p: p["DNSName"].startswith("changed."), deadline=60
        )
    until("the device knows it", lambda: old.dns_name.startswith("changed."), deadline=60, also=old.tail)
    tailnet.meet(*clients)
    assert {client.state for client in clients} == {"Running"}
    assert all(device["connectedToControl"] for device in tailnet.api.devices().values())
    assert tailnet.api.device(new.device_id)["name"].startswith("kept.")
    assert identities(tailnet) == before
    assert tailnet.api.ok("GET", "/tailnet/-/dns/searchpaths") == {"searchPaths": ["kept.example"]}

    until("the relay carries traffic", lambda: exchange(old, far, far.ipv4) is None, deadline=30)
    old.ping(far.ipv4, direct=False)

    # A key made before still works; the DNS setting is put back.
    tailnet.login(tailnet.client(NEW, "late"), "late", key=unused["key"])
    tailnet.api.set_dns(preferences={"magicDNS": True})


def identities(tailnet: Tailnet) -> dict[str, dict]:
    """What must outlive a restart, of every device; its name is looked at apart."""
    kept = (
        "addresses",
        "authorized",
        "created",
        "expires",
        "hostname",
        "machineKey",
        "nodeKey",
        "user",
    )
    return {
        device_id: {name: device[name] for name in kept}
        for device_id, device in tailnet.api.devices().items()
    }
