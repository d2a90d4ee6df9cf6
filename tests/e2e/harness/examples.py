"""Reads `examples*.toml`, and compares responses with what it expects."""

import json
import re
import shlex
import tomllib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

PRINTED_HOST = "https://api.tailscale.com"
PRINTED_TOKENS = ("tskey-api-xxxxx", "tskey-yourapikey123")


@dataclass
class Call:
    """A call in the test's own words, with what it must answer if that matters."""

    call: str
    status: int = 200
    body: str | None = None

    @property
    def method(self) -> str:
        return self.call.split(" ", 2)[0]

    @property
    def path(self) -> str:
        return self.call.split(" ", 2)[1]

    @property
    def sent(self) -> Any:
        parts = self.call.split(" ", 2)
        return json.loads(parts[2]) if len(parts) == 3 else None


@dataclass
class Example:
    """One `[[example]]`; the file's head describes the members."""

    name: str
    request: str
    status: int
    body: str | None = None
    text: str | None = None
    policy: str | None = None
    exact: bool = False
    derived: bool = False
    document: str = "api"
    path: str | None = None
    append: list[str] = field(default_factory=list)
    ids: dict[str, str] = field(default_factory=dict)
    roles: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    effect: list[dict[str, Any]] = field(default_factory=list)
    last: list[str] = field(default_factory=list)

    def arguments(self, base: str, token: str, ids: dict[str, str]) -> list[str]:
        """The arguments of `curl`, sent to `base` with a real token and real ids."""
        words = [*piped(command_words(self.request))[1:], *self.append]
        replaced = []
        for word in words:
            word = word.replace(PRINTED_HOST, base)
            for printed in PRINTED_TOKENS:
                word = word.replace(printed, token)
            if word.startswith(base):
                if self.path is not None:
                    word = word.replace("...", self.path)
                word = substitute(word, ids)
            if word.startswith("If-Match:"):
                word = substitute(word, ids)
            replaced.append(word)
        return replaced


def load(directory: Path) -> list[Example]:
    files = sorted(directory.glob("examples*.toml"))
    entries = [entry for file in files for entry in tomllib.loads(file.read_text())["example"]]
    return [
        Example(**{"last" if name == "finally" else name: value for name, value in entry.items()})
        for entry in entries
    ]


def substitute(text: str, ids: dict[str, str]) -> str:
    for printed, real in ids.items():
        text = text.replace(printed, real)
    return text


def command_words(command: str) -> list[str]:
    """The words of a shell command that may be continued over lines."""
    return shlex.split(command.replace("\\\n", " "))


def piped(words: list[str]) -> list[str]:
    """The words of `curl` with what a pipe gives it, without what makes its answer pretty."""
    commands: list[list[str]] = [[]]
    for word in words:
        if word == "|":
            commands.append([])
        else:
            commands[-1].append(word)
    if commands[0][0] != "echo":
        return commands[0]
    return [commands[0][1] if word == "@-" else word for word in commands[1]]


def first_printed_commands(document: str) -> list[list[str]]:
    """The words of each command in the document that first described the keys endpoint."""
    commands = re.findall(r"^(?:curl |echo ').*?(?=^```)", document, re.MULTILINE | re.DOTALL)
    return [normal_words(command) for command in commands]


def printed_commands(document: str) -> list[list[str]]:
    """The words of each `curl` command in the sections of the founding document under test.

    JSON inside them is compared without its white space.
    """
    introduction = document[: document.index("# APIs\n")]
    text = introduction + document[document.index("# Device\n") :]
    # A command starts a line, and ends with its code block.
    commands = re.findall(r"^curl .*?(?=^```|^#|^curl )", text, re.MULTILINE | re.DOTALL)
    return [normal_words(command) for command in commands]


def normal_words(command: str) -> list[str]:
    return [re.sub(r"\s+", "", word) for word in command_words(command)]


class Mismatch(AssertionError):
    """A response is not what the example says."""


class Matcher:
    """Compares a decoded response with an expected one; see the head of `examples.toml`."""

    def __init__(self, device: dict[str, Any] | None, objects: dict[str, dict[str, Any]]) -> None:
        self._device = device
        self._objects = objects

    def fill(self, text: str) -> str:
        """Replaces `<device.…>` in a call's body by the value."""
        return re.sub(r"<device\.[^>]+>", lambda found: str(self._of_device(found[0])), text)

    def compare(
        self, expected: Any, actual: Any, *, exact: bool, where: str = "body", beside: Any = None
    ) -> None:
        if isinstance(expected, str) and expected.startswith("<") and expected.endswith(">"):
            self._special(expected, actual, where, beside)
        elif isinstance(expected, dict):
            self._require(isinstance(actual, dict), where, expected, actual)
            for name, value in expected.items():
                if value == "<absent>":
                    self._require(name not in actual, f"{where}.{name}", "no member", actual.get(name))
                    continue
                self._require(name in actual, f"{where}.{name}", value, "no member")
                self.compare(value, actual[name], exact=exact, where=f"{where}.{name}", beside=actual)
            if exact:
                self._require(set(actual) == set(expected), where, sorted(expected), sorted(actual))
        elif isinstance(expected, list):
            self._require(isinstance(actual, list), where, expected, actual)
            if expected and all(isinstance(item, dict) for item in expected):
                for item in expected:
                    self._contains(item, actual, where, exact)
                return
            self._require(len(actual) == len(expected), where, expected, actual)
            for index, (wanted, got) in enumerate(zip(expected, actual, strict=True)):
                self.compare(wanted, got, exact=exact, where=f"{where}[{index}]")
        else:
            # `==` alone would take 1 for true.
            self._require(type(expected) is type(actual) and expected == actual, where, expected, actual)

    def _contains(self, item: Any, actual: list[Any], where: str, exact: bool) -> None:
        failures = []
        for candidate in actual:
            try:
                self.compare(item, candidate, exact=exact, where=where)
                return
            except Mismatch as failure:
                failures.append(str(failure))
        raise Mismatch(f"{where}: no item is {item!r}: {failures}")

    def _special(self, expected: str, actual: Any, where: str, beside: Any) -> None:
        if expected.startswith("<device."):
            holds = actual == self._of_device(expected)
        elif found := re.fullmatch(r"<(\w+) of (.+)>", expected):
            holds = actual == self._objects[found[2]][found[1]]
        else:
            holds = _KINDS[expected](actual, beside)
        self._require(holds, where, expected, actual)

    def _of_device(self, expected: str) -> Any:
        value: Any = self._device
        for part in expected[1:-1].split(".")[1:]:
            value = value[int(part)] if part.isdigit() else value[part]
        return value

    @staticmethod
    def _require(holds: bool, where: str, expected: Any, actual: Any) -> None:
        if not holds:
            raise Mismatch(f"{where}: expected {expected!r}, got {actual!r}")


def _time(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None


_KINDS = {
    "<string>": lambda value, _: isinstance(value, str) and value != "",
    "<boolean>": lambda value, _: isinstance(value, bool),
    "<object>": lambda value, _: isinstance(value, dict),
    "<list>": lambda value, _: isinstance(value, list),
    "<strings>": lambda value, _: (
        isinstance(value, list) and value != [] and all(isinstance(item, str) for item in value)
    ),
    "<time>": lambda value, _: _time(value) is not None,
    "<past time>": lambda value, _: (time := _time(value)) is not None and time <= datetime.now(UTC),
    "<a day after created>": lambda value, beside: (
        (time := _time(value)) is not None
        and time - datetime.fromisoformat(beside["created"]) == timedelta(days=1)
    ),
}
