"""What one device says costs another nothing: a hostile one beside real clients of both ends."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import NEW, OLD, SetPolicy, Tailnet
from harness.api import Api
from harness.client import Client
from harness.network import Network, die_with_parent, run
from harness.process import environment
from harness.wait import until

# Each cost every peer its map at some time: another JSON type, or a number out of the type's range.
HOSTILE: list[dict[str, Any]] = [
    {"Hostname": "evil", "OS": 5},
    {"Hostname": {"a": 1}, "OS": ["linux"], "App": True},
    {"Services": [{"Proto": "peerapi4", "Port": 70000}, {"Proto": "peerapi6", "Port": "1"}]},
    {"Hostname": "evil", "Services": "none", "sshHostKeys": {"a": 1}},
    {"Hostname": "evil", "sshHostKeys": [1, "ssh-ed25519 AAAA\nother ssh-ed25519 BBBB"]},
    {"Hostname": "evil", "ShareeNode": "yes", "AppConnector": 1, "IngressEnabled": [], "WireIngress": "x"},
    {"Hostname": "evil", "Location": [1, 2]},
    {"Hostname": "evil", "Location": {"Latitude": "north", "Priority": 2**63}},
    {"Hostname": "evil\n\u202e\x1b[31m", "NetInfo": {"PreferredDERP": 2**32 - 1}},
    {"Hostname": "evil", "NetInfo": {"DERPLatency": {"900-v4": 1e306, "900-v6": -1}}},
    {"Hostname": "evil", "NetInfo": {"PreferredDERP": 2**31, "UPnP": "x", "DERPLatency": [1]}},
]


class Hostile:
    """A device that says what it is told to say."""

    def __init__(self, network: Network, url: str, directory: Path) -> None:
        self._host = network.host("hostile")
        self._network = network
        directory.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            self._host.enter(os.environ["BOWLINE_E2E_DEVICE"], url, "66"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(directory),
            preexec_fn=die_with_parent,
        )

    def ask(self, path: str, **body: Any) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps({"path": path, "body": body}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._network.remove(self._host)


@pytest.fixture
def hostile(tailnet: Tailnet, network: Network, scratch: Path) -> Iterator[Hostile]:
    device = Hostile(network, tailnet.server.url, scratch / "hostile")
    yield device
    device.close()


@pytest.fixture
def plain_dns(api: Api) -> Iterator[None]:
    """MagicDNS and nothing else is back after the test."""
    yield
    api.set_dns(preferences={"magicDNS": True})


@pytest.mark.usefixtures("plain_dns")
def test_what_one_device_says_costs_no_peer_its_map(tailnet: Tailnet, hostile: Hostile) -> None:
    old, new = tailnet.join(OLD, "old"), tailnet.join(NEW, "new")
    tailnet.meet(old, new)
    before = set(tailnet.api.devices())
    key = tailnet.api.auth_key(reusable=True)["key"]
    joined = hostile.ask("/machine/register", Auth={"AuthKey": key}, Hostinfo=HOSTILE[0])
    assert (joined["status"], joined["body"]["Error"]) == (200, ""), joined
    evil = (set(tailnet.api.devices()) - before).pop()
    for client in (old, new):
        client.wait_for_peer(evil, "it knows the hostile device", lambda _: True)
    for number, hostinfo in enumerate(HOSTILE):
        endpoints = [f"192.0.2.{number + 1}:41641", "[fe80::1%eth0]:1", "nowhere"]
        said = hostile.ask("/machine/map", OmitPeers=True, Hostinfo=hostinfo, Endpoints=endpoints)
        assert said["status"] == 200, said
        # Both are told of something else after it.
        domain = f"after{number}.example"
        tailnet.api.set_dns(searchPaths=[domain])
        for client in (old, new):
            until(
                f"{client.version} is told of {domain}",
                lambda client=client, domain=domain: domain in json.dumps(client.netmap()["DNS"]),
                also=client.tail,
            )
    tailnet.meet(old, new)
    # A client that starts again gets its netmap, with the hostile device in it.
    for client in (old, new):
        client.stop()
        client.start()
        client.wait_for_state("Running", deadline=30)
        client.wait_for_peer(evil, "it knows the hostile device", lambda _: True)
    tailnet.meet(old, new)
    old.ping(new.ipv4, direct=True)
    shown = tailnet.api.device(evil, fields="all")
    assert shown["clientConnectivity"]["latency"] == {}, shown


def ask_for_tags(client: Client, *tags: str) -> None:
    """Changes the tags that a client asks for while it runs: no flag of these releases does."""
    prefs = json.dumps({"AdvertiseTags": tags, "AdvertiseTagsSet": True})
    url = "http://local-tailscaled.sock/localapi/v0/prefs"
    run(["curl", "-fsS", "--unix-socket", client.socket_path, "-X", "PATCH", url, "-d", prefs])


def test_a_client_is_told_that_its_tags_are_refused(tailnet: Tailnet, set_policy: SetPolicy) -> None:
    set_policy({
        "tagOwners": {"tag:a": [], "tag:b": ["tag:a"]},
        "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}],
    })  # fmt: skip
    create = {"reusable": True, "tags": ["tag:a"]}
    key = tailnet.api.ok("POST", "/tailnet/-/keys", {"capabilities": {"devices": {"create": create}}})["key"]
    for version in (OLD, NEW):
        device = tailnet.client(version, "tagged")
        tailnet.login(device, "tagged", "--advertise-tags=tag:a", key=key)
        ask_for_tags(device, "tag:a", "tag:typo")
        until(
            f"{version} says that tag:typo is refused",
            lambda device=device: "tag:typo" in " ".join(device.health),
            also=device.tail,
        )
        assert device.state == "Running"
        assert tailnet.api.device(device.device_id)["tags"] == ["tag:a"]
        ask_for_tags(device, "tag:b")
        shown = f"/device/{device.device_id}"
        until("it has its new tag", lambda shown=shown: tailnet.api.ok("GET", shown)["tags"] == ["tag:b"])
        until(f"{version} is content", lambda device=device: "tag:typo" not in " ".join(device.health))
        assert device.state == "Running"
