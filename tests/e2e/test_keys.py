"""Auth keys of every kind, and what their users see."""

import re
from collections.abc import Callable

import pytest

from conftest import NEW, VERSIONS, SetPolicy, Tailnet, accept
from harness.api import Api
from harness.client import Client, Refused
from harness.wait import until


def refusal(tailnet: Tailnet, client: Client, key: str) -> str:
    """What `tailscale up` tells its user when the key is not accepted."""
    with pytest.raises(Refused) as caught:
        client.up(tailnet.server.url, key, "refused", seconds=10)
    text = str(caught.value)
    # The server's own sentence arrived, not just a time-out.
    assert text.startswith("backend error: "), text
    assert client.state != "Running"
    return text.removeprefix("backend error: ")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_one_off_key_admits_one_device(tailnet: Tailnet, version: str) -> None:
    key = tailnet.api.auth_key()
    first = tailnet.login(tailnet.client(version, "first"), "first", key=key["key"])
    second = tailnet.client(version, "second")
    assert "used" in refusal(tailnet, second, key["key"])
    assert [d["nodeId"] for d in tailnet.api.devices().values()] == [first.device_id]
    # It stays readable, but is no longer one of the active keys.
    assert tailnet.api.key(key["id"])["invalid"] is True
    assert key["id"] not in active(tailnet.api)
    # A good key gets the refused machine in.
    tailnet.login(second, "second")
    tailnet.meet(first, second)


def test_a_reusable_key_admits_many(tailnet: Tailnet) -> None:
    key = tailnet.api.auth_key(reusable=True)
    clients = [tailnet.login(tailnet.client(version, "many"), "many", key=key["key"]) for version in VERSIONS]
    tailnet.meet(*clients)
    assert len(tailnet.api.devices()) == 2
    assert "invalid" not in tailnet.api.key(key["id"])
    assert key["id"] in active(tailnet.api)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_ephemeral_device_is_gone_after_its_logout(tailnet: Tailnet, version: str) -> None:
    peer = tailnet.join(NEW, "watching")
    key = tailnet.api.auth_key(ephemeral=True)
    device = tailnet.login(tailnet.client(version, "passing"), "passing", key=key["key"])
    tailnet.meet(peer, device)
    device_id = device.device_id
    assert tailnet.api.device(device_id)["isEphemeral"] is True

    # The old release sees its own tunnel go down as a network change and may report that the
    # logout failed, although the server has done it.
    device.cli("logout", check=False)
    peer.wait_until_gone(device_id)
    until("it is no longer listed", lambda: device_id not in tailnet.api.devices())
    assert tailnet.api.call("GET", f"/device/{device_id}").status == 404


def test_a_device_that_is_not_ephemeral_stays_after_its_logout(tailnet: Tailnet) -> None:
    device = tailnet.join(NEW, "staying")
    device_id = device.device_id
    device.cli("logout", check=False)
    until(
        "the server has logged it out",
        lambda: tailnet.api.device(device_id)["connectedToControl"] is False,
        deadline=30,
    )
    assert device_id in tailnet.api.devices()


def test_a_device_of_a_pre_approved_key_is_approved(tailnet: Tailnet) -> None:
    key = tailnet.api.auth_key(preauthorized=True)
    device = tailnet.login(tailnet.client(NEW, "approved"), "approved", key=key["key"])
    assert tailnet.api.key(key["id"])["capabilities"]["devices"]["create"]["preauthorized"] is True
    assert tailnet.api.device(device.device_id)["authorized"] is True


@pytest.mark.parametrize("version", VERSIONS)
def test_only_a_pre_approved_key_needs_no_approval_where_devices_need_it(
    tailnet: Tailnet, version: str
) -> None:
    settings = "/tailnet/-/settings"
    tailnet.api.ok("PATCH", settings, {"devicesApprovalOn": True})
    try:
        approved = tailnet.login(
            tailnet.client(version, "approved"),
            "approved",
            key=tailnet.api.auth_key(preauthorized=True)["key"],
        )
        assert tailnet.api.device(approved.device_id)["authorized"] is True
        waiting = tailnet.client(version, "waiting")
        with pytest.raises(Refused):
            waiting.up(tailnet.server.url, tailnet.api.auth_key()["key"], "waiting", seconds=3)
        waiting.wait_for_state("NeedsMachineAuth")
        assert approved.peer(waiting.device_id) is None

        tailnet.api.ok("POST", f"/device/{waiting.device_id}/authorized", {"authorized": True})
        waiting.wait_for_state("Running")
        tailnet.meet(approved, waiting)
    finally:
        tailnet.api.ok("PATCH", settings, {"devicesApprovalOn": False})


def _expired(api: Api) -> str:
    key = api.ok("POST", "/tailnet/-/keys", {"capabilities": {"devices": {}}, "expirySeconds": 1})
    until("the key has expired", lambda: api.key(key["id"]).get("invalid"))
    assert "revoked" not in api.key(key["id"])
    assert key["id"] not in active(api)
    return key["key"]


def _revoked(api: Api) -> str:
    key = api.auth_key(reusable=True)
    api.ok("DELETE", f"/tailnet/-/keys/{key['id']}")
    shown = api.key(key["id"])
    assert shown["invalid"] is True and shown["revoked"]
    assert key["id"] not in active(api)
    return key["key"]


def _unknown(api: Api) -> str:
    key = api.auth_key(reusable=True)["key"]
    # The same length, another secret.
    return key[:-6] + ("AAAAAA" if not key.endswith("AAAAAA") else "BBBBBB")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("make", "reason"),
    [(_expired, "expired"), (_revoked, "revoked"), (_unknown, "invalid|not valid|not known|unknown")],
    ids=["expired", "revoked", "unknown"],
)
def test_a_key_that_is_no_longer_good_is_refused_with_its_reason(
    tailnet: Tailnet, version: str, make: Callable[[Api], str], reason: str
) -> None:
    text = refusal(tailnet, tailnet.client(version, "refused"), make(tailnet.api))
    assert re.search(reason, text), text
    assert tailnet.api.devices() == {}


def test_revoking_a_key_leaves_its_devices_alone(tailnet: Tailnet) -> None:
    key = tailnet.api.auth_key(reusable=True)
    clients = [tailnet.login(tailnet.client(version, "kept"), "kept", key=key["key"]) for version in VERSIONS]
    tailnet.api.ok("DELETE", f"/tailnet/-/keys/{key['id']}")
    tailnet.meet(*clients)
    assert {client.state for client in clients} == {"Running"}
    assert set(tailnet.api.devices()) == {client.device_id for client in clients}


def active(api: Api) -> set[str]:
    return {key["id"] for key in api.ok("GET", "/tailnet/-/keys")["keys"]}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_secret_of_an_oauth_client_admits_a_tagged_device(
    tailnet: Tailnet, set_policy: SetPolicy, version: str
) -> None:
    owners = {"tag:operator": [], "tag:ci": ["tag:operator"]}
    set_policy({"tagOwners": owners, "acls": [accept("*", "*:*")]})
    made = {"keyType": "client", "scopes": ["auth_keys"], "tags": ["tag:operator"]}
    made = tailnet.api.ok("POST", "/tailnet/-/keys", made)
    # `tailscale up` gets an access token and makes an auth key by itself.
    key = f"{made['key']}?baseURL={tailnet.server.url}&ephemeral=false&preauthorized=true"
    device = tailnet.login(tailnet.client(version, "minted"), "minted", "--advertise-tags=tag:ci", key=key)
    shown = tailnet.api.device(device.device_id)
    assert shown["tags"] == ["tag:ci"]
    assert shown["authorized"] is True
    tailnet.meet(device, tailnet.join(NEW, "beside"))

    # Tags that the client may not give, and a client that was revoked.
    other = tailnet.client(version, "other")
    with pytest.raises(Refused, match="not permitted"):
        other.up(tailnet.server.url, key, "other", "--advertise-tags=tag:wrong", seconds=10)
    tailnet.api.ok("DELETE", f"/tailnet/-/keys/{made['id']}")
    with pytest.raises(Refused, match="API token invalid"):
        other.up(tailnet.server.url, key, "other", "--advertise-tags=tag:ci", seconds=10)
    # The device that it let in stays.
    assert tailnet.api.device(device.device_id)["tags"] == ["tag:ci"]
