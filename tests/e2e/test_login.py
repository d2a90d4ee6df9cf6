"""Devices without an auth key wait until somebody lets them in; tags are asked for and checked."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from conftest import NEW, OLD, VERSIONS, SetPolicy, Tailnet, accept
from harness.api import Api
from harness.client import Client, Refused
from harness.process import environment
from harness.server import OWNER
from harness.wait import until


@contextmanager
def going_up(client: Client, url: str, hostname: str, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """`tailscale up` without an auth key, which waits for its user."""
    command = client.inside(
        client.command, f"--socket={client.socket_path}", "up",
        f"--login-server={url}", f"--hostname={hostname}", "--timeout=60s", *flags,
    )  # fmt: skip
    process = subprocess.Popen(
        command,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(client.socket_path.parent),
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def code(client: Client, server_url: str, *, other_than: str = "") -> str:
    """The code of the address that the device shows."""
    front = f"{server_url}/login/"

    def look() -> str:
        url = client.status()["AuthURL"]
        assert url.startswith(front), url
        found = url.removeprefix(front)
        assert found != other_than, "still the old one"
        return found

    return until(f"{client.host.name} shows an address", look, deadline=20, also=client.tail)


def page(api: Api, client: Client, url: str) -> str:
    """What its user sees in a browser."""
    return client.host.run("curl", "-sS", "--max-time", "10", url).stdout


@pytest.mark.parametrize("version", VERSIONS)
def test_a_device_waits_until_it_is_confirmed(tailnet: Tailnet, version: str) -> None:
    client, url = tailnet.client(version, "laptop"), tailnet.server.url
    with going_up(client, url, "laptop") as up:
        found = code(client, url)
        assert f"bowline login approve {found}" in page(tailnet.api, client, f"{url}/login/{found}")
        waiting = tailnet.api.ok("GET", "/tailnet/-/logins")["logins"]
        assert [(login["code"], login["hostname"]) for login in waiting] == [(found, "laptop")]
        device = tailnet.api.ok("POST", f"/tailnet/-/logins/{found}", {"user": OWNER})
        client.wait_for_state("Running")
        output, _ = up.communicate(timeout=20)
        assert up.returncode == 0, output
        assert f"{url}/login/{found}" in output
    assert (client.device_id, device["user"]) == (device["nodeId"], OWNER)
    other = tailnet.join(NEW, "other")
    tailnet.meet(client, other)
    # A restart needs nobody.
    client.stop()
    client.start().wait_for_state("Running")
    # When its key has expired it logs in again, as the same device.
    before = (client.device_id, client.ipv4)
    tailnet.api.ok("POST", f"/device/{client.device_id}/expire")
    client.wait_for_state("NeedsLogin")
    with going_up(client, url, "laptop") as up:
        again = code(client, url, other_than=found)
        waiting = tailnet.api.ok("GET", "/tailnet/-/logins")["logins"]
        assert [login["nodeId"] for login in waiting if login["code"] == again] == [before[0]]
        tailnet.api.ok("POST", f"/tailnet/-/logins/{again}", {})
        client.wait_for_state("Running")
        assert up.wait(20) == 0
    assert (client.device_id, client.ipv4) == before
    tailnet.meet(client, other)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_device_that_is_refused_says_so(tailnet: Tailnet, version: str) -> None:
    client, url = tailnet.client(version, "laptop"), tailnet.server.url
    with going_up(client, url, "laptop") as up:
        found = code(client, url)
        tailnet.api.ok("DELETE", f"/tailnet/-/logins/{found}")
        output, _ = up.communicate(timeout=30)
        assert up.returncode != 0
        assert "the login was refused" in output
    assert tailnet.api.ok("GET", "/tailnet/-/logins")["logins"] == []


@pytest.mark.parametrize("end", ["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_device_waits_through_a_restart_of_the_server(tailnet: Tailnet, version: str, end: str) -> None:
    client, server = tailnet.client(version, "laptop"), tailnet.server
    with going_up(client, server.url, "laptop") as up:
        found = code(client, server.url)
        server.stop() if end == "SIGTERM" else server.kill()
        server.start()
        # The address that its user was shown is good: nobody has to look at the device again.
        waiting = tailnet.api.ok("GET", "/tailnet/-/logins")["logins"]
        assert [(login["code"], login["hostname"]) for login in waiting] == [(found, "laptop")]
        tailnet.api.ok("POST", f"/tailnet/-/logins/{found}", {"user": OWNER})
        client.wait_for_state("Running")
        output, _ = up.communicate(timeout=20)
        assert up.returncode == 0, output
        assert output.count("/login/") == 1, output
    assert client.status()["AuthURL"] == ""


@pytest.mark.parametrize("version", VERSIONS)
def test_tags_are_given_to_who_may_have_them(
    tailnet: Tailnet, set_policy: SetPolicy, version: str
) -> None:
    set_policy({"tagOwners": {"tag:ci": [], "tag:web": ["tag:ci"]}, "acls": [accept("*", "*:*")]})
    client, url = tailnet.client(version, "worker"), tailnet.server.url
    # Of its own: the daemon goes on asking, and would tell the next `up` what became of that.
    refused = tailnet.client(version, "refused")
    with pytest.raises(Refused, match=r"requested tags \[tag:none\] are invalid or not permitted"):
        tailnet.login(refused, "refused", "--advertise-tags=tag:none")
    tailnet.login(client, "worker", "--advertise-tags=tag:ci")
    device = client.device_id
    assert client.me["Tags"] == ["tag:ci"]
    assert tailnet.api.device(device)["keyExpiryDisabled"] is True
    # Other tags, with another login; and back to its user. `up` ends as soon as the daemon runs,
    # which it does before: the login is over when the daemon has a map for its new node key.
    found = ""
    for tags in (["tag:web"], []):
        before = tailnet.api.device(device)["nodeKey"]
        with going_up(client, url, "worker", f"--advertise-tags={','.join(tags)}", "--force-reauth"):
            found = code(client, url, other_than=found)
            confirmed = tailnet.api.ok("POST", f"/tailnet/-/logins/{found}", {"user": OWNER})
            assert confirmed["nodeKey"] != before
            until(
                "a map for the new node key",
                lambda key=confirmed["nodeKey"]: (client.netmap() or {}).get("SelfNode", {}).get("Key") == key,
                also=client.tail,
            )
            client.wait_for_state("Running")
        assert (client.me.get("Tags") or []) == tags
    shown = tailnet.api.device(device)
    assert client.device_id == device
    assert (shown["user"], shown.get("tags"), shown["keyExpiryDisabled"]) == (OWNER, None, False)


def test_an_old_and_a_new_client_wait_beside_each_other(tailnet: Tailnet) -> None:
    old, new, url = tailnet.client(OLD, "old"), tailnet.client(NEW, "new"), tailnet.server.url
    with going_up(old, url, "old") as first, going_up(new, url, "new") as second:
        codes = [code(old, url), code(new, url)]
        for found in reversed(codes):
            tailnet.api.ok("POST", f"/tailnet/-/logins/{found}", {"user": OWNER})
        assert (first.wait(20), second.wait(20)) == (0, 0)
    tailnet.meet(old, new)
