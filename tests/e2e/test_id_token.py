"""Tokens that say which device somebody is, as services elsewhere check them."""

import base64
import hashlib
import json
import subprocess
import time
from typing import Any

import pytest

from conftest import VERSIONS, Tailnet
from harness.client import Client

# What PKCS #1 puts before a SHA-256 digest. Source: RFC 8017, section 9.2.
SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")


def id_token(client: Client, audience: str) -> subprocess.CompletedProcess[str]:
    """`tailscale id-token`, which its users must say they want though it is not finished."""
    command = client.inside(
        "env", "TAILSCALE_USE_WIP_CODE=1", client.command, f"--socket={client.socket_path}", "id-token", audience
    )
    return subprocess.run(command, text=True, capture_output=True, check=False, timeout=30)


def decode(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def number(part: str) -> int:
    return int.from_bytes(decode(part), "big")


def document(tailnet: Tailnet, url: str) -> Any:
    return json.loads(tailnet.server.host.run("curl", "-sSf", url).stdout)


def verified(tailnet: Tailnet, token: str) -> dict[str, Any]:
    """The claims, when a key that the issuer's documents list has signed them."""
    head, body, signature = token.split(".")
    claims = json.loads(decode(body))
    discovery = document(tailnet, f"{claims['iss']}/.well-known/openid-configuration")
    assert discovery["issuer"] == claims["iss"]
    header = json.loads(decode(head))
    assert header["alg"] == "RS256"
    keys = document(tailnet, discovery["jwks_uri"])["keys"]
    (key,) = [key for key in keys if key["kid"] == header["kid"]]
    n, e = number(key["n"]), number(key["e"])
    length = (n.bit_length() + 7) // 8
    digest = SHA256 + hashlib.sha256(f"{head}.{body}".encode()).digest()
    padding = b"\xff" * (length - len(digest) - 3)
    expected = b"\x00\x01" + padding + b"\x00" + digest
    assert pow(number(signature), e, n).to_bytes(length, "big") == expected
    return claims


@pytest.mark.parametrize("version", VERSIONS)
def test_a_device_proves_elsewhere_which_one_it_is(tailnet: Tailnet, version: str) -> None:
    client = tailnet.join(version, "laptop")
    asked = id_token(client, "sts.example")
    assert asked.returncode == 0, asked.stderr
    claims = verified(tailnet, asked.stdout.strip())
    device = tailnet.api.device(client.device_id)
    assert claims["iss"] == tailnet.server.url
    assert claims["aud"] == "sts.example"
    assert claims["sub"] == claims["node"] == device["name"]
    assert claims["addresses"] == device["addresses"]
    assert claims["key"] == device["nodeKey"]
    assert claims["user"].endswith(f":{device['user']}")
    assert abs(claims["iat"] - time.time()) < 60
    assert claims["exp"] - claims["iat"] == 300

    # A device that has to be approved again proves nothing.
    tailnet.api.ok("POST", f"/device/{client.device_id}/authorized", {"authorized": False})
    refused = id_token(client, "sts.example")
    assert refused.returncode != 0
    assert "not authorized" in refused.stdout + refused.stderr
