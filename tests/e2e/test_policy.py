"""The policy file is what devices obey: it opens and shuts, live, for every kind of rule."""

import json
import socket
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from conftest import NEW, OLD, VERSIONS, SetPolicy, Tailnet, accept
from harness.client import Client, exchange
from harness.wait import until


class Service:
    """Something on a device that answers on one port, over TCP or UDP."""

    def __init__(self, device: Client, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> None:
        self._socket = device.host.socket(socket.AF_INET, kind)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((device.ipv4, port))
        self._socket.settimeout(0.2)
        if kind == socket.SOCK_STREAM:
            self._socket.listen(64)

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def hears_datagram(self, text: bytes) -> bool:
        try:
            while True:
                if self._socket.recv(2048) == text:
                    return True
        except TimeoutError:
            return False


def connects(client: Client, address: str, port: int, patience: float = 2.0) -> bool:
    """Whether a TCP connection opens within some seconds. What a filter drops is never answered."""
    with client.host.socket(socket.AF_INET, socket.SOCK_STREAM) as caller:
        caller.settimeout(patience)
        try:
            caller.connect((address, port))
        except (TimeoutError, OSError):
            return False
        return True


def opens(client: Client, address: str, port: int) -> None:
    until(f"port {port} opens", lambda: connects(client, address, port), deadline=20, also=client.tail)


def shuts(client: Client, address: str, port: int) -> None:
    until(
        f"port {port} shuts", lambda: not connects(client, address, port), deadline=20, also=client.tail
    )


@pytest.mark.parametrize(("here", "there"), [(OLD, NEW), (NEW, OLD)], ids=VERSIONS)
def test_a_rule_opens_one_port_and_nothing_else(
    tailnet: Tailnet, set_policy: SetPolicy, here: str, there: str
) -> None:
    caller, target = tailnet.join(here, "caller"), tailnet.join(there, "target")
    tailnet.meet(caller, target)
    with Service(target, 8001), Service(target, 8002), Service(caller, 8001):
        opens(caller, target.ipv4, 8002)
        set_policy({"acls": [accept(caller.ipv4, f"{target.ipv4}:8001")]})
        shuts(caller, target.ipv4, 8002)
        opens(caller, target.ipv4, 8001)
        # The rule is for one direction, and peers see each other in both.
        assert not connects(target, caller.ipv4, 8001)
        assert target.peer(caller.device_id) and caller.peer(target.device_id)
        # An edit beside the rule changes nothing for it; another rule opens the other port.
        set_policy(
            {"acls": [accept(target.ipv4, f"{caller.ipv4}:9"), accept(caller.ipv4, f"{target.ipv4}:8001-8002")]}
        )
        opens(caller, target.ipv4, 8002)
        assert connects(caller, target.ipv4, 8001)


def test_who_has_no_rule_in_common_is_not_there_for_the_other(
    tailnet: Tailnet, set_policy: SetPolicy
) -> None:
    old, new, third = (tailnet.join(version, name) for version, name in
                       ((OLD, "old"), (NEW, "new"), (NEW, "third")))  # fmt: skip
    tailnet.meet(old, new, third)
    set_policy({"acls": [accept(old.ipv4, f"{new.ipv4}:*")]})
    for viewer in (old, new):
        viewer.wait_until_gone(third.device_id)
    until("the third sees nobody", lambda: not third.status().get("Peer"), also=third.tail)
    assert old.peer(new.device_id) and new.peer(old.device_id)
    # Back, without a restart of anything.
    set_policy({"acls": [accept("*", "*:*")]})
    tailnet.meet(old, new, third)
    exchange(third, old, old.ipv4)


def test_a_policy_change_cuts_an_open_connection(tailnet: Tailnet, set_policy: SetPolicy) -> None:
    caller, target = tailnet.join(NEW, "caller"), tailnet.join(OLD, "target")
    tailnet.meet(caller, target)
    listener = target.host.socket(socket.AF_INET, socket.SOCK_STREAM)
    stream = caller.host.socket(socket.AF_INET, socket.SOCK_STREAM)
    with listener, stream, Service(target, 5353, socket.SOCK_DGRAM) as datagrams:
        listener.bind((target.ipv4, 7000))
        listener.listen()
        stream.settimeout(15)
        stream.connect((target.ipv4, 7000))
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(1)

            def passes(text: bytes) -> bool:
                stream.sendall(text)
                try:
                    return text in accepted.recv(65536)
                except TimeoutError:
                    return False

            until("bytes pass", lambda: passes(b"before"))

            def datagram() -> bool:
                with caller.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                    sender.sendto(b"datagram", (target.ipv4, 5353))
                return datagrams.hears_datagram(b"datagram")

            until("datagrams pass", datagram)
            # Both still see each other, but datagrams are let in no more.
            set_policy({"acls": [accept(caller.ipv4, f"{target.ipv4}:7000")]})
            until("datagrams are dropped", lambda: not any(datagram() for _ in range(5)))
            assert passes(b"between")
            # Nothing connects them any more.
            set_policy({"acls": [accept(caller.ipv4, f"{caller.ipv4}:1")]})
            caller.wait_until_gone(target.device_id)
            target.wait_until_gone(caller.device_id)
            assert not passes(b"after")


def test_a_rule_with_a_posture_shuts_when_the_attribute_expires(
    tailnet: Tailnet, set_policy: SetPolicy
) -> None:
    caller, target = tailnet.join(OLD, "caller"), tailnet.join(NEW, "target")
    tailnet.meet(caller, target)
    with Service(target, 8001):
        set_policy(
            {
                "postures": {"posture:cleared": ["custom:cleared == true", "node:os == 'linux'"]},
                "acls": [accept("*", f"{target.ipv4}:8001", srcPosture=["posture:cleared"])],
            }
        )
        caller.wait_until_gone(target.device_id)
        shuts(caller, target.ipv4, 8001)
        expiry = datetime.now(UTC) + timedelta(seconds=12)
        tailnet.api.ok(
            "POST",
            f"/device/{caller.device_id}/attributes/custom:cleared",
            {"value": True, "expiry": expiry.strftime("%Y-%m-%dT%H:%M:%SZ")},
        )
        opens(caller, target.ipv4, 8001)
        assert datetime.now(UTC) < expiry, "it opened too late for this test"
        caller.wait_until_gone(target.device_id, deadline=20)
        assert datetime.now(UTC) >= expiry - timedelta(seconds=1)
        shuts(caller, target.ipv4, 8001)
        attributes = tailnet.api.ok("GET", f"/device/{caller.device_id}/attributes")["attributes"]
        assert "custom:cleared" not in attributes


def test_tags_give_access_and_take_it(tailnet: Tailnet, set_policy: SetPolicy) -> None:
    caller, target = tailnet.join(NEW, "caller"), tailnet.join(OLD, "target")
    tailnet.meet(caller, target)
    set_policy(
        """{
            // Only machines that are tagged may reach the web servers.
            "tagOwners": {"tag:web": ["autogroup:admin"], "tag:batch": ["autogroup:admin"]},
            "acls": [
                {"action": "accept", "src": ["tag:batch"], "dst": ["tag:web:8001"]},
            ],
        }"""
    )
    caller.wait_until_gone(target.device_id)
    with Service(target, 8001):
        for device, tag in ((target, "tag:web"), (caller, "tag:batch")):
            tailnet.api.ok("POST", f"/device/{device.device_id}/tags", {"tags": [tag]})
        caller.wait_for_peer(target.device_id, "the tag", lambda peer: peer.get("Tags") == ["tag:web"])
        opens(caller, target.ipv4, 8001)
        tailnet.api.ok("POST", f"/device/{caller.device_id}/tags", {"tags": ["tag:web"]})
        caller.wait_until_gone(target.device_id)
        shuts(caller, target.ipv4, 8001)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_tagged_key_makes_a_tagged_device(
    tailnet: Tailnet, set_policy: SetPolicy, version: str
) -> None:
    set_policy({"tagOwners": {"tag:ci": []}, "acls": [accept("*", "*:*")]})
    key = tailnet.api.ok(
        "POST", "/tailnet/-/keys", {"capabilities": {"devices": {"create": {"tags": ["tag:ci"]}}}}
    )
    device = tailnet.login(tailnet.client(version, "worker"), "worker", key=key["key"])
    assert device.me["Tags"] == ["tag:ci"]
    shown = tailnet.api.device(device.device_id)
    assert shown["tags"] == ["tag:ci"] and shown["keyExpiryDisabled"] is True


def test_routes_and_exit_nodes_are_approved_by_the_policy(
    tailnet: Tailnet, set_policy: SetPolicy
) -> None:
    set_policy(
        {
            "tagOwners": {"tag:router": []},
            "autoApprovers": {"routes": {"10.20.0.0/16": ["tag:router"]}, "exitNode": ["tag:router"]},
            "acls": [accept("*", "*:*")],
        }
    )
    key = tailnet.api.ok(
        "POST", "/tailnet/-/keys", {"capabilities": {"devices": {"create": {"tags": ["tag:router"]}}}}
    )
    viewer = tailnet.join(NEW, "viewer")
    router = tailnet.login(
        tailnet.client(OLD, "router"),
        "router",
        "--advertise-routes=10.20.1.0/24,10.30.0.0/16",
        "--advertise-exit-node",
        key=key["key"],
    )
    viewer.wait_for_peer(
        router.device_id,
        "the approved route",
        lambda peer: "10.20.1.0/24" in (peer.get("PrimaryRoutes") or []) and peer.get("ExitNodeOption"),
    )
    routes = tailnet.api.ok("GET", f"/device/{router.device_id}/routes")
    assert sorted(routes["enabledRoutes"]) == ["0.0.0.0/0", "10.20.1.0/24", "::/0"]
    assert "10.30.0.0/16" in routes["advertisedRoutes"]
    # One that it advertises later, too.
    router.cli("set", "--advertise-routes=10.20.1.0/24,10.20.2.0/24,0.0.0.0/0,::/0")
    viewer.wait_for_peer(
        router.device_id, "the new route", lambda peer: "10.20.2.0/24" in (peer.get("PrimaryRoutes") or [])
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_a_grant_shows_its_capabilities_to_the_application(
    tailnet: Tailnet, set_policy: SetPolicy, version: str
) -> None:
    caller, target = tailnet.join(OLD, "caller"), tailnet.join(version, "target")
    set_policy(
        {
            "grants": [
                {"src": ["*"], "dst": ["*"], "ip": ["*"]},
                {
                    "src": [caller.ipv4],
                    "dst": [target.ipv4],
                    "app": {"example.com/cap/sql": [{"role": "reader"}]},
                },
            ]
        }
    )

    def granted() -> bool:
        who = json.loads(target.cli("whois", "--json", caller.ipv4).stdout)
        return (who.get("CapMap") or {}).get("example.com/cap/sql") == [{"role": "reader"}]

    until("the application is told", granted, also=target.tail)


def test_node_attributes_reach_the_devices_that_they_name(tailnet: Tailnet, set_policy: SetPolicy) -> None:
    one, two = tailnet.join(NEW, "one"), tailnet.join(OLD, "two")
    set_policy(
        {
            "acls": [accept("*", "*:*")],
            "nodeAttrs": [{"target": [one.ipv4], "attr": ["custom:test"]}],
            "randomizeClientPort": True,
        }
    )

    def attributes(device: Client) -> set[str]:
        return set(device.netmap()["SelfNode"].get("CapMap") or {})

    until("one has it", lambda: "custom:test" in attributes(one), also=one.tail)
    until("both have the setting", lambda: "randomize-client-port" in attributes(two), also=two.tail)
    assert "custom:test" not in attributes(two)


def test_a_refused_policy_changes_nothing(tailnet: Tailnet, set_policy: SetPolicy) -> None:
    caller, target = tailnet.join(NEW, "caller"), tailnet.join(OLD, "target")
    tailnet.meet(caller, target)
    before = set_policy({"acls": [accept(caller.ipv4, f"{target.ipv4}:8001")]})
    with Service(target, 8001):
        opens(caller, target.ipv4, 8001)
        refused = tailnet.api.call(
            "POST",
            "/tailnet/-/acl",
            {"acls": [], "tests": [{"src": caller.ipv4, "accept": [f"{target.ipv4}:8001"]}]},
        )
        assert (refused.status, refused.message) == (400, "test(s) failed")
        assert connects(caller, target.ipv4, 8001)
        now = tailnet.api.call("GET", "/tailnet/-/acl")
        assert now.headers["etag"] == before.headers["etag"]


def test_the_operator_can_ask_why(tailnet: Tailnet, set_policy: SetPolicy) -> None:
    caller, target = tailnet.join(NEW, "caller"), tailnet.join(OLD, "target")
    set_policy('{\n\t"acls": [\n\t\t{"action": "accept", "src": ["%s"], "dst": ["%s:8001"]},\n\t],\n}\n'
               % (caller.ipv4, target.ipv4))  # fmt: skip

    def explain(port: int) -> dict[str, Any]:
        question = {"src": caller.ipv4, "dst": f"{target.ipv4}:{port}"}
        return tailnet.api.ok("POST", "/tailnet/-/acl/explain", question)

    allowed, denied = explain(8001), explain(8002)
    assert (allowed["allowed"], denied["allowed"]) == (True, False)
    assert allowed["pairs"][0]["rules"][0]["line"] == 3
