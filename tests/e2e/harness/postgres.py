"""A PostgreSQL server of a test's own, by `tests/postgres`."""

import subprocess
from pathlib import Path

_ROOT = Path(__file__).parent.parent.parent.parent


class Postgres:
    """Runs until it is closed, or until this process ends: the script sees the end of its input."""

    def __init__(self) -> None:
        # The machine's environment: the script may have to install the server first.
        self._process = subprocess.Popen(
            [_ROOT / "tests/postgres", "sh", "-c", 'echo "$BOWLINE_TEST_POSTGRES_SOCKET"; cat'],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        """Of its empty database, by a Unix socket: a server in any network namespace reaches it."""
        assert self.url.startswith("postgres://"), "PostgreSQL did not start"

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
