"""An unmodified `tailscaled` in a namespace of its own, driven by its own `tailscale`."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

from .network import Host
from .process import Daemon, environment
from .wait import until

# Enough of /etc for name lookup, dynamic linking, iptables (found through "alternatives"), and for
# the daemon to tell which distribution it runs on.
_ETC_PATTERNS = (
    "alternatives/*tables*",
    "debian_version",
    "group",
    "host.conf",
    "ld.so.cache",
    "localtime",
    "os-release",
    "passwd",
    "protocols",
    "services",
)

# Runs the daemon with its own /etc and an empty /run. Nothing starts if a mount fails: a daemon
# that saw the machine's /etc would replace its resolver file.
_ISOLATE = """
set -e
mount --bind "$1" /etc
mount -t tmpfs -o mode=755 tmpfs /run
shift
exec "$@"
"""


class Refused(AssertionError):
    """`tailscale up` ended with an error; the text is what its user saw."""


class Client:
    """One device: a daemon, its state directory and its host."""

    def __init__(
        self,
        version: str,
        binaries: Path,
        host: Host,
        directory: Path,
        resolver: str,
        authorities: Path | None = None,
    ) -> None:
        self.version = version
        self.host = host
        self._cli = binaries / "tailscale"
        self._daemon_binary = binaries / "tailscaled"
        self._directory = directory
        self._etc = directory / "etc"
        # Who vouches for servers, where it is not the authorities of this machine.
        self._trusted = {"SSL_CERT_FILE": str(authorities)} if authorities else {}
        self._daemon: Daemon | None = None
        self.socket_path = directory / "sock"
        self._make_etc(resolver)

    # Life ---------------------------------------------------------------------------------------

    def start(self) -> "Client":
        """Starts the daemon and waits until it answers. State of an earlier start is kept."""
        assert self._daemon is None, "already started"
        state = self.state_directory
        (self._directory / "logs").mkdir(parents=True, exist_ok=True)
        command = self.host.enter(
            "unshare", "--mount", "--propagation", "private",
            "sh", "-c", _ISOLATE, "isolate", self._etc,
            self._daemon_binary,
            f"--statedir={state}", f"--state={state / 'tailscaled.state'}",
            f"--socket={self.socket_path}", "--port=41641", "--tun=tailscale0",
        )  # fmt: skip
        env = environment(
            self._directory,
            # Clients upload their logs to their maker by default; these have no way out and
            # must not even try.
            TS_NO_LOGS_NO_SUPPORT="1",
            TS_LOGS_DIR=str(self._directory / "logs"),
            **self._trusted,
        )
        log = self._directory / "tailscaled.log"
        self._daemon = Daemon(command, log, env, self._directory)
        until("tailscaled answers", lambda: self._answers(), deadline=20, also=self.tail)
        return self

    def stop(self) -> None:
        """Ends the daemon as a service manager would; the state stays for another `start`."""
        if self._daemon is not None:
            daemon, self._daemon = self._daemon, None
            # Whatever the exit status: the old version ends with 1 when its tunnel is closing.
            daemon.end(signal.SIGTERM)

    def kill(self) -> None:
        if self._daemon is not None:
            daemon, self._daemon = self._daemon, None
            daemon.kill()

    def pause(self) -> None:
        """Lets the daemon stand still; its connections stay open."""
        assert self._daemon is not None, "not started"
        os.kill(self._daemon.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on."""
        if self._daemon is not None and self._daemon.running:
            os.kill(self._daemon.pid, signal.SIGCONT)

    @property
    def state_directory(self) -> Path:
        """Where it keeps its keys."""
        return self._directory / "state"

    def tail(self) -> str:
        return self._daemon.tail() if self._daemon else f"{self.host.name} is not running"

    # The command line -----------------------------------------------------------------------------

    @property
    def command(self) -> Path:
        """The `tailscale` of its version."""
        return self._cli

    def cli(
        self, *arguments: str, check: bool = True, timeout: float = 30
    ) -> subprocess.CompletedProcess[str]:
        """Runs `tailscale` beside its daemon: same network, same /etc."""
        command = self.inside(self._cli, f"--socket={self.socket_path}", *arguments)
        done = subprocess.run(
            command,
            text=True,
            capture_output=True,
            check=False,
            timeout=timeout,
            env=environment(self._directory),
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"tailscale {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}{self.tail()}"
            )
        return done

    def inside(self, *command: str | Path) -> list[str]:
        """The command line that runs `command` in the daemon's own namespaces."""
        assert self._daemon is not None and self._daemon.running, "tailscaled is not running"
        pid = str(self._daemon.pid)
        return ["nsenter", "-t", pid, "-m", "-n", *(str(part) for part in command)]

    def up(self, url: str, key: str, hostname: str, *flags: str, seconds: int = 30) -> "Client":
        """`tailscale up` with an auth key, as its user would type it; `Refused` if it fails."""
        done = self.cli(
            "up",
            f"--login-server={url}",
            f"--auth-key={key}",
            f"--hostname={hostname}",
            f"--timeout={seconds}s",
            *flags,
            check=False,
            timeout=seconds + 10,
        )
        if done.returncode != 0:
            raise Refused((done.stdout + done.stderr).strip() or f"status {done.returncode}")
        return self

    # State ----------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What `tailscale status --json` prints, straight from the daemon."""
        return self._local("/localapi/v0/status")

    @property
    def state(self) -> str:
        return self.status()["BackendState"]

    def wait_for_state(self, state: str, deadline: float = 15.0) -> None:
        until(f"{self.host.name} is {state}", lambda: self.state == state, deadline=deadline, also=self.tail)

    @property
    def me(self) -> dict[str, Any]:
        return self.status()["Self"]

    @property
    def device_id(self) -> str:
        return self.me["ID"]

    @property
    def ipv4(self) -> str:
        return next(ip for ip in self.me["TailscaleIPs"] if ":" not in ip)

    @property
    def ipv6(self) -> str:
        return next(ip for ip in self.me["TailscaleIPs"] if ":" in ip)

    @property
    def dns_name(self) -> str:
        """The full MagicDNS name, with the final dot."""
        return self.me["DNSName"]

    @property
    def health(self) -> list[str]:
        return self.status().get("Health") or []

    def peer(self, device_id: str) -> dict[str, Any] | None:
        """What this device knows of a peer, or `None`."""
        peers = (self.status().get("Peer") or {}).values()
        return next((peer for peer in peers if peer["ID"] == device_id), None)

    def wait_for_peer(self, device_id: str, what: str, holds: Any, deadline: float = 15.0) -> dict[str, Any]:
        """Waits until the peer is there and `holds(peer)`; returns the peer."""

        def look() -> Any:
            peer = self.peer(device_id)
            assert peer is not None, "no such peer"
            assert holds(peer), json.dumps(peer)
            return peer

        return until(f"{self.host.name} sees {what}", look, deadline=deadline, also=self.tail)

    def wait_until_gone(self, device_id: str, deadline: float = 15.0) -> None:
        until(
            f"{self.host.name} no longer sees {device_id}",
            lambda: self.peer(device_id) is None,
            deadline=deadline,
            also=self.tail,
        )

    def netmap(self) -> dict[str, Any]:
        """What `tailscale debug netmap` prints: the daemon's whole view of the tailnet."""
        return json.loads(self.cli("debug", "netmap").stdout)

    @property
    def resolver_file(self) -> str:
        """The resolver file that programs beside this daemon see."""
        return (self._etc / "resolv.conf").read_text()

    # Traffic --------------------------------------------------------------------------------------

    def ping(self, address: str, *, direct: bool) -> str:
        """`tailscale ping` until a pong came over the wanted kind of path; returns that line."""
        end = r" via (?!DERP\()\S+:\d+ in " if direct else r" via DERP\([^)]+\) in "

        def look() -> str:
            done = self.cli("ping", "--c=1", "--timeout=2s", "--until-direct=false", address, check=False)
            for line in done.stdout.splitlines():
                if re.match(r"pong from .*" + end, line):
                    return line
            raise AssertionError(done.stdout + done.stderr)

        kind = "directly" if direct else "over the relay"
        return until(f"pong from {address} {kind}", look, deadline=20, also=self.tail)

    def icmp(self, address: str) -> None:
        """An echo of the operating system's own `ping`, through the tunnel.

        It asks every second until one came: the first packet may be lost with a handshake, which is
        made again after 5 s.
        """
        self.host.run("ping", "-c", "1", "-w", "12", address)

    def lookup(self, name: str) -> list[str]:
        """Addresses the C library finds for `name` in a program beside this daemon."""
        done = subprocess.run(
            self.inside("getent", "ahosts", name), text=True, capture_output=True, check=False, timeout=30
        )
        return sorted({line.split()[0] for line in done.stdout.splitlines()})

    # Inside ---------------------------------------------------------------------------------------

    def _make_etc(self, resolver: str) -> None:
        self._etc.mkdir(parents=True)
        etc = Path("/etc")
        for source in (found for pattern in _ETC_PATTERNS for found in etc.glob(pattern)):
            copy = self._etc / source.relative_to(etc)
            copy.parent.mkdir(exist_ok=True)
            shutil.copy(source, copy, follow_symlinks=False)
        (self._etc / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
        (self._etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
        (self._etc / "resolv.conf").write_text(f"nameserver {resolver}\n")

    def _answers(self) -> bool:
        assert self._daemon is not None and self._daemon.running, f"tailscaled ended\n{self.tail()}"
        return "BackendState" in self.status()

    def _local(self, path: str) -> Any:
        connection = _UnixConnection(self.socket_path)
        try:
            connection.request("GET", path, headers={"Host": "local-tailscaled.sock"})
            response = connection.getresponse()
            body = response.read()
            assert response.status == 200, f"{path}: {response.status} {body!r}"
            return json.loads(body)
        finally:
            connection.close()


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over the daemon's socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("local-tailscaled.sock", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def exchange(client: Client, server: Client, address: str, size: int = 200_000) -> None:
    """TCP between two devices: `size` bytes from `client` to `server` at `address`, and back."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    payload = bytes(i % 251 for i in range(size))
    listener = server.host.socket(family, socket.SOCK_STREAM)
    caller = client.host.socket(family, socket.SOCK_STREAM)
    with listener, caller:
        listener.bind((address, 0))
        listener.listen()
        listener.settimeout(15)
        caller.settimeout(15)
        caller.connect(listener.getsockname()[:2])
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(15)
            for sender, receiver in ((caller, accepted), (accepted, caller)):
                _send_beside(sender, payload)
                assert _receive(receiver, size) == payload, "bytes changed on the way"


def _send_beside(sender: socket.socket, payload: bytes) -> None:
    # In a thread: the payload is larger than the buffers between the two sockets.
    threading.Thread(target=sender.sendall, args=(payload,), daemon=True).start()


def _receive(receiver: socket.socket, size: int) -> bytes:
    parts = []
    while size > 0:
        part = receiver.recv(65536)
        assert part, f"the connection ended {size} bytes early"
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
