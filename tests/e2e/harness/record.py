"""Responses that a client library got, kept for the check against the OpenAPI document."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from .openapi import OpenApi


@dataclass
class Recorded:
    method: str
    url: str
    status: int
    content_type: str
    body: bytes

    def check(self, openapi: OpenApi) -> None:
        openapi.check(self.method, self.url, self.status, self.content_type, self.body)


def read(path: Path) -> list[Recorded]:
    """The responses that `go-api` wrote down."""
    lines = (json.loads(line) for line in path.read_text().splitlines())
    return [
        Recorded(
            entry["method"], entry["url"], entry["status"], entry["type"], base64.b64decode(entry["body"])
        )
        for entry in lines
    ]
