"""The API as its users call it: real `curl`, inside the test network."""

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .network import Namespace
from .openapi import OpenApi


@dataclass
class Reply:
    """One HTTP response."""

    method: str
    url: str
    status: int
    content_type: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """The text of an error."""
        return self.json["message"]

    def __repr__(self) -> str:
        return f"<{self.method} {self.url} {self.status} {self.body[:500]!r}>"


class Curl:
    """Runs `curl` in a namespace and checks every response against the official document."""

    def __init__(self, namespace: Namespace, openapi: OpenApi) -> None:
        self._namespace = namespace
        self.openapi = openapi

    def run(self, arguments: list[str], *, body: str | None = None) -> Reply:
        """`curl` with these arguments; they decide method, URL and credentials."""
        with tempfile.TemporaryDirectory(prefix="bowline-curl-") as scratch:
            answer, heads = Path(scratch) / "body", Path(scratch) / "headers"
            done = self._namespace.run(
                "curl", "-sS", "--max-time", "15",
                "-o", answer, "-D", heads,
                "-w", r"%{http_code}\n%{method}\n%{url_effective}\n%{content_type}",
                *arguments,
                input=body,
            )  # fmt: skip
            status, method, url, content_type = done.stdout.split("\n", 3)
            reply = Reply(
                method=method,
                url=url,
                status=int(status),
                content_type=content_type,
                # curl makes no file for an empty body.
                body=answer.read_bytes() if answer.exists() else b"",
                headers=_headers(heads.read_text()),
            )
        self.openapi.check(method, url, reply.status, reply.content_type, reply.body)
        return reply


class Api:
    """Calls with one credential."""

    def __init__(self, curl: Curl, url: str, token: str) -> None:
        self.curl = curl
        self.base = f"{url}/api/v2"
        self.token = token

    def call(self, method: str, path: str, body: Any = None) -> Reply:
        """One call; `path` is what follows `/api/v2`, `body` is sent as JSON."""
        arguments = ["-X", method, "-u", f"{self.token}:", f"{self.base}{path}"]
        if body is None:
            return self.curl.run(arguments)
        return self.curl.run([*arguments, "--data-binary", "@-"], body=json.dumps(body))

    def ok(self, method: str, path: str, body: Any = None) -> Any:
        """A call that must succeed; its decoded body (`None` when empty)."""
        reply = self.call(method, path, body)
        assert reply.status == 200, reply
        return reply.json if reply.body.strip() else None

    # The calls that many tests make.

    def auth_key(self, **create: bool) -> dict[str, Any]:
        """Makes an auth key: `reusable`, `ephemeral`, `preauthorized`."""
        return self.ok("POST", "/tailnet/-/keys", {"capabilities": {"devices": {"create": create}}})

    def key(self, key_id: str) -> dict[str, Any]:
        return self.ok("GET", f"/tailnet/-/keys/{key_id}")

    def device(self, device_id: str, fields: str = "default") -> dict[str, Any]:
        return self.ok("GET", f"/device/{device_id}?fields={fields}")

    def devices(self) -> dict[str, dict[str, Any]]:
        """All devices by `nodeId`."""
        listed = self.ok("GET", "/tailnet/-/devices")["devices"]
        return {device["nodeId"]: device for device in listed}

    def set_dns(self, **configuration: Any) -> dict[str, Any]:
        """Replaces the whole DNS configuration."""
        return self.ok("POST", "/tailnet/-/dns/configuration", configuration)


def _headers(text: str) -> dict[str, str]:
    lines = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {name.strip().lower(): value.strip() for name, value in lines}
