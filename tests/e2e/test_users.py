"""Users: what becomes of a suspended user's devices while they are connected."""

import subprocess
import time

from conftest import NEW, OLD, Tailnet
from harness.client import Client, exchange
from harness.wait import until

# What the documents promise, from the answer to the request on.
AT_ONCE = 1.0


def users_device(tailnet: Tailnet, login: str, version: str) -> tuple[str, Client]:
    """A new user's id, and a device of theirs."""
    user = tailnet.api.ok("POST", "/tailnet/-/users", {"loginName": login})["id"]
    create = {"devices": {"create": {}}}
    key = tailnet.api.ok("POST", "/tailnet/-/keys", {"capabilities": create, "user": user})
    client = tailnet.client(version, "laptop")
    return user, tailnet.login(client, "laptop", key=key["key"])


def is_reached(client: Client, address: str) -> bool:
    """Whether an answer to one ICMP request comes."""
    command = client.inside("ping", "-c", "1", "-W", "1", address)
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_suspended_users_device_loses_its_connections_at_once_and_has_them_back(
    tailnet: Tailnet,
) -> None:
    bob, laptop = users_device(tailnet, "bob@example.com", NEW)
    other = tailnet.join(OLD, "other")
    tailnet.meet(laptop, other)
    exchange(laptop, other, other.ipv4)
    key = laptop.me["PublicKey"]

    tailnet.api.ok("POST", f"/users/{bob}/suspend")
    suspended = time.monotonic()
    other.wait_until_gone(laptop.device_id, deadline=AT_ONCE)
    until("the laptop has no peers", lambda: not laptop.status().get("Peer"), deadline=AT_ONCE)
    assert time.monotonic() - suspended < 2 * AT_ONCE
    # Not even over the session that the two had.
    assert not is_reached(laptop, other.ipv4)
    assert not is_reached(other, laptop.ipv4)
    # The client stays logged in, and says why it has nobody.
    assert laptop.state == "Running"
    until(
        "the laptop says why",
        lambda: any("suspended" in text for text in laptop.health),
        also=laptop.tail,
    )
    shown = tailnet.api.ok("GET", f"/users/{bob}")
    assert (shown["status"], shown["deviceCount"]) == ("suspended", 1)

    tailnet.api.ok("POST", f"/users/{bob}/restore")
    laptop.wait_for_peer(other.device_id, "is back", lambda peer: peer, deadline=AT_ONCE)
    other.wait_for_peer(laptop.device_id, "is back", lambda peer: peer, deadline=AT_ONCE)
    assert laptop.me["PublicKey"] == key, "nobody had to log in again"
    exchange(laptop, other, other.ipv4)
    exchange(other, laptop, laptop.ipv4)
    tailnet.api.ok("POST", f"/users/{bob}/delete")


def test_a_deleted_users_device_is_logged_out(tailnet: Tailnet) -> None:
    eve, laptop = users_device(tailnet, "eve@example.com", OLD)
    other = tailnet.join(NEW, "other")
    tailnet.meet(laptop, other)
    device = laptop.device_id
    tailnet.api.ok("POST", f"/users/{eve}/delete")
    other.wait_until_gone(device, deadline=AT_ONCE)
    laptop.wait_for_state("NeedsLogin")
