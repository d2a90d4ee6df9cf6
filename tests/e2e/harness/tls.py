"""TLS in front of the server, for clients that speak nothing else."""

import socket
import ssl
import threading
from pathlib import Path

from .network import Host, run


class TlsProxy:
    """Ends TLS beside the server, as a reverse proxy would, and passes on what is inside."""

    def __init__(self, host: Host, target_port: int, directory: Path) -> None:
        self.address = host.address
        self._host = host
        self._target = (host.address, target_port)
        directory.mkdir(parents=True, exist_ok=True)
        self.certificate = directory / "certificate.pem"
        key = directory / "key.pem"
        run([
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-days", "1", "-subj", "/CN=bowline", "-addext", f"subjectAltName=IP:{host.address}",
            "-keyout", str(key), "-out", str(self.certificate),
        ])  # fmt: skip
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.certificate, key)
        self._listener = host.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((host.address, 443))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        # A blocked accept ends with the shutdown, not with the close.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        try:
            with self._context.wrap_socket(plain, server_side=True) as caller:
                with self._host.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
                    server.connect(self._target)
                    back = threading.Thread(target=_pass_on, args=(server, caller), daemon=True)
                    back.start()
                    _pass_on(caller, server)
                    back.join(timeout=10)
        except OSError:
            return  # the caller went away


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    try:
        while part := source.recv(65536):
            target.sendall(part)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return
