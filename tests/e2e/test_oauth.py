"""OAuth clients as standard and official tools use them: tokens, keys, and devices that join with either."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import NEW, VERSIONS, SetPolicy, Tailnet, accept
from harness import record
from harness.api import Api
from harness.openapi import OpenApi
from harness.process import environment
from harness.server import TAILNET
from harness.tls import TlsProxy

TAG, OTHER = "tag:k8s", "tag:other"
POLICY = {"acls": [accept("*", "*:*")], "tagOwners": {TAG: [], OTHER: []}}


@dataclass
class OAuthClient:
    """An OAuth client that a test made."""

    id: str
    secret: str


def make(api: Api, *scopes: str) -> OAuthClient:
    body = {"keyType": "client", "scopes": list(scopes), "tags": [TAG], "description": "made by a test"}
    made = api.ok("POST", "/tailnet/-/keys", body)
    assert made["key"].startswith(f"tskey-client-{made['id']}-"), made["id"]
    return OAuthClient(made["id"], made["key"])


@pytest.fixture
def client(tailnet: Tailnet, set_policy: SetPolicy) -> Iterator[OAuthClient]:
    """One that makes devices, of one tag."""
    set_policy(POLICY)
    made = make(tailnet.api, "auth_keys", "devices:core")
    yield made
    tailnet.api.call("DELETE", f"/tailnet/-/keys/{made.id}")


def libraries(tailnet: Tailnet, cache: Path, scratch: Path, openapi: OpenApi, **more: str) -> str:
    """Runs the Go program; the auth key that it made."""
    recorded = scratch / "responses"
    settings = environment(
        scratch,
        BOWLINE_URL=tailnet.server.url,
        BOWLINE_TAG=TAG,
        BOWLINE_OTHER_TAG=OTHER,
        BOWLINE_RECORD=str(recorded),
        **more,
    )
    done = subprocess.run(
        tailnet.server.host.enter(cache / "go-oauth"),
        env=settings, text=True, capture_output=True, check=False, timeout=90,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    responses = [response for response in record.read(recorded) if "/oauth/" not in response.url]
    assert len(responses) >= 8
    for response in responses:
        response.check(openapi)
    return done.stdout.splitlines()[-1]


def test_standard_and_official_libraries(
    tailnet: Tailnet, client: OAuthClient, openapi: OpenApi, cache: Path, tmp_path: Path
) -> None:
    secrets = {"BOWLINE_CLIENT_ID": client.id, "BOWLINE_CLIENT_SECRET": client.secret}
    key = libraries(tailnet, cache, tmp_path, openapi, **secrets)
    device = tailnet.login(tailnet.client(NEW, "proxy"), "proxy", key=key)
    shown = tailnet.api.device(device.device_id)
    assert shown["tags"] == [TAG] and shown["keyExpiryDisabled"] is True
    # Nobody's: the client is not its user.
    assert device.me["Tags"] == [TAG]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_device_joins_with_a_clients_secret(
    tailnet: Tailnet, client: OAuthClient, version: str
) -> None:
    """The command line gets itself an auth key. It does not know the client's id."""
    key = f"{client.secret}?baseURL={tailnet.server.url}&preauthorized=true"
    device = tailnet.login(tailnet.client(version, "direct"), "direct", f"--advertise-tags={TAG}", key=key)
    shown = tailnet.api.device(device.device_id)
    assert shown["tags"] == [TAG] and shown["isEphemeral"] is True


def test_get_authkey(tailnet: Tailnet, client: OAuthClient, cache: Path, tmp_path: Path) -> None:
    def run(*flags: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            tailnet.server.host.enter(cache / f"get-authkey-{NEW}", *flags),
            env=environment(
                tmp_path,
                TS_API_CLIENT_ID=client.id,
                TS_API_CLIENT_SECRET=client.secret,
                TS_BASE_URL=tailnet.server.url,
            ),
            text=True, capture_output=True, check=False, timeout=30,
        )  # fmt: skip

    made = run("-reusable", f"-tags={TAG}")
    assert made.returncode == 0, made.stderr
    devices = [
        tailnet.login(tailnet.client(NEW, name), name, key=made.stdout.strip()) for name in ("one", "two")
    ]
    assert all(tailnet.api.device(device.device_id)["tags"] == [TAG] for device in devices)
    refused = run(f"-tags={OTHER}")
    assert refused.returncode == 1 and "tskey-" not in refused.stdout, refused.stderr
    # What it made lives on without it; it makes nothing any more.
    tailnet.api.ok("DELETE", f"/tailnet/-/keys/{client.id}")
    revoked = run(f"-tags={TAG}")
    assert revoked.returncode == 1 and "invalid_client" in revoked.stderr, revoked.stderr
    assert devices[0].state == "Running"


def test_gitops_pusher_as_an_oauth_client(
    tailnet: Tailnet, set_policy: SetPolicy, cache: Path, tmp_path: Path
) -> None:
    set_policy(POLICY)
    made = make(tailnet.api, "policy_file")
    file = tmp_path / "policy.hujson"
    file.write_text('{"acls": [], "tagOwners": {"tag:k8s": []}} // kept in a repository\n')
    proxy = TlsProxy(tailnet.server.host, 8080, tmp_path / "tls")
    try:
        done = subprocess.run(
            tailnet.server.host.enter(
                cache / f"gitops-pusher-{NEW}",
                "--api-server", proxy.address, "--policy-file", file, "apply",
            ),
            env=environment(
                tmp_path,
                TS_OAUTH_ID=made.id,
                TS_OAUTH_SECRET=made.secret,
                TS_TAILNET=TAILNET,
                SSL_CERT_FILE=str(proxy.certificate),
            ),
            cwd=tmp_path, text=True, capture_output=True, check=False, timeout=60,
        )  # fmt: skip
    finally:
        proxy.close()
    assert done.returncode == 0, done.stdout + done.stderr
    assert tailnet.api.call("GET", "/tailnet/-/acl").body.decode() == file.read_text()
    tailnet.api.ok("DELETE", f"/tailnet/-/keys/{made.id}")


def token(api: Api, client: OAuthClient, **more: str) -> Any:
    """What the token endpoint answers."""
    arguments = ["-u", f"{client.id}:{client.secret}", f"{api.base}/oauth/token"]
    for name, value in {"grant_type": "client_credentials", **more}.items():
        arguments += ["-d", f"{name}={value}"]
    return api.curl.run(arguments)


def test_a_revoked_clients_tokens_end_at_once(tailnet: Tailnet, client: OAuthClient) -> None:
    made = token(tailnet.api, client)
    assert made.status == 200 and made.headers["cache-control"] == "no-store", made
    bearer = Api(tailnet.api.curl, tailnet.server.url, made.json["access_token"])
    assert bearer.call("GET", "/tailnet/-/devices").status == 200
    tailnet.api.ok("DELETE", f"/tailnet/-/keys/{client.id}")
    assert bearer.call("GET", "/tailnet/-/devices").status == 401
    assert token(tailnet.api, client).status == 401
