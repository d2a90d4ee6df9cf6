"""Clients that are not there any more without having said so, and one that is there twice."""

import shutil
import time
from collections.abc import Iterator

import pytest

from conftest import NEW, OLD, Tailnet
from harness.network import Network
from harness.proxy import Proxy
from harness.wait import until

ROUTE = "10.44.0.0/24"


@pytest.mark.parametrize("version", [OLD, NEW])
def test_another_router_takes_over_from_one_whose_daemon_stands_still(tailnet: Tailnet, version: str) -> None:
    first = tailnet.join(version, "first", f"--advertise-routes={ROUTE}")
    second = tailnet.join(NEW, "second", f"--advertise-routes={ROUTE}")
    viewer = tailnet.join(NEW, "viewer", "--accept-routes")
    tailnet.meet(first, second, viewer)
    for router in (first, second):
        tailnet.api.ok("POST", f"/device/{router.device_id}/routes", {"routes": [ROUTE]})

    def routes_through(peer: dict) -> bool:
        return ROUTE in (peer.get("PrimaryRoutes") or [])

    ids = {first: first.device_id, second: second.device_id}
    until("one of them is primary", lambda: any(routes_through(viewer.peer(ids[it])) for it in ids))
    stopped, other = (first, second) if routes_through(viewer.peer(ids[first])) else (second, first)
    began = time.monotonic()
    stopped.pause()
    try:
        viewer.wait_for_peer(ids[other], "the other router as primary", routes_through, deadline=60)
        viewer.wait_for_peer(ids[stopped], "that it is offline", lambda p: not p["Online"], deadline=5)
        print(f"failed over after {time.monotonic() - began:.1f} s")
        assert not tailnet.api.device(ids[stopped])["connectedToControl"]
    finally:
        stopped.resume()
    viewer.wait_for_peer(ids[stopped], "it is back", lambda p: p["Online"], deadline=60)


@pytest.fixture
def proxy(network: Network, tailnet: Tailnet) -> Iterator[Proxy]:
    address = network.hub_address(9)
    proxy = Proxy(network.hub, address, (tailnet.server.host.address, 8080))
    yield proxy
    proxy.close()


def test_a_device_that_lost_its_power_behind_a_proxy_goes_offline(tailnet: Tailnet, proxy: Proxy) -> None:
    client = tailnet.client(NEW, "behind")
    client.up(proxy.url, tailnet.api.auth_key()["key"], "behind")
    client.wait_for_state("Running")
    device_id = client.device_id
    until("it is online", lambda: tailnet.api.device(device_id)["connectedToControl"])
    proxy.lose_clients()
    client.kill()
    began = time.monotonic()
    until("it is offline", lambda: not tailnet.api.device(device_id)["connectedToControl"], deadline=100)
    print(f"offline after {time.monotonic() - began:.1f} s")


def test_idle_clients_stay_online(tailnet: Tailnet) -> None:
    """They answer the pings: both releases, for longer than a silent one would be kept."""
    clients = [tailnet.join(OLD, "old"), tailnet.join(NEW, "new")]
    tailnet.meet(*clients)
    silent = 'bowline_control_connections_given_up_total{reason="silent"}'
    before = tailnet.server.metric(silent)
    end = time.monotonic() + 65
    until("more than a minute is over", lambda: time.monotonic() > end, deadline=90)
    assert all(tailnet.api.device(client.device_id)["connectedToControl"] for client in clients)
    assert tailnet.server.metric(silent) == before


def test_two_daemons_with_one_state_file_are_noticed(tailnet: Tailnet) -> None:
    device = tailnet.join(NEW, "device")
    device_id = device.device_id
    # Reconnects of one machine are not that.
    for _ in range(3):
        device.stop()
        device.start()
        device.wait_for_state("Running")
    assert not tailnet.api.device(device_id).get("multipleConnections")
    noticed = tailnet.server.metric("bowline_state_copies_noticed_total")

    copy = tailnet.client(NEW, "copy")
    copy.stop()
    device.stop()
    shutil.rmtree(copy.state_directory)
    shutil.copytree(device.state_directory, copy.state_directory)
    device.start()
    copy.start()
    until(
        "the API shows it",
        lambda: tailnet.api.device(device_id).get("multipleConnections") is True,
        deadline=60,
    )
    assert tailnet.server.metric("bowline_state_copies_noticed_total") == noticed + 1
    found = tailnet.api.ok("GET", "/tailnet/-/devices?multipleConnections=true")["devices"]
    assert [one["nodeId"] for one in found] == [device_id]
    # Slowed down: each has the stream for a while.
    opened = tailnet.server.metric("bowline_map_streams_total")
    end = time.monotonic() + 20
    until("they have fought for a while", lambda: time.monotonic() > end, deadline=30)
    assert tailnet.server.metric("bowline_map_streams_total") - opened <= 8
    log = tailnet.server.log()
    assert log.count("two machines use the same node key") == noticed + 1
