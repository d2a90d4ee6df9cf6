"""The machine the tests run on, which must be the same afterwards."""

from pathlib import Path


class ResolverFiles:
    """The machine's own resolver file. `tailscaled` outside a namespace would replace it."""

    _RESOLVER = Path("/etc/resolv.conf")
    # Where `tailscaled` puts the original when it takes over.
    _BACKUP = Path("/etc/resolv.pre-tailscale-backup.conf")

    def __init__(self) -> None:
        self._before = self._look()

    def check(self) -> None:
        """Fails when the file's content, identity or backup changed since this was made."""
        now = self._look()
        assert now == self._before, f"a test changed the machine's resolver: {self._before} -> {now}"

    def _look(self) -> tuple[bytes, int, bool]:
        return (
            self._RESOLVER.read_bytes(),
            self._RESOLVER.stat().st_ino,
            self._BACKUP.exists(),
        )
