"""Fixtures of the conformance tests: one network and one server for the session, clients on demand."""

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.api import Api, Curl, Reply
from harness.client import Client
from harness.machine import ResolverFiles
from harness.network import Network
from harness.openapi import OpenApi
from harness.resolver import Resolver
from harness.server import Server

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
# One release of each end of what is supported: the oldest, and a current one.
OLD, NEW = "1.80.3", "1.102.5"
VERSIONS = (OLD, NEW)


def pytest_configure() -> None:
    # A polite end (a CI that gives up) must run the finalizers: they delete the namespaces.
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))


def setting(name: str, default: Path | None = None) -> Path:
    """A path from the environment; `tests/e2e/run` sets them all."""
    value = os.environ.get(name)
    if value:
        return Path(value)
    assert default is not None, f"{name} is not set: start these tests with tests/e2e/run"
    return default


@pytest.fixture(scope="session")
def cache() -> Path:
    return setting("BOWLINE_E2E_CACHE")


@pytest.fixture(scope="session", autouse=True)
def machine() -> Iterator[ResolverFiles]:
    """The machine's resolver file is the same after the tests as before."""
    files = ResolverFiles()
    yield files
    files.check()


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    # Short, since the path of a Unix socket may have at most 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="bwe2e-"))
    yield directory
    if os.environ.get("BOWLINE_E2E_KEEP"):
        print(f"\nkept: {directory}")
    else:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def network(machine: ResolverFiles) -> Iterator[Network]:
    network = Network()
    yield network
    network.close()


@dataclass
class Resolvers:
    """Name servers in the test network; each gives its own answer to every question."""

    base: Resolver
    """The one in a host's resolver file before `tailscaled` takes over."""
    first: Resolver
    second: Resolver


@pytest.fixture(scope="session")
def resolvers(network: Network) -> Iterator[Resolvers]:
    servers = [
        Resolver(network.hub, network.hub_address(number), f"192.0.2.{number}") for number in (2, 3, 4)
    ]
    yield Resolvers(*servers)
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def openapi() -> OpenApi:
    official = setting("BOWLINE_OPENAPI", ROOT.parent / "shared/reference/tailscale-api.json")
    return OpenApi(official, ROOT / "openapi/api-v2.json")


MakeServer = Callable[[str], Server]


@pytest.fixture(scope="session")
def server_and_token(network: Network, scratch: Path) -> Iterator[tuple[Server, str]]:
    server = Server(setting("BOWLINE_BIN"), network.host("server"), scratch / "server")
    token = server.init()
    server.start()
    yield server, token
    server.kill()


@pytest.fixture(scope="session")
def server(server_and_token: tuple[Server, str]) -> Server:
    return server_and_token[0]


@pytest.fixture(scope="session")
def api(server_and_token: tuple[Server, str], openapi: OpenApi) -> Api:
    """The owner's calls."""
    server, token = server_and_token
    return Api(Curl(server.host, openapi), server.url, token)


class Clients:
    """Makes clients, and ends those that it made."""

    def __init__(self, network: Network, resolvers: Resolvers, cache: Path, scratch: Path) -> None:
        self._network = network
        self._resolver = resolvers.base.address
        self._cache = cache
        self._scratch = scratch
        self._made: list[Client] = []

    def start(self, version: str, label: str, authorities: Path | None = None) -> Client:
        """A started daemon that has not logged in."""
        host = self._network.host(label)
        client = Client(
            version,
            self._cache / f"tailscale-{version}",
            host,
            self._scratch / host.name.removeprefix("bwe2e-"),
            self._resolver,
            authorities,
        )
        self._made.append(client)
        return client.start()

    def close(self) -> None:
        while self._made:
            client = self._made.pop()
            client.kill()
            self._network.remove(client.host)


class Tailnet:
    """What a scenario works with: the server, the API and clients that join."""

    def __init__(self, server: Server, api: Api, clients: Clients) -> None:
        self.server = server
        self.api = api
        self._clients = clients

    def client(self, version: str, label: str) -> Client:
        """A client that has not logged in yet."""
        return self._clients.start(version, label)

    def join(self, version: str, hostname: str, *flags: str) -> Client:
        """A client that joined with a one-off key and knows its addresses."""
        return self.login(self.client(version, hostname), hostname, *flags)

    def login(self, client: Client, hostname: str, *flags: str, key: str | None = None) -> Client:
        client.up(self.server.url, key or self.api.auth_key()["key"], hostname, *flags)
        client.wait_for_state("Running")
        return client

    def meet(self, *clients: Client) -> None:
        """Waits until each of these sees all the others online."""
        for viewer in clients:
            for other in clients:
                if other is not viewer:
                    viewer.wait_for_peer(other.device_id, f"{other.host.name} online", lambda p: p["Online"])

    def close(self) -> None:
        """Ends the clients."""
        self._clients.close()

    def forget(self, *clients: Client) -> None:
        """Deletes the devices, so that later scenarios do not see them."""
        for client in clients:
            self.api.call("DELETE", f"/device/{client.device_id}")


def _tailnet(request: pytest.FixtureRequest) -> Iterator[Tailnet]:
    clients = Clients(
        request.getfixturevalue("network"),
        request.getfixturevalue("resolvers"),
        request.getfixturevalue("cache"),
        request.getfixturevalue("scratch"),
    )
    api = request.getfixturevalue("api")
    before = set(api.devices())
    yield Tailnet(request.getfixturevalue("server"), api, clients)
    clients.close()
    for device_id in set(api.devices()) - before:
        api.ok("DELETE", f"/device/{device_id}")


@pytest.fixture
def tailnet(request: pytest.FixtureRequest) -> Iterator[Tailnet]:
    """For one test: its clients and their devices are gone afterwards."""
    yield from _tailnet(request)


@pytest.fixture(scope="module")
def shared_tailnet(request: pytest.FixtureRequest) -> Iterator[Tailnet]:
    """For the tests of one module."""
    yield from _tailnet(request)


@pytest.fixture(scope="module")
def pair(shared_tailnet: Tailnet) -> tuple[Client, Client]:
    """Two clients that joined and see each other: the old release, the new one."""
    old = shared_tailnet.join(OLD, "old")
    new = shared_tailnet.join(NEW, "new")
    shared_tailnet.meet(old, new)
    return old, new


SetPolicy = Callable[[dict[str, Any] | str], Reply]


@pytest.fixture
def set_policy(api: Api) -> Iterator[SetPolicy]:
    """Sets the policy file, as HuJSON or as an object; the default is back afterwards."""

    def send(policy: dict[str, Any] | str) -> Reply:
        text = policy if isinstance(policy, str) else json.dumps(policy)
        reply = api.curl.run(
            ["-X", "POST", "-u", f"{api.token}:", "-H", "Content-Type: application/hujson",
             f"{api.base}/tailnet/-/acl", "--data-binary", "@-"],
            body=text,
        )  # fmt: skip
        assert reply.status == 200, reply
        return reply

    yield send
    send("")


def accept(src: str, *dst: str, **more: Any) -> dict[str, Any]:
    """A rule of `acls`."""
    return {"action": "accept", "src": [src], "dst": list(dst), **more}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """A failed test shows the end of the server's log."""
    report = yield
    if report.failed and "server_and_token" in getattr(item, "fixturenames", ()):
        found = item.funcargs.get("server_and_token") if hasattr(item, "funcargs") else None
        if found:
            report.sections.append(("bowline", found[0].tail()))
    return report
