"""The tool of the official GitOps action keeps the policy file in step with a repository."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import NEW, Tailnet
from harness.process import environment
from harness.server import TAILNET
from harness.tls import TlsProxy

POLICY = """{
	// Kept in a repository.
	"acls": [
		{"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self:*"]},
	],
	"tests": [{"src": "owner@example.com", "accept": ["owner@example.com:22"]}],
}
"""


@pytest.fixture
def proxy(tailnet: Tailnet, tmp_path: Path) -> Iterator[TlsProxy]:
    proxy = TlsProxy(tailnet.server.host, 8080, tmp_path / "tls")
    yield proxy
    proxy.close()
    tailnet.api.call("POST", "/tailnet/-/acl")


def test_gitops_pusher_tests_and_applies_a_policy(
    tailnet: Tailnet, proxy: TlsProxy, cache: Path, tmp_path: Path
) -> None:
    file = tmp_path / "policy.hujson"

    def pusher(command: str, text: str) -> subprocess.CompletedProcess[str]:
        file.write_text(text)
        return subprocess.run(
            tailnet.server.host.enter(
                cache / f"gitops-pusher-{NEW}",
                "--api-server", proxy.address,
                "--policy-file", file,
                "--fail-on-manual-edits",
                command,
            ),
            env=environment(
                tmp_path,
                TS_API_KEY=tailnet.api.token,
                TS_TAILNET=TAILNET,
                SSL_CERT_FILE=str(proxy.certificate),
            ),
            # It looks for its cache here, whatever `--cache-file` says.
            cwd=tmp_path, text=True, capture_output=True, check=False, timeout=60,
        )  # fmt: skip

    def etag() -> str:
        return tailnet.api.call("GET", "/tailnet/-/acl").headers["etag"]

    before = etag()
    good = pusher("test", POLICY)
    assert good.returncode == 0, good.stdout + good.stderr
    # A proposal whose own test fails, and one that is no policy: found before anything changes.
    failing = pusher("test", POLICY.replace('"accept": [', '"deny": ['))
    assert failing.returncode == 1 and "test(s) failed" in failing.stdout, failing.stdout
    assert "For user owner@example.com" in failing.stdout
    broken = pusher("test", POLICY.replace("autogroup:self", "autogroup:nobody"))
    assert broken.returncode == 1 and broken.stdout.strip(), broken.stdout
    assert etag() == before

    applied = pusher("apply", POLICY)
    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert etag() != before
    kept = tailnet.api.call("GET", "/tailnet/-/acl")
    assert kept.body.decode() == POLICY
    # Again: nothing to do, also when only the layout differs.
    again = pusher("apply", POLICY.replace("\t\t{", "\t\t\t  {"))
    assert again.returncode == 0 and "no update needed" in again.stderr, again.stderr
    refused = pusher("apply", POLICY.replace('"accept": [', '"deny": ['))
    assert refused.returncode == 1 and etag() == kept.headers["etag"]

    # Somebody edits it by hand: the tool sees that.
    tailnet.api.ok("POST", "/tailnet/-/acl", {"acls": []})
    manual = pusher("apply", POLICY.replace("repository", "Git repository"))
    assert manual.returncode == 1 and "modified externally" in manual.stdout, manual.stdout
