"""Network namespaces joined by a bridge, without a way out.

One namespace (the hub) holds the bridge; every host is a namespace of its own with one interface
on it. Nothing is connected to the machine's own network: no route leaves the bridge's subnet.
"""

import ctypes
import os
import secrets
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

SUBNET = "10.86.0.{}"
PREFIX_LENGTH = 24
# A bridge without a fixed address takes that of its lowest port: each new port would change it,
# and every neighbour would have to learn it again, which takes 3 to 10 s.
BRIDGE_ADDRESS = "02:00:0a:56:00:fe"

_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def run(command: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end; a failure shows what it printed."""
    options.setdefault("timeout", 30)
    done = subprocess.run(
        [str(part) for part in command], text=True, capture_output=True, check=False, **options
    )
    if done.returncode != 0:
        raise AssertionError(
            f"{' '.join(map(str, command))}\nended with {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done


def die_with_parent() -> None:
    """In a child before exec: end it when the test process dies, however that happens."""
    _libc.prctl(_PR_SET_PDEATHSIG, 9)


class Namespace:
    """One network namespace, made and deleted by these tests."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = Path("/run/netns") / name
        self._etc = Path("/etc/netns") / name
        # Whoever enters by `ip netns exec` gets this resolver file, never the machine's own.
        self._etc.mkdir(parents=True)
        (self._etc / "resolv.conf").write_text("# made by a test: no resolver\n")
        run(["ip", "netns", "add", name])
        run(["ip", "-n", name, "link", "set", "lo", "up"])

    def delete(self) -> None:
        run(["ip", "netns", "delete", self.name])
        shutil.rmtree(self._etc, ignore_errors=True)

    def enter(self, *command: str | Path) -> list[str]:
        """The command line that runs `command` in this network namespace."""
        return ["nsenter", f"--net={self.path}", *(str(part) for part in command)]

    def run(self, *command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        return run(self.enter(*command), **options)

    def call(self, action: Callable[[], T]) -> T:
        """Runs `action` in a thread inside this namespace; sockets it opens stay in it."""
        outcome: list[Any] = []

        def body() -> None:
            try:
                descriptor = os.open(self.path, os.O_RDONLY)
                try:
                    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), f"setns {self.name}")
                finally:
                    os.close(descriptor)
                outcome.extend((True, action()))
            except BaseException as error:  # handed to the caller below
                outcome.extend((False, error))

        thread = threading.Thread(target=body, name=f"in {self.name}")
        thread.start()
        thread.join()
        succeeded, value = outcome
        if not succeeded:
            raise value
        return value

    def socket(self, family: int, kind: int) -> socket.socket:
        return self.call(lambda: socket.socket(family, kind))


class Host(Namespace):
    """A namespace with one address on the bridge."""

    def __init__(self, name: str, address: str) -> None:
        super().__init__(name)
        self.address = address

    def restrict_udp_to(self, server: str) -> None:
        """Drops UDP between this host and everyone but `server`: peers must use the relay."""
        rules = "\n".join(
            [
                "table inet relay_only {",
                "  chain out { type filter hook output priority 0; policy accept;",
                f'    oifname "eth0" meta l4proto udp ip daddr != {server} drop',
                '    oifname "eth0" meta nfproto ipv6 meta l4proto udp drop',
                "  }",
                "  chain in { type filter hook input priority 0; policy accept;",
                f'    iifname "eth0" meta l4proto udp ip saddr != {server} drop',
                '    iifname "eth0" meta nfproto ipv6 meta l4proto udp drop',
                "  }",
                "}",
            ]
        )
        self.run("nft", "-f", "-", input=rules)

    def lift_restriction(self) -> None:
        self.run("nft", "delete", "table", "inet", "relay_only")


class Network:
    """The hub, its bridge and its hosts. `close` deletes all of it, and nothing else."""

    def __init__(self) -> None:
        # Namespace names must not meet those of another run at the same time.
        self._tag = os.environ.get("BOWLINE_E2E_TAG") or f"bwe2e-{secrets.token_hex(3)}"
        self._next = 10
        self._spaces: list[Namespace] = []
        self.hub = self._keep(Namespace(f"{self._tag}-hub"))
        self._hub_ip("link", "add", "br0", "address", BRIDGE_ADDRESS, "type", "bridge")
        self._hub_ip("link", "set", "br0", "up")

    def host(self, label: str) -> Host:
        """A new host on the bridge, with the next free address."""
        number, self._next = self._next, self._next + 1
        host = Host(f"{self._tag}-{number}-{label}"[:60], SUBNET.format(number))
        self._keep(host)
        port = f"v{number}"
        self._hub_ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host.name)
        self._hub_ip("link", "set", port, "master", "br0", "up")
        run(["ip", "-n", host.name, "addr", "add", f"{host.address}/{PREFIX_LENGTH}", "dev", "eth0"])
        run(["ip", "-n", host.name, "link", "set", "eth0", "up"])
        return host

    def hub_address(self, number: int) -> str:
        """An address on the bridge itself, for small services that the test process runs."""
        address = SUBNET.format(number)
        self._hub_ip("addr", "add", f"{address}/{PREFIX_LENGTH}", "dev", "br0")
        return address

    def remove(self, host: Host) -> None:
        self._spaces.remove(host)
        host.delete()

    def close(self) -> None:
        while self._spaces:
            self._spaces.pop().delete()

    def _keep(self, space: Any) -> Any:
        self._spaces.append(space)
        return space

    def _hub_ip(self, *arguments: str) -> None:
        run(["ip", "-n", self.hub.name, *arguments])
