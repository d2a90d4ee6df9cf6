"""A real server whose clock jumps, by a shim that the test puts before the C library's."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import NEW, Tailnet, setting
from harness.api import Api, Curl
from harness.client import Client
from harness.network import Network
from harness.openapi import OpenApi
from harness.server import Server
from harness.wait import until


def installed() -> Path | None:
    places = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return places[0] if places else None


@pytest.fixture(scope="session")
def shim() -> Path:
    """libfaketime of the distribution, which is installed where it is not there."""
    if installed() is None:
        quiet = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "faketime"]
        for command in (["apt-get", "update", "-qq"], quiet):
            try:
                subprocess.run(command, capture_output=True, check=False, timeout=180)
            except (OSError, subprocess.TimeoutExpired):
                break
    found = installed()
    if found is None:
        assert os.environ.get("CI") != "true", "libfaketime cannot be installed"
        pytest.skip("skipped: needs libfaketime (package faketime)")
    return found


@dataclass
class Timed:
    """A server with a clock of its own."""

    server: Server
    api: Api
    offset: Path
    env: dict[str, str]

    def set(self, offset: str) -> None:
        """`+200d`: so far away from the right time; `@1970-01-01 00:05:00`: from there on."""
        fresh = self.offset.with_suffix(".new")
        fresh.write_text(f"{offset}\n")
        fresh.replace(self.offset)

    def wait_until_held(self, held: bool) -> None:
        name = "bowline_clock_held"
        until(f"{name} is {held:d}", lambda: self.server.metric(name) == held, also=self.server.tail)

    def clock(self) -> dict:
        return json.loads(self.server.cli("clock", "show", "--json").stdout)


@pytest.fixture
def timed(network: Network, scratch: Path, openapi: OpenApi, shim: Path) -> Iterator[Timed]:
    directory = scratch / "timed"
    directory.mkdir()
    offset = directory / "offset"
    env = {
        "LD_PRELOAD": str(shim),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    server = Server(setting("BOWLINE_BIN"), network.host("timed"), directory, **env)
    token = server.init()
    timed = Timed(server, Api(Curl(server.host, openapi), server.url, token), offset, env)
    timed.set("+0d")
    server.start()
    yield timed
    server.kill()


def is_good(timed: Timed, key_id: str, client: Client) -> None:
    """The token, the key and the device are as they were."""
    assert not timed.api.key(key_id).get("invalid")
    assert client.state == "Running"
    assert not client.me.get("Expired")


def test_a_jump_of_the_clock_ends_nothing_before_it_is_confirmed(timed: Timed, tailnet: Tailnet) -> None:
    key = timed.api.auth_key(reusable=True)
    client = tailnet.client(NEW, "timed")
    client.up(timed.server.url, key["key"], "timed")
    client.wait_for_state("Running")

    # Ahead for a moment, and right again.
    timed.set("+200d")
    timed.wait_until_held(True)
    is_good(timed, key["id"], client)
    assert timed.clock()["wouldExpire"] == {"devices": 1, "keys": 2}
    health = json.loads(timed.server.host.run("curl", "-fsS", f"{timed.server.url}/health").stdout)
    assert health["status"] == "warn" and health["checks"]["clock"]
    timed.set("+0d")
    timed.wait_until_held(False)
    is_good(timed, key["id"], client)

    # Started long before its time, as a machine without a battery does, and right after it.
    for wrong in ("@1970-01-01 00:05:00", "+200d"):
        timed.server.stop()
        timed.set(wrong)
        timed.server.start()
        timed.wait_until_held(True)
        # Being shown online would prove nothing so soon after a restart.
        until(
            "the device is back",
            lambda: timed.server.metric("bowline_map_streams_open") == 1,
            deadline=90,
            also=client.tail,
        )
        is_good(timed, key["id"], client)
        timed.set("+0d")
        timed.wait_until_held(False)
        is_good(timed, key["id"], client)

    # Confirmed, and it was wrong after all.
    timed.set("+200d")
    timed.wait_until_held(True)
    asked = timed.server.cli("clock", "confirm")
    assert asked.returncode == 1 and "--yes" in asked.stderr
    is_good(timed, key["id"], client)
    confirmed = timed.server.cli("clock", "confirm", "--yes")
    assert confirmed.returncode == 0, confirmed.stderr
    assert timed.api.call("GET", "/tailnet/-/keys").status == 401
    # (The client itself goes by its own clock, which is right: it stays as it is.)
    timed.set("+0d")
    timed.wait_until_held(True)
    confirmed = timed.server.cli("clock", "confirm", "--yes")
    assert confirmed.returncode == 0, confirmed.stderr
    assert timed.api.call("GET", "/tailnet/-/keys").status == 200
    is_good(timed, key["id"], client)


def test_nothing_new_is_made_by_a_clock_that_cannot_be_right(
    network: Network, scratch: Path, shim: Path
) -> None:
    directory = scratch / "early"
    directory.mkdir()
    offset = directory / "offset"
    offset.write_text("@1970-01-01 00:05:00\n")
    env = {
        "LD_PRELOAD": str(shim),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    server = Server(setting("BOWLINE_BIN"), network.host("early"), directory, **env)
    refused = server.cli("init", "--owner", "ann@example.com", **env)
    assert refused.returncode == 1 and "set it first" in refused.stderr, refused
