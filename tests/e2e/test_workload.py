"""Workload identity: tokens of a real OpenID provider are exchanged for access tokens."""

import json
import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import NEW, Clients, Resolvers, accept, setting
from harness.api import Api, Curl, Reply
from harness.authority import Authority
from harness.client import Refused
from harness.network import Network
from harness.openapi import OpenApi
from harness.process import Daemon, environment
from harness.server import Server
from harness.wait import until

TAG, OTHER = "tag:k8s", "tag:other"
AUDIENCE = "https://bowline.example/workload"


class Provider:
    """The provider (`oidc/provider.mjs`) in a namespace of its own."""

    def __init__(self, network: Network, cache: Path, directory: Path, authority: Authority) -> None:
        self.host = network.host("issuer")
        self.issuer = f"https://{self.host.address}:8443"
        self._program = cache / "oidc/provider.mjs"
        self._directory = directory
        self._authority = authority
        self._daemon: Daemon | None = None
        authority.issue(self.host.address, directory / "certificate.pem", directory / "key.pem")
        self.rotate()

    def rotate(self) -> None:
        """Starts it anew with another key."""
        self.close()
        keys = self._directory / "keys.json"
        make = (
            "const {generateKeyPairSync: make} = require('node:crypto');"
            "const key = make('ec', {namedCurve: 'P-256'}).privateKey.export({format: 'jwk'});"
            "console.log(JSON.stringify({keys: [{...key, kid: process.argv[1], use: 'sig', alg: 'ES256'}]}))"
        )
        made = subprocess.run(
            ["node", "-e", make, secrets.token_hex(4)], text=True, capture_output=True, check=True
        )
        keys.write_text(made.stdout)
        self._daemon = Daemon(
            self.host.enter(
                "node", self._program, self.issuer,
                self._directory / "certificate.pem", self._directory / "key.pem", keys,
            ),
            self._directory / "provider.log", environment(self._directory), self._directory,
        )  # fmt: skip
        until("the provider answers", lambda: self.token(AUDIENCE), deadline=20, also=self._daemon.tail)

    def token(self, audience: str) -> str:
        """A token of the workload for an audience."""
        done = self.host.run(
            "curl", "-fsS", "--max-time", "5", "--cacert", self._authority.certificate,
            "-u", "workload:secret", f"{self.issuer}/token",
            "-d", "grant_type=client_credentials", "-d", f"resource={audience}",
        )  # fmt: skip
        return json.loads(done.stdout)["access_token"]

    def close(self) -> None:
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon = None


@pytest.fixture(scope="module")
def authority(scratch: Path) -> Authority:
    return Authority(scratch / "workload-authority")


@pytest.fixture(scope="module")
def provider(network: Network, cache: Path, scratch: Path, authority: Authority) -> Iterator[Provider]:
    provider = Provider(network, cache, Path(tempfile.mkdtemp(prefix="issuer", dir=scratch)), authority)
    yield provider
    provider.close()
    network.remove(provider.host)


@pytest.fixture(scope="module")
def server(
    network: Network, scratch: Path, authority: Authority, provider: Provider
) -> Iterator[tuple[Server, str]]:
    """A server that may ask the provider, whose address is not a public one."""
    host = network.host("exchange")
    server = Server(
        setting("BOWLINE_BIN"), host, Path(tempfile.mkdtemp(prefix="exchange", dir=scratch)),
        BOWLINE_OUTBOUND_ALLOW_NETWORKS=f"{provider.host.address}/32",
        BOWLINE_OUTBOUND_CA_FILE=str(authority.certificate),
    )  # fmt: skip
    token = server.init()
    server.start()
    yield server, token
    server.kill()
    network.remove(host)


@pytest.fixture(scope="module")
def api(server: tuple[Server, str], openapi: OpenApi) -> Api:
    api = Api(Curl(server[0].host, openapi), server[0].url, server[1])
    api.ok("POST", "/tailnet/-/acl", {"acls": [accept("*", "*:*")], "tagOwners": {TAG: [], OTHER: []}})
    return api


@pytest.fixture
def clients(network: Network, resolvers: Resolvers, cache: Path, scratch: Path) -> Iterator[Clients]:
    clients = Clients(network, resolvers, cache, scratch)
    yield clients
    clients.close()


def make(api: Api, provider: Provider, **more: Any) -> dict[str, Any]:
    """A federated identity that trusts the provider's workload."""
    body = {
        "keyType": "federated",
        "issuer": provider.issuer,
        "subject": "work*",
        "audience": AUDIENCE,
        "customClaimRules": {"deployment.environment": "prod*"},
        "scopes": ["auth_keys", "devices:core"],
        "tags": [TAG],
        **more,
    }
    return api.ok("POST", "/tailnet/-/keys", body)


def exchange(api: Api, identity: str, token: str) -> Reply:
    return api.curl.run(
        [f"{api.base}/oauth/token-exchange", "-d", f"client_id={identity}", "--data-urlencode", f"jwt={token}"]
    )


def test_the_official_library_exchanges_a_token(
    api: Api, server: tuple[Server, str], provider: Provider, clients: Clients, cache: Path, tmp_path: Path
) -> None:
    identity = make(api, provider)
    done = subprocess.run(
        server[0].host.enter(cache / "go-oauth"),
        env=environment(
            tmp_path,
            BOWLINE_URL=server[0].url,
            BOWLINE_CLIENT_ID=identity["id"],
            BOWLINE_ID_TOKEN=provider.token(AUDIENCE),
            BOWLINE_TAG=TAG,
            BOWLINE_OTHER_TAG=OTHER,
            BOWLINE_RECORD=str(tmp_path / "responses"),
        ),
        text=True, capture_output=True, check=False, timeout=90,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    device = clients.start(NEW, "workload")
    device.up(server[0].url, done.stdout.splitlines()[-1], "workload")
    device.wait_for_state("Running")
    assert api.device(device.device_id)["tags"] == [TAG]


def test_a_device_joins_with_a_workload_token(
    api: Api, server: tuple[Server, str], provider: Provider, clients: Clients
) -> None:
    """The command line exchanges the token and gets itself an auth key."""
    identity = make(api, provider)
    device = clients.start(NEW, "direct")

    def up(token: str) -> None:
        done = device.cli(
            "up", f"--login-server={server[0].url}", f"--client-id={identity['id']}?preauthorized=true",
            f"--id-token={token}", f"--advertise-tags={TAG}", "--timeout=20s", check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise Refused(done.stdout + done.stderr)

    with pytest.raises(Refused, match="token exchange failed with status 403"):
        up(provider.token("https://elsewhere.example/"))
    up(provider.token(AUDIENCE))
    device.wait_for_state("Running")
    assert api.device(device.device_id)["tags"] == [TAG]


def test_what_does_not_fit_is_refused_alike(api: Api, provider: Provider) -> None:
    good = provider.token(AUDIENCE)
    assert exchange(api, make(api, provider)["id"], good).status == 200
    texts = set()
    for more in (
        {"subject": "workload-*"},
        {"subject": "Work*"},
        {"audience": "https://elsewhere.example/"},
        {"customClaimRules": {"deployment.environment": "prod"}},
        {"customClaimRules": {"deployment.region": "*"}},
        {"issuer": f"{provider.issuer}/other"},
    ):
        refused = exchange(api, make(api, provider, **more)["id"], good)
        assert refused.status == 403, (more, refused)
        texts.add(refused.message)
    assert len(texts) == 1, texts
    assert exchange(api, "kAbsent11CNTRL", good).status == 400


def test_a_new_key_of_the_provider_is_fetched(api: Api, provider: Provider) -> None:
    identity = make(api, provider)["id"]
    before = provider.token(AUDIENCE)
    assert exchange(api, identity, before).status == 200
    provider.rotate()
    after = exchange(api, identity, provider.token(AUDIENCE))
    assert after.status == 200, after
    bearer = Api(api.curl, api.base.removesuffix("/api/v2"), after.json["access_token"])
    assert bearer.call("GET", "/tailnet/-/devices").status == 200
    # The identity's end is that of its tokens.
    api.ok("DELETE", f"/tailnet/-/keys/{identity}")
    assert bearer.call("GET", "/tailnet/-/devices").status == 401
