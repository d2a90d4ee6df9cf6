"""Users: what becomes of a suspended user's devices while they are connected."""

import subprocess
import time

from conftest import NEW, OLD, SetPolicy, Tailnet
from harness.client import Client, exchange
from harness.wait import until
from test_ssh import rules, ssh, wait_for_rules

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


def test_an_ssh_session_of_a_suspended_user_ends_on_its_target(
    tailnet: Tailnet, set_policy: SetPolicy
) -> None:
    own = {"src": ["autogroup:member"], "dst": ["tag:box"], "users": ["root"]}
    policy = rules({"action": "accept", **own})
    set_policy({**policy, "tagOwners": {"tag:box": []}})
    kim, laptop = users_device(tailnet, "kim@example.com", OLD)
    target = tailnet.join(NEW, "target", "--ssh")
    tailnet.api.ok("POST", f"/device/{target.device_id}/tags", {"tags": ["tag:box"]})
    tailnet.meet(laptop, target)
    wait_for_rules(target, 1)
    with ssh(laptop, target, "echo ready; sleep 20") as session:
        session.until_it_says("ready")
        tailnet.api.ok("POST", f"/users/{kim}/suspend")
        # The laptop cannot be told any more: the target is asked, in its client's own words.
        until(
            "the session has ended",
            lambda: "session no longer valid per new SSH policy; closing" in target.tail(),
            deadline=AT_ONCE,
        )
    tailnet.api.ok("POST", f"/users/{kim}/restore")
    tailnet.meet(laptop, target)
    wait_for_rules(target, 1)
    with ssh(laptop, target, "echo done") as session:
        assert session.end() == 0, session.output
    tailnet.api.ok("POST", f"/users/{kim}/delete")


def test_a_deleted_users_device_is_logged_out(tailnet: Tailnet) -> None:
    eve, laptop = users_device(tailnet, "eve@example.com", OLD)
    other = tailnet.join(NEW, "other")
    tailnet.meet(laptop, other)
    device = laptop.device_id
    tailnet.api.ok("POST", f"/users/{eve}/delete")
    other.wait_until_gone(device, deadline=AT_ONCE)
    laptop.wait_for_state("NeedsLogin")
