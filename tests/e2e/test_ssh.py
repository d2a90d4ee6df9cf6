"""Tailscale SSH as the policy file says: allowed, denied, and checked with somebody's confirmation."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from conftest import NEW, OLD, VERSIONS, SetPolicy, Tailnet, accept
from harness.client import Client
from harness.process import environment
from harness.wait import until


def rules(*ssh: dict[str, Any]) -> dict[str, Any]:
    return {"acls": [accept("*", "*:*")], "ssh": list(ssh)}


def rule(action: str, **more: Any) -> dict[str, Any]:
    own = {"src": ["autogroup:member"], "dst": ["autogroup:self"], "users": ["root"]}
    return {"action": action, **own, **more}


class Session:
    """`ssh` from one device to another, and what it has printed so far."""

    def __init__(self, source: Client, target: Client, user: str, command: str) -> None:
        self._log = source.socket_path.parent / "ssh.log"
        self._source = source
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                source.inside(
                    "ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
                    "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=20",
                    f"{user}@{target.ipv4}", command,
                ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(source.socket_path.parent),
            )  # fmt: skip

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def until_it_says(self, text: str) -> str:
        def look() -> str:
            assert text in self.output, self.output
            return self.output

        return until(f"the session says {text!r}", look, deadline=25, also=self._source.tail)

    def code(self, url: str) -> str:
        """The code of the address that it shows."""
        front = f"{url}/ssh/"
        return self.until_it_says(front).split(front)[1].split()[0]

    def end(self) -> int:
        return self._process.wait(30)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def ssh(source: Client, target: Client, command: str, user: str = "root") -> Iterator[Session]:
    session = Session(source, target, user, command)
    try:
        yield session
    finally:
        session.kill()


def pair(tailnet: Tailnet, version: str) -> tuple[Client, Client]:
    """A device and another that lets sessions in, of this version."""
    source = tailnet.join(NEW if version == OLD else OLD, "source")
    target = tailnet.join(version, "target", "--ssh")
    tailnet.meet(source, target)
    return source, target


def ssh_rules(target: Client) -> int:
    """How many rules a device has been told."""
    return len((target.netmap().get("SSHPolicy") or {}).get("rules") or [])


def wait_for_rules(target: Client, count: int) -> None:
    until(f"{count} rules", lambda: ssh_rules(target) == count, also=target.tail)


@pytest.mark.parametrize("version", VERSIONS)
def test_sessions_are_allowed_denied_and_cut(
    tailnet: Tailnet, set_policy: SetPolicy, version: str
) -> None:
    set_policy(rules(rule("accept")))
    source, target = pair(tailnet, version)
    wait_for_rules(target, 1)
    with ssh(source, target, "echo done; id -un") as session:
        assert session.end() == 0, session.output
        assert session.output.endswith("done\nroot\n")
    with ssh(source, target, "echo done", user="daemon") as session:
        assert session.end() != 0
        assert "done" not in session.output
    with ssh(source, target, "echo ready; sleep 60") as session:
        session.until_it_says("ready")
        set_policy(rules())
        assert session.end() != 0, "a session goes on that the policy no longer allows"
    with ssh(source, target, "echo done") as session:
        assert session.end() != 0
        # The old release only says that it was denied.
        assert "denied" in session.output or "does not permit" in session.output


@pytest.mark.parametrize("version", VERSIONS)
def test_a_checked_session_waits_to_be_confirmed(
    tailnet: Tailnet, set_policy: SetPolicy, version: str
) -> None:
    set_policy(rules(rule("check", checkPeriod="1h")))
    source, target = pair(tailnet, version)
    wait_for_rules(target, 1)
    url, api = tailnet.server.url, tailnet.api
    with ssh(source, target, "echo done") as session:
        code = session.code(url)
        page = source.host.run("curl", "-sS", "--max-time", "10", f"{url}/ssh/{code}").stdout
        assert f"bowline ssh approve {code}" in page
        checks = api.ok("GET", "/tailnet/-/ssh-checks")["sshChecks"]
        shown = [(check["source"]["nodeId"], check["destination"]["nodeId"]) for check in checks]
        assert shown == [(source.device_id, target.device_id)]
        assert "done" not in session.output
        api.ok("POST", f"/tailnet/-/ssh-checks/{code}", {})
        assert session.end() == 0, session.output
        assert "done\n" in session.output
    # Confirmed for an hour.
    with ssh(source, target, "echo done") as session:
        assert session.end() == 0, session.output
        assert "/ssh/" not in session.output


@pytest.mark.parametrize("version", VERSIONS)
def test_a_checked_session_that_is_refused_does_not_begin(
    tailnet: Tailnet, set_policy: SetPolicy, version: str
) -> None:
    set_policy(rules(rule("check", checkPeriod="always")))
    source, target = pair(tailnet, version)
    wait_for_rules(target, 1)
    url, api = tailnet.server.url, tailnet.api
    with ssh(source, target, "echo done") as session:
        api.ok("DELETE", f"/tailnet/-/ssh-checks/{session.code(url)}")
        assert session.end() != 0
        assert "the session was refused" in session.output
    # Each time anew, and what the policy allowed when it was asked it must still allow.
    with ssh(source, target, "echo done") as session:
        first = session.code(url)
        api.ok("POST", f"/tailnet/-/ssh-checks/{first}", {})
        assert session.end() == 0, session.output
    with ssh(source, target, "echo done") as session:
        second = session.code(url)
        assert second != first
        set_policy(rules(rule("check", users=["daemon"])))
        api.ok("POST", f"/tailnet/-/ssh-checks/{second}", {})
        assert session.end() != 0
        assert "done" not in session.output
