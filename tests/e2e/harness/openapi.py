"""Checks responses against the official OpenAPI document.

The document is not part of this repository; its path comes from `BOWLINE_OPENAPI`.
"""

import copy
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import jsonschema
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

_DOCUMENT = "urn:openapi"
_METHODS = ("get", "post", "put", "patch", "delete")
_BASE = "/api/v2"

# Members that we send on purpose although the document does not name them, by their object.
_EXTRA_MEMBERS = {
    # The founding document lists it among the fields there; the Go library decodes it.
    "clientConnectivity": ("derp",),
    # What a refused policy file's own tests found; the Go library and gitops-pusher decode it.
    "Error": ("data",),
    # An event's place in the chain.
    "ConfigurationAuditLog": ("number", "hash"),
    # As recorded answers have it; and where the next page begins.
    "configuration audit logs": ("tailnetId", "nextCursor"),
}

_formats = jsonschema.FormatChecker(formats=())


@_formats.checks("date-time")
def _is_date_time(value: Any) -> bool:
    if not isinstance(value, str):
        return True
    # `fromisoformat` alone would accept a date without time or zone.
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", value):
        return False
    try:
        # It knows at most microseconds.
        datetime.fromisoformat(re.sub(r"\.\d+", "", value))
    except ValueError:
        return False
    return True


class Violation(AssertionError):
    """A response that the official document does not describe."""


class OpenApi:
    """The official document, ready to judge responses.

    `own` is our document: it judges the operations that the official one does not have.
    """

    def __init__(self, path: Path, own: Path | None = None) -> None:
        if not path.is_file():
            raise FileNotFoundError(
                f"the official OpenAPI document is not at {path}; set BOWLINE_OPENAPI to its path"
            )
        self._document = json.loads(path.read_text())
        self._templates = [_Template(template) for template in self._document["paths"]]
        resource = Resource.from_contents(_closed(self._document), default_specification=DRAFT202012)
        self._registry = Registry().with_resource(_DOCUMENT, resource)
        self._own = OpenApi(own) if own else None
        self.judged = 0

    def check(self, method: str, url: str, status: int, content_type: str, body: bytes) -> None:
        """Raises `Violation` unless this response is one that the document allows."""
        self.judged += 1
        if self._own and not self._has(method, url):
            self._own.check(method, url, status, content_type, body)
            return
        template, operation = self._operation(method, url)
        where = f"{method} {template} -> {status}"
        responses = operation["responses"]
        if str(status) not in responses:
            # Some operations leave out statuses that their clients depend on (a DELETE of an
            # unknown device has no 404): such an answer must still be the document's error.
            if status < 400:
                raise Violation(f"{where}: status not documented")
            self._validate(where, _pointer("components", "schemas", "Error"), _json(where, body))
            return
        response, pointer = self._resolve(responses[str(status)], template, method, status)
        if "content" not in response:
            if body.strip() not in (b"", b"{}", b"null"):
                raise Violation(f"{where}: has a body where none is documented: {body[:200]!r}")
            return
        media = content_type.split(";")[0].strip().lower()
        if media not in response["content"]:
            raise Violation(f"{where}: content type {content_type!r} not documented")
        if media == "application/json":
            self._validate(where, [*pointer, "content", media, "schema"], _json(where, body))
        if status >= 400 and not _json(where, body).get("message"):
            raise Violation(f"{where}: an error without a message")

    def _has(self, method: str, url: str) -> bool:
        try:
            self._operation(method, url)
        except Violation:
            return False
        return True

    def _operation(self, method: str, url: str) -> tuple[str, dict[str, Any]]:
        path = urlsplit(url).path
        if not path.startswith(_BASE):
            raise Violation(f"{path} is not under {_BASE}")
        segments = [unquote(segment) for segment in path.removeprefix(_BASE).split("/")]
        matching = [t for t in self._templates if t.matches(segments)]
        for template in sorted(matching, key=lambda t: t.variables):
            operation = self._document["paths"][template.text].get(method.lower())
            if operation is not None:
                return template.text, operation
        raise Violation(f"{method} {path} is not an operation of the document")

    def _resolve(
        self, response: dict[str, Any], template: str, method: str, status: int
    ) -> tuple[dict[str, Any], list[str]]:
        reference = response.get("$ref")
        if reference is None:
            return response, _pointer("paths", template, method.lower(), "responses", str(status))
        parts = reference.removeprefix("#/").split("/")
        return self._at(parts), parts

    def _at(self, parts: list[str]) -> Any:
        value: Any = self._document
        for part in parts:
            value = value[part]
        return value

    def _validate(self, where: str, pointer: list[str], value: Any) -> None:
        escaped = (quote(part.replace("~", "~0").replace("/", "~1"), safe="~") for part in pointer)
        schema = {"$ref": f"{_DOCUMENT}#/{'/'.join(escaped)}"}
        validator = jsonschema.Draft202012Validator(schema, registry=self._registry, format_checker=_formats)
        problems = [_describe(error) for error in validator.iter_errors(value)]
        if problems:
            raise Violation(f"{where}: " + "; ".join(problems) + f"\n{json.dumps(value)[:2000]}")


class _Template:
    """A path template such as `/device/{deviceId}/routes`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._segments = text.split("/")
        self.variables = sum(segment.startswith("{") for segment in self._segments)

    def matches(self, segments: list[str]) -> bool:
        return len(segments) == len(self._segments) and all(
            bool(given) if wanted.startswith("{") else given == wanted
            for wanted, given in zip(self._segments, segments, strict=True)
        )


def _closed(document: dict[str, Any]) -> dict[str, Any]:
    """A copy in which an object may only have the members that the document names.

    The document requires hardly any member, so a misspelt one would pass otherwise.
    """
    document = copy.deepcopy(document)

    def walk(node: Any, name: str) -> None:
        if isinstance(node, list):
            for item in node:
                # The members of a composition say together what an object may have.
                walk(item, name)
        elif isinstance(node, dict):
            properties = node.get("properties")
            composed = name in ("allOf", "anyOf", "oneOf")
            if isinstance(properties, dict) and {"version", "logs"} <= properties.keys():
                name = "configuration audit logs"  # an answer without a name
            if isinstance(properties, dict) and not composed and "additionalProperties" not in node:
                node["properties"] = {extra: True for extra in _EXTRA_MEMBERS.get(name, ())} | properties
                node["unevaluatedProperties"] = False
            for child_name, child in node.items():
                walk(child, child_name)

    walk(document["paths"], "")
    walk(document["components"], "")
    return document


def _pointer(*parts: str) -> list[str]:
    return list(parts)


def _json(where: str, body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        raise Violation(f"{where}: not JSON: {body[:200]!r}") from None


def _describe(error: jsonschema.ValidationError) -> str:
    place = "/".join(str(part) for part in error.absolute_path) or "the body"
    return f"{place}: {error.message[:300]}"
