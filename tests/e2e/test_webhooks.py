"""Webhooks: endpoints made by the official library, and what a receiver of TLS gets and verifies."""

import http.server
import json
import re
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import NEW, ROOT, Clients, Resolvers, accept, setting
from harness import record
from harness.api import Api, Curl
from harness.authority import Authority
from harness.network import Host, Network
from harness.openapi import OpenApi
from harness.process import environment
from harness.server import Server
from harness.wait import until

HEADER = "Tailscale-Webhook-Signature"


@dataclass
class Request:
    """A request as it came."""

    path: str
    signature: str
    body: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        return json.loads(self.body)


class Receiver:
    """A receiver in a namespace of its own, which answers with `status`."""

    def __init__(self, host: Host, directory: Path, authority: Authority) -> None:
        self.host = host
        self.url = f"https://{host.address}/"
        self.status = 200
        self.requests: list[Request] = []
        certificate, key = directory / "certificate.pem", directory / "key.pem"
        authority.issue(host.address, certificate, key)
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.requests.append(Request(self.path, self.headers[HEADER], body))
                self.send_response(outer.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server = host.call(lambda: http.server.ThreadingHTTPServer((host.address, 443), Handler))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def at(self, path: str) -> list[Request]:
        """The requests that an endpoint got."""
        return [request for request in self.requests if request.path == path]

    def wait_for(self, path: str, event: str) -> Request:
        """The newest request that tells an endpoint of such an event."""

        def look() -> Request | None:
            for request in reversed(self.at(path)):
                if event in [told["type"] for told in request.events]:
                    return request
            return None

        return until(f"{path} is told of {event}", look)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def authority(scratch: Path) -> Authority:
    return Authority(scratch / "webhook-authority")


@pytest.fixture(scope="module")
def receiver(network: Network, scratch: Path, authority: Authority) -> Iterator[Receiver]:
    host = network.host("receiver")
    receiver = Receiver(host, Path(tempfile.mkdtemp(prefix="hook", dir=scratch)), authority)
    yield receiver
    receiver.close()
    network.remove(host)


@pytest.fixture(scope="module")
def server(
    network: Network, scratch: Path, authority: Authority, receiver: Receiver
) -> Iterator[tuple[Server, str]]:
    """A server that may tell the receiver, whose address is not a public one."""
    host = network.host("hooks")
    server = Server(
        setting("BOWLINE_BIN"), host, Path(tempfile.mkdtemp(prefix="hooks", dir=scratch)),
        BOWLINE_OUTBOUND_ALLOW_NETWORKS=f"{receiver.host.address}/32",
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
    api.ok("POST", "/tailnet/-/acl", {"acls": [accept("*", "*:*")]})
    return api


@pytest.fixture
def clients(network: Network, resolvers: Resolvers, cache: Path, scratch: Path) -> Iterator[Clients]:
    clients = Clients(network, resolvers, cache, scratch)
    yield clients
    clients.close()


Verify = Callable[[str, bytes, str, float], bool]


def printed(language: str) -> str:
    """The verifier that the page about webhooks prints."""
    page = (ROOT / "docs/webhooks.md").read_text()
    found = re.search(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert found, language
    return found[1]


def of_python(_: Path) -> Verify:
    names: dict[str, Any] = {}
    exec(printed("python"), names)
    return names["verify"]


def of_program(command: list[str], scratch: Path) -> Verify:
    """A program that reads an object and says `true` or `false`."""

    def verify(header: str, body: bytes, secret: str, now: float) -> bool:
        given = {"header": header, "body": body.decode(), "secret": secret, "now": int(now)}
        done = subprocess.run(
            command, input=json.dumps(given), cwd=scratch,
            env=environment(scratch), text=True, capture_output=True, check=True, timeout=60,
        )  # fmt: skip
        return json.loads(done.stdout)

    return verify


def of_javascript(scratch: Path) -> Verify:
    program = scratch / "verify.js"
    program.write_text(
        printed("js")
        + "const given = JSON.parse(require('node:fs').readFileSync(0));"
        + "console.log(verify(given.header, Buffer.from(given.body), given.secret, given.now * 1000));"
    )
    return of_program(["node", str(program)], scratch)


def of_go(scratch: Path) -> Verify:
    (scratch / "go.mod").write_text("module verifier\n\ngo 1.21\n")
    (scratch / "verify.go").write_text(printed("go"))
    (scratch / "main.go").write_text(
        """package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

func main() {
	var given struct {
		Header, Body, Secret string
		Now                  int64
	}
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		panic(err)
	}
	fmt.Println(verify(given.Header, []byte(given.Body), given.Secret, time.Unix(given.Now, 0)))
}
"""
    )
    program = scratch / "verify"
    subprocess.run(["go", "build", "-o", str(program), "."], cwd=scratch, check=True, timeout=120)
    return of_program([str(program)], scratch)


def test_the_official_library_and_every_printed_verifier(
    api: Api,
    server: tuple[Server, str],
    receiver: Receiver,
    openapi: OpenApi,
    cache: Path,
    tmp_path: Path,
) -> None:
    recorded = tmp_path / "responses"
    done = subprocess.run(
        server[0].host.enter(cache / "go-webhooks"),
        env=environment(
            tmp_path,
            BOWLINE_URL=server[0].url,
            BOWLINE_TOKEN=server[1],
            BOWLINE_RECEIVER=receiver.url,
            BOWLINE_RECORD=str(recorded),
        ),
        text=True, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    responses = record.read(recorded)
    assert len(responses) >= 10
    for response in responses:
        response.check(openapi)
    endpoint, newer, older = done.stdout.split()

    told = receiver.wait_for("/", "test")
    assert told.events[0]["version"] == 1
    now = time.time()
    for make in (of_python, of_javascript, of_go):
        verify = make(tmp_path)
        # In the time of overlap either secret is right, and no other.
        assert verify(told.signature, told.body, newer, now), make
        assert verify(told.signature, told.body, older, now), make
        assert not verify(told.signature, told.body, newer.swapcase(), now), make
        assert not verify(told.signature, told.body + b" ", newer, now), make
        assert not verify(told.signature, told.body, newer, now + 600), make
        assert not verify("", told.body, newer, now), make
    api.ok("DELETE", f"/webhooks/{endpoint}")


def test_a_receiver_is_told_of_a_device_when_it_answers_again(
    api: Api, server: tuple[Server, str], receiver: Receiver, clients: Clients
) -> None:
    body = {"endpointUrl": receiver.url + "devices", "subscriptions": ["nodeCreated", "nodeDeleted"]}
    made = api.ok("POST", "/tailnet/-/webhooks", body)
    receiver.status = 503
    try:
        key = api.ok("POST", "/tailnet/-/keys", {"capabilities": {"devices": {"create": {}}}})["key"]
        client = clients.start(NEW, "told")
        client.up(server[0].url, key, "told")
        refused = receiver.wait_for("/devices", "nodeCreated")
    finally:
        receiver.status = 200
    # The same event, signed anew, and then the next.
    until("it is told again", lambda: receiver.at("/devices")[-1].signature != refused.signature, deadline=40)
    assert receiver.at("/devices")[-1].events == refused.events
    device = client.device_id
    data = refused.events[0]["data"]
    assert data["nodeID"] == device and refused.events[0]["tailnet"] == "example.com"
    api.ok("DELETE", f"/device/{device}")
    assert receiver.wait_for("/devices", "nodeDeleted").events[-1]["data"]["nodeID"] == device
    order = [event["type"] for request in receiver.at("/devices") for event in request.events]
    assert order[-1] == "nodeDeleted" and set(order[:-1]) == {"nodeCreated"}
    verify = of_python(server[0].directory)
    assert all(
        verify(request.signature, request.body, made["secret"], time.time())
        for request in receiver.at("/devices")
    )
    api.ok("DELETE", f"/webhooks/{made['endpointId']}")
