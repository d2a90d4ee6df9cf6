"""A child process of the tests: its log, and an end that always comes."""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .network import die_with_parent

# What a child sees of the test's environment. Everything else it needs is given by name.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment(home: Path, **extra: str) -> dict[str, str]:
    """A small environment: no proxies, no credentials, a home of its own."""
    return {"PATH": _PATH, "HOME": str(home), "LANG": "C.UTF-8", **extra}


class Daemon:
    """A long-running child. Only this very process is ever signalled."""

    def __init__(self, command: Sequence[str], log: Path, env: dict[str, str], cwd: Path) -> None:
        self.log_path = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                preexec_fn=die_with_parent,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def end(self, sig: int = signal.SIGTERM, patience: float = 10.0) -> int:
        """Signals the process and waits for it; returns its exit status (negative: the signal)."""
        if self.running:
            os.kill(self.pid, sig)
        try:
            return self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"no end within {patience:g} s of signal {sig}\n{self.tail()}") from None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def tail(self, lines: int = 40) -> str:
        text = self.log_path.read_text(errors="replace").splitlines()
        return "\n".join([f"--- end of {self.log_path.name}", *text[-lines:]])
