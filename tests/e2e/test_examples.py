"""Every request example of the founding documents, sent with `curl`; `examples*.toml` have them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from conftest import HERE, NEW, Tailnet
from harness import examples
from harness.api import Api
from harness.client import Client
from harness.examples import Call, Example, Matcher
from harness.server import TAILNET
from harness.wait import until

EXAMPLES = examples.load(HERE)
ROUTES = ["10.0.0.0/16", "192.168.1.0/24"]


@pytest.fixture(scope="module")
def device(shared_tailnet: Tailnet) -> Client:
    device = shared_tailnet.join(NEW, "subject", f"--advertise-routes={','.join(ROUTES)}")

    def complete() -> bool:
        shown = shared_tailnet.api.device(device.device_id, fields="all")
        return shown["advertisedRoutes"] == ROUTES and bool(shown["clientConnectivity"]["latency"])

    until("the server knows the device", complete, deadline=20)
    return device


def set_policy(api: Api, text: str) -> None:
    """Sets the policy file; an empty text brings back the default."""
    reply = api.curl.run(
        ["-X", "POST", "-u", f"{api.token}:", f"{api.base}/tailnet/-/acl", "--data-binary", "@-"], body=text
    )
    assert reply.status == 200, reply


@pytest.fixture(autouse=True)
def settings(api: Api) -> Iterator[None]:
    api.set_dns(preferences={"magicDNS": True})
    yield
    api.set_dns(preferences={"magicDNS": True})


def the_object(role: str, tailnet: Tailnet, device: Client) -> dict[str, Any]:
    """What a role stands for, as the API shows it. Made when asked for, except the device."""
    api = tailnet.api
    if role == "tailnet":
        return {"id": TAILNET}
    if role == "etag":
        return {"id": api.call("GET", "/tailnet/-/acl").headers["etag"].strip('"')}
    if role == "device":
        return api.device(device.device_id)
    if role == "expendable":
        return api.device(tailnet.join(NEW, "expendable").device_id)
    request = {
        "capabilities": {"devices": {"create": {}}},
        "expirySeconds": 86400,
        "description": "dev access",
    }
    key = api.ok("POST", "/tailnet/-/keys", request)
    if role == "revoked key":
        api.ok("DELETE", f"/tailnet/-/keys/{key['id']}")
    return key


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_gets_what_the_document_prints(example: Example, tailnet: Tailnet, device: Client) -> None:
    api = tailnet.api
    if example.policy is not None:
        set_policy(api, example.policy)
    roles = {*example.ids.values(), *example.roles}
    objects = {role: the_object(role, tailnet, device) for role in roles}
    # The preferred form of a device's id.
    ids = {
        printed: objects[role].get("nodeId") or objects[role]["id"] for printed, role in example.ids.items()
    }
    matcher = Matcher(api.device(device.device_id), objects)

    def call(text: str) -> Call:
        return Call(matcher.fill(examples.substitute(text, ids)))

    for text in example.given:
        api.ok(call(text).method, call(text).path, call(text).sent)
    try:
        arguments = example.arguments(tailnet.server.url, api.token, ids)
        reply = api.curl.run(arguments)
        assert reply.status == example.status, reply
        if example.text is not None:
            assert reply.content_type == "application/hujson" and reply.body.decode() == example.text
        elif example.body is None:
            assert reply.body == b"", reply
        else:
            matcher.compare(json.loads(example.body), reply.json, exact=example.exact)
        for effect in example.effect:
            after = call(effect["call"])
            reply = api.call(after.method, after.path, after.sent)
            assert reply.status == effect["status"], reply
            matcher.compare(json.loads(effect["body"]), reply.json, exact=False, where=effect["call"])
    finally:
        for text in example.last:
            api.ok(call(text).method, call(text).path, call(text).sent)
        if example.name.startswith("update policy") or example.policy is not None:
            set_policy(api, "")


def test_keys_are_as_the_document_about_their_management_says(api: Api) -> None:
    client = api.ok("POST", "/tailnet/-/keys", {"keyType": "client", "scopes": ["devices:core:read"]})
    scim = api.ok("POST", "/tailnet/-/scim-keys", {})
    endpoint = {"endpointUrl": "https://hooks.example.com/", "subscriptions": ["userDeleted"]}
    hook = api.ok("POST", "/tailnet/-/webhooks", endpoint)
    auth = api.auth_key()
    token = api.ok("POST", "/tailnet/-/access-tokens", {"description": "of a test"})
    # Each is told apart by its prefix.
    for kind, secret in (
        ("auth", auth["key"]),
        ("api", token["key"]),
        ("client", client["key"]),
        ("scim", scim["key"]),
        ("webhook", hook["secret"]),
    ):
        assert secret.startswith(f"tskey-{kind}-k"), kind
    # All but those of SCIM and webhooks expire, unless that was asked for otherwise.
    assert "expires" in auth and "expires" in token and "expires" not in scim and "expires" not in hook
    # A secret in another case is another one.
    def status(secret: str) -> int:
        return Api(api.curl, api.base.removesuffix("/api/v2"), secret).call("GET", "/tailnet/-/devices").status

    begin, end = token["key"][:-12], token["key"][-12:]
    assert [status(begin + end), status(begin + end.swapcase()), status((begin + end).swapcase())] == [200, 401, 401]
    # "Create API key" is in the log for an API access token and for an auth key.
    times = "start=2020-01-01T00:00:00Z&end=2100-01-01T00:00:00Z"
    logged = api.ok("GET", f"/tailnet/-/logging/configuration?{times}&event=API_KEY.CREATE")["logs"]
    targets = {log["target"]["id"] for log in logged}
    assert {auth["id"], token["id"], client["id"]} <= targets
    # With an endpoint goes its secret.
    api.ok("DELETE", f"/webhooks/{hook['endpointId']}")
    for made in (client, scim, auth, token):
        api.ok("DELETE", f"/tailnet/-/keys/{made['id']}")
