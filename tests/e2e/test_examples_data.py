"""The data of `test_examples.py`: complete, and compared by a matcher that can fail. Needs no server."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import HERE, ROOT
from harness import examples
from harness.examples import Matcher, Mismatch

EXAMPLES = examples.load(HERE)


@pytest.mark.parametrize(
    ("document", "setting", "file", "read", "count"),
    [
        ("api", "BOWLINE_API_MD", "002_e5bc599ed0a869c7.txt", examples.printed_commands, 26),
        ("keys", "BOWLINE_KEYS_MD", "003_1cd82ce2f32365a1.txt", examples.first_printed_commands, 4),
    ],
)
def test_every_printed_example_is_here(
    document: str, setting: str, file: str, read: Callable[[str], list[list[str]]], count: int
) -> None:
    path = Path(os.environ.get(setting, ROOT.parent / "shared/reference/seeds" / file))
    if not path.is_file():
        pytest.skip(f"the founding document is not at {path}; set {setting} to its path")
    printed = read(path.read_text())
    assert len(printed) >= count
    own = [example for example in EXAMPLES if example.document == document and not example.derived]
    here = [examples.normal_words(example.request) for example in own]
    missing = [command for command in printed if command not in here]
    assert missing == []
    invented = [command for command in here if command not in printed]
    assert invented == []


def test_every_role_that_a_body_names_is_asked_for() -> None:
    for example in EXAMPLES:
        bodies = [example.body or "", *(effect["body"] for effect in example.effect)]
        named = set(re.findall(r"<\w+ of ([^>]+)>", " ".join(bodies)))
        assert named <= {*example.ids.values(), *example.roles}, example.name


GOOD = {"id": "k1", "created": "2026-01-01T00:00:00Z", "expires": "2026-01-02T00:00:00Z", "flag": True}


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ({"id": "k1", "revoked": "<absent>"}, GOOD),
        ({"expires": "<a day after created>"}, GOOD),
        ({"id": "<id of key>"}, GOOD),
        ({"created": "<past time>"}, {"created": "2020-01-01T00:00:00Z"}),
        ([{"id": "k1"}], [{"id": "k0"}, GOOD]),
        (["<string>", "b"], ["a", "b"]),
        ({"addresses": "<device.addresses>"}, {"addresses": ["a"]}),
    ],
)
def test_the_matcher_accepts(expected: Any, actual: Any) -> None:
    Matcher({"addresses": ["a"]}, {"key": {"id": "k1"}}).compare(expected, actual, exact=False)


@pytest.mark.parametrize(
    ("expected", "actual", "exact"),
    [
        ({"id": "k2"}, GOOD, False),
        ({"id": "<absent>"}, GOOD, False),
        ({"missing": "<string>"}, GOOD, False),
        ({"id": "k1"}, GOOD, True),
        ({"flag": 1}, GOOD, False),
        ({"flag": "<string>"}, GOOD, False),
        ({"created": "<a day after created>"}, GOOD, False),
        ({"created": "<past time>"}, {"created": "2999-01-01T00:00:00Z"}, False),
        ({"id": "<id of key>"}, {"id": "k9"}, False),
        ([{"id": "k1"}], [{"id": "k0"}], False),
        (["a"], ["a", "b"], False),
        (["a", "b"], ["b", "a"], False),
        ({"x": "<strings>"}, {"x": []}, False),
        ({"x": {}}, {"x": []}, False),
    ],
)
def test_the_matcher_refuses(expected: Any, actual: Any, exact: bool) -> None:
    with pytest.raises(Mismatch):
        Matcher({}, {"key": {"id": "k1"}}).compare(expected, actual, exact=exact)
