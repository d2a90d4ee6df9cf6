"""A certificate authority of the tests, which clients are told to trust by SSL_CERT_FILE."""

from pathlib import Path

from .network import run


class Authority:
    """Issues certificates for addresses."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._key = directory / "authority.key"
        self.certificate = directory / "authority.pem"
        run([
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-days", "1", "-subj", "/CN=authority of the tests", "-keyout", str(self._key),
            "-out", str(self.certificate),
        ])  # fmt: skip

    def issue(self, address: str, certificate: Path, key: Path) -> None:
        """Writes a new pair, one file after the other, in place of the one that is there."""
        request, extensions = self._directory / "request.pem", self._directory / "extensions"
        extensions.write_text(f"subjectAltName=IP:{address}\n")
        run([
            "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", "/CN=bowline", "-keyout", str(key), "-out", str(request),
        ])  # fmt: skip
        run([
            "openssl", "x509", "-req", "-in", str(request), "-CA", str(self.certificate),
            "-CAkey", str(self._key), "-days", "1", "-extfile", str(extensions), "-out", str(certificate),
        ])  # fmt: skip
        certificate.chmod(0o644)
        key.chmod(0o600)
