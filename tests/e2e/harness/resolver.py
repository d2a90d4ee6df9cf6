"""DNS as the tests need it: a question to a resolver, and a resolver that gives fixed answers."""

import ipaddress
import secrets
import socket
import struct
import threading

from .network import Namespace

A = 1
AAAA = 28


def ask(namespace: Namespace, server: str, name: str, kind: int = A, deadline: float = 3.0) -> list[str]:
    """Asks `server` from inside `namespace`; the addresses of the answer, or an error with its code."""
    ident = secrets.randbelow(1 << 16)
    question = _encode_name(name) + struct.pack(">HH", kind, 1)
    query = struct.pack(">HHHHHH", ident, 0x0100, 1, 0, 0, 0) + question
    with namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as endpoint:
        endpoint.settimeout(deadline)
        endpoint.sendto(query, (server, 53))
        reply, _ = endpoint.recvfrom(4096)
    got, flags, _, answers, _, _ = struct.unpack(">HHHHHH", reply[:12])
    assert got == ident, "an answer to another question"
    assert flags & 0xF == 0, f"{name}: response code {flags & 0xF}"
    offset = _skip_name(reply, 12) + 4
    found = []
    for _ in range(answers):
        offset = _skip_name(reply, offset)
        record, _, _, length = struct.unpack(">HHIH", reply[offset : offset + 10])
        data = reply[offset + 10 : offset + 10 + length]
        if record in (A, AAAA):
            found.append(str(ipaddress.ip_address(data)))
        offset += 10 + length
    return found


class Resolver:
    """Answers every A question with one address, so that an answer tells who gave it."""

    def __init__(self, namespace: Namespace, address: str, answer: str) -> None:
        self.address = address
        self.answer = answer
        self._packed = ipaddress.IPv4Address(answer).packed
        self._endpoint = namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._endpoint.bind((address, 53))
        self._thread = threading.Thread(target=self._serve, name=f"resolver {address}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        # An empty datagram to itself is the sign to stop: closing would not wake the thread.
        self._endpoint.sendto(b"", (self.address, 53))
        self._thread.join(5)
        self._endpoint.close()

    def _serve(self) -> None:
        while True:
            query, sender = self._endpoint.recvfrom(4096)
            if not query:
                return
            if len(query) < 17:
                continue
            end = _skip_name(query, 12) + 4
            (kind,) = struct.unpack(">H", query[end - 4 : end - 2])
            records = b""
            if kind == A:
                records = b"\xc0\x0c" + struct.pack(">HHIH", A, 1, 1, 4) + self._packed
            header = query[:2] + struct.pack(">HHHHH", 0x8180, 1, 1 if records else 0, 0, 0)
            self._endpoint.sendto(header + query[12:end] + records, sender)


def _encode_name(name: str) -> bytes:
    labels = name.rstrip(".").split(".")
    return b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"


def _skip_name(message: bytes, offset: int) -> int:
    while True:
        length = message[offset]
        if length >= 0xC0:
            return offset + 2
        offset += 1 + length
        if length == 0:
            return offset
