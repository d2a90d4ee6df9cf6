"""A server moves to another machine and another database; its devices go on without logging in."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import NEW, OLD, Clients, Resolvers, Tailnet, setting
from harness.api import Api, Curl
from harness.client import Client, exchange
from harness.network import Network
from harness.openapi import OpenApi
from harness.postgres import Postgres
from harness.server import Server
from harness.wait import until
from test_restart import identities


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    postgres = Postgres()
    yield postgres
    postgres.close()


class Writer:
    """Makes auth keys one after the other, as somebody who does not know of the backup."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._ends = threading.Event()
        self.made: list[str] = []
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, name="writer")
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._ends.is_set():
                self.made.append(self._api.auth_key()["id"])
        except BaseException as error:  # told by `end`
            self._failed.append(error)

    def end(self) -> None:
        self._ends.set()
        self._thread.join()
        if self._failed:
            raise self._failed[0]


def backed_up(server: Server, api: Api, file: Path, **env: str) -> set[str]:
    """Takes a backup while keys are made; returns those that must be in it."""
    writer = Writer(api)
    try:
        until("a few changes are made", lambda: len(writer.made) >= 3, deadline=30)
        before = set(writer.made)
        done = server.cli("backup", str(file), **env)
        assert done.returncode == 0, done.stderr
        after = len(writer.made)
        until("changes go on", lambda: len(writer.made) > after, deadline=30)
    finally:
        writer.end()
    assert file.stat().st_mode & 0o777 == 0o600
    return before


@pytest.fixture
def first(network: Network, scratch: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Server, str]]:
    """A server of the test's own, and the owner's token."""
    name = f"first-{len(request.node.name)}"
    server = Server(setting("BOWLINE_BIN"), network.host(name), scratch / name)
    token = server.init()
    server.start()
    yield server, token
    server.kill()


def restored(former: Server, place: Path, file: Path, **env: str) -> Server:
    """A server at the address of the former one, made of its backup and its sealing key."""
    server = Server(setting("BOWLINE_BIN"), former.host, place, **env)
    refused = server.cli("restore", str(file), **env)
    assert refused.returncode == 1, refused.stdout
    assert "there is no sealing key" in refused.stderr, refused.stderr
    data = place / "data"
    data.mkdir(mode=0o700)
    shutil.copy(former.directory / "data/seal.key", data / "seal.key")
    done = server.cli("restore", str(file), **env)
    assert done.returncode == 0, done.stderr
    assert "devices go on without logging in again" in done.stdout, done.stdout
    return server


def go_on(tailnet: Tailnet, name: str, *clients: Client) -> None:
    """A change of the new server reaches its devices, and they reach each other."""
    first, *others = clients
    tailnet.api.ok("POST", f"/device/{first.device_id}/name", {"name": name})
    for other in others:
        other.wait_for_peer(
            first.device_id, "a change of the new server", lambda p: p["DNSName"].startswith(f"{name}."), deadline=90
        )
    until("the device knows it", lambda: first.dns_name.startswith(f"{name}."), deadline=90, also=first.tail)
    tailnet.meet(*clients)
    assert {client.state for client in clients} == {"Running"}
    for other in others:
        first.ping(other.ipv4, direct=True)
        other.ping(first.ipv4, direct=True)
        exchange(first, other, other.ipv4)


def test_devices_go_on_after_a_move_to_postgresql_and_back(
    network: Network,
    resolvers: Resolvers,
    cache: Path,
    scratch: Path,
    openapi: OpenApi,
    postgres: Postgres,
    first: tuple[Server, str],
) -> None:
    server, token = first
    tailnet = Tailnet(
        server,
        Api(Curl(server.host, openapi), server.url, token),
        Clients(network, resolvers, cache, scratch),
    )
    second = third = None
    try:
        old, new = tailnet.join(OLD, "old"), tailnet.join(NEW, "new")
        tailnet.meet(old, new)
        old.ping(new.ipv4, direct=True)
        before = identities(tailnet)
        assert len(before) == 2

        # From SQLite; the first server ends as a machine that fails.
        file = scratch / "first.backup"
        kept = backed_up(server, tailnet.api, file)
        server.kill()
        there = {"BOWLINE_DATABASE_URL": postgres.url}
        second = restored(server, scratch / "second", file, **there)
        second.start()
        assert identities(tailnet) == before
        assert kept <= keys(tailnet)
        go_on(tailnet, "there", old, new)

        # And back, from PostgreSQL.
        file = scratch / "second.backup"
        kept |= backed_up(second, tailnet.api, file, **there)
        second.stop()
        third = restored(second, scratch / "third", file)
        third.start()
        assert identities(tailnet) == before
        assert kept <= keys(tailnet)
        go_on(tailnet, "back", old, new)
        # New devices join it as they joined the first.
        late = tailnet.join(NEW, "late")
        tailnet.meet(old, new, late)
    finally:
        tailnet.close()
        for running in (second, third):
            if running:
                running.kill()


def keys(tailnet: Tailnet) -> set[str]:
    return {key["id"] for key in tailnet.api.ok("GET", "/tailnet/-/keys")["keys"]}


def test_devices_go_on_after_a_restart_where_the_sealing_key_was_lost(
    network: Network,
    resolvers: Resolvers,
    cache: Path,
    scratch: Path,
    openapi: OpenApi,
    first: tuple[Server, str],
) -> None:
    server, token = first
    tailnet = Tailnet(
        server,
        Api(Curl(server.host, openapi), server.url, token),
        Clients(network, resolvers, cache, scratch),
    )
    second = None
    try:
        old, new = tailnet.join(OLD, "old"), tailnet.join(NEW, "new")
        tailnet.meet(old, new)
        before = identities(tailnet)
        file = scratch / "lost.backup"
        backed_up(server, tailnet.api, file)
        server.stop()
        second = Server(setting("BOWLINE_BIN"), server.host, scratch / "lost")
        done = second.cli("restore", str(file), "--without-secrets")
        assert done.returncode == 0, done.stderr
        second.start()
        for client in (old, new):
            client.stop()
            client.start()
            client.wait_for_state("Running", deadline=60)
        assert identities(tailnet) == before
        go_on(tailnet, "found", old, new)
    finally:
        tailnet.close()
        if second:
            second.kill()
