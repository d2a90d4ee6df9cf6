"""A TCP proxy whose clients can vanish behind it without a word."""

import selectors
import socket
import threading

from .network import Namespace


class Proxy:
    """Passes connections on to one address. After `lose_clients` the far side still finds every
    connection open, and everything that it sends acknowledged."""

    def __init__(self, space: Namespace, address: str, target: tuple[str, int]) -> None:
        self._space = space
        self._target = target
        self._lost = threading.Event()
        self._listener = space.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.bind((address, 0))
        self._listener.listen(64)
        host, port = self._listener.getsockname()
        self.url = f"http://{host}:{port}"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_clients(self) -> None:
        self._lost.set()

    def close(self) -> None:
        for one in [self._listener, *self._open]:
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            server = self._space.socket(socket.AF_INET, socket.SOCK_STREAM)
            server.connect(self._target)
            self._open += [client, server]
            threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        other = {client: server, server: client}
        with selectors.DefaultSelector() as selector:
            for one in other:
                selector.register(one, selectors.EVENT_READ)
            while True:
                try:
                    for key, _ in selector.select():
                        data = key.fileobj.recv(65536)
                        if self._lost.is_set():
                            if not data:
                                selector.unregister(key.fileobj)
                            continue  # taken, and lost
                        if not data:
                            client.close()
                            server.close()
                            return
                        other[key.fileobj].sendall(data)
                except OSError:
                    if self._lost.is_set():
                        continue
                    return
