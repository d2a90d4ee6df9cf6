"""The official Rust client: two devices in one process exchange TCP through the relay."""

import json
from pathlib import Path

from conftest import Tailnet
from harness.network import run
from harness.process import environment


def test_two_devices_in_one_process_exchange_tcp(tailnet: Tailnet, cache: Path, tmp_path: Path) -> None:
    deadline = 60
    done = run(
        tailnet.server.host.enter(cache / "rust-client/debug/bowline-e2e-rust-client"),
        env=environment(
            tmp_path,
            BOWLINE_URL=tailnet.server.url,
            BOWLINE_AUTH_KEY=tailnet.api.auth_key(reusable=True)["key"],
            BOWLINE_DEADLINE_SECONDS=str(deadline),
            TS_RS_EXPERIMENT="this_is_unstable_software",
            RUST_LOG="warn",
        ),
        timeout=deadline + 15,
    )
    report = json.loads(done.stdout)
    assert report["echoed_bytes"] == {"ipv4": 100_000, "ipv6": 100_000}
    listed = tailnet.api.devices()
    for device in report["devices"]:
        shown = listed[device["stable_id"]]
        assert shown["addresses"] == [device["ipv4"], device["ipv6"]]
        assert shown["hostname"] == device["hostname"]
        assert shown["name"].split(".")[0] == device["hostname"]
    assert {device["hostname"] for device in report["devices"]} == {"rust-first", "rust-second"}
