"""The server under test: the `bowline` binary, in a namespace of its own."""

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

from .authority import Authority
from .network import Host, run
from .process import Daemon, environment
from .wait import until

OWNER = "owner@example.com"
TAILNET = "example.com"


class Server:
    """One data directory and, while started, one `bowline serve` on it."""

    def __init__(
        self,
        binary: Path,
        host: Host,
        directory: Path,
        authority: Authority | None = None,
        **env: str,
    ) -> None:
        """`env`: more of the environment of the running server."""
        self.host = host
        self.directory = directory
        self._authority = authority
        self.url = f"{'https' if authority else 'http'}://{host.address}:8080"
        self._binary = binary
        self._data = directory / "data"
        self._daemon: Daemon | None = None
        # The founding document refuses MagicDNS without a nameserver; by default the server does not.
        self._env = environment(
            directory, RUST_BACKTRACE="1", BOWLINE_TAILNET_MAGIC_DNS_NEEDS_NAMESERVER="true"
        )
        self._own_env = env
        directory.mkdir(parents=True, exist_ok=True)
        if authority is not None:
            self._env["BOWLINE_TLS_CERTIFICATE_FILE"] = str(directory / "certificate.pem")
            self._env["BOWLINE_TLS_KEY_FILE"] = str(directory / "key.pem")
            self.renew()

    def renew(self) -> None:
        """Puts a new certificate and key in place of those that are there."""
        assert self._authority is not None, "the server speaks no TLS"
        self._authority.issue(
            self.host.address, self.directory / "certificate.pem", self.directory / "key.pem"
        )

    def served(self, port: int) -> str:
        """The certificate that a listener shows."""
        shown = self.host.run(
            "openssl", "s_client", "-connect", f"{self.host.address}:{port}", input=""
        ).stdout  # fmt: skip
        return shown.split("-----BEGIN CERTIFICATE-----")[1].split("-----END")[0].strip()

    def command(self, *arguments: str) -> Any:
        """What a command prints as JSON, beside the server."""
        command = self.host.enter(self._binary, *arguments, "--data", self._data, "--json")
        return json.loads(run(command, env=self._env).stdout)

    def init(self) -> str:
        """Makes the first tailnet and its owner; returns the API access token that is shown once."""
        done = run(
            self.host.enter(
                self._binary, "init", "--data", self._data,
                "--owner", OWNER, "--tailnet", TAILNET, "--json",
            ),
            env=self._env,
        )  # fmt: skip
        token = json.loads(done.stdout)["token"]
        assert token.startswith("tskey-api-"), "the first token is not an API access token"
        return token

    def start(self) -> None:
        assert self._daemon is None, "already started"
        address = self.host.address
        command = self.host.enter(
            self._binary, "serve", "--data", self._data,
            "--listen", f"{address}:8080", "--url", self.url,
            "--derp-listen", f"{address}:8443", "--stun-listen", f"{address}:3478",
        )  # fmt: skip
        self._daemon = Daemon(command, self.directory / "bowline.log", {**self._env, **self._own_env}, self.directory)
        until("bowline answers /health", self._healthy, deadline=20, also=self.tail)

    def stop(self) -> None:
        """SIGTERM, which must drain and end with status 0."""
        assert self._daemon is not None, "not started"
        daemon, self._daemon = self._daemon, None
        status = daemon.end(signal.SIGTERM, patience=20)
        assert status == 0, f"SIGTERM ended with {status}\n{daemon.tail()}"

    def kill(self) -> None:
        """SIGKILL: no chance to write anything."""
        if self._daemon is not None:
            daemon, self._daemon = self._daemon, None
            daemon.kill()

    def tail(self) -> str:
        return self._daemon.tail() if self._daemon else "bowline is not running"

    def cli(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """One command on the data directory, whatever becomes of it."""
        return subprocess.run(
            self.host.enter(self._binary, *arguments, "--data", self._data),
            text=True,
            capture_output=True,
            check=False,
            timeout=30,
            env={**self._env, **env},
            stdin=subprocess.DEVNULL,
        )

    def log(self) -> str:
        """All that it logged so far."""
        return (self.directory / "bowline.log").read_text(errors="replace")

    def metric(self, name: str) -> int:
        """The value of a metric; labels are a part of its name, as in `name{label="value"}`."""
        text = self.host.run("curl", "-fsS", "--max-time", "5", "http://127.0.0.1:9090/metrics").stdout
        line = next(line for line in text.splitlines() if line.startswith(f"{name} "))
        return int(line.split()[1])

    def _healthy(self) -> bool:
        assert self._daemon is not None
        if not self._daemon.running:
            raise RuntimeError(f"bowline ended at start\n{self._daemon.tail()}")
        trusted = ["--cacert", str(self._authority.certificate)] if self._authority else []
        self.host.run("curl", "-fsS", "--max-time", "2", *trusted, f"{self.url}/health")
        return True
