import re
from pathlib import Path

import pytest

from lfm_deploy.detectors.toml_table import TomlTable
from lfm_deploy.errors import DetectorError

KNOWN = ("key", "inner")


def table(**values):
    return TomlTable(values, Path("mine.toml"), "input", KNOWN)


def test_values_are_given_as_they_are_and_missing_ones_are_none():
    for take in (
        TomlTable.text,
        TomlTable.number,
        TomlTable.triple,
        lambda taken, key: taken.whole(key, 1, 9),
        lambda taken, key: taken.choice(key, ("a", "b")),
    ):
        assert take(table(), "key") is None
    assert table(key="a").text("key") == "a"
    assert table(key=2).number("key") == 2.0
    assert table(key=[1, 2.5, 3]).triple("key") == (1.0, 2.5, 3.0)
    assert table(key=9).whole("key", 1, 9) == 9
    assert table(key="b").required_choice("key", ("a", "b")) == "b"
    assert table(inner={"deep": 1}).table("inner", ("deep",)).whole("deep", 0, 1) == 1


@pytest.mark.parametrize(
    ("values", "take", "message"),
    [
        ({"kee": 1}, None, "[input] kee is not a key; known are key, inner"),
        ({"key": " "}, TomlTable.text, "[input] key is ' ', expected text on one line that is not empty"),
        ({"key": 1}, TomlTable.text, "[input] key is 1, expected text"),
        ({"key": True}, TomlTable.number, "[input] key is True, expected a number"),
        ({"key": float("inf")}, TomlTable.number, "[input] key is inf, expected a finite number"),
        ({"key": [1, 2]}, TomlTable.triple, "[input] key is [1, 2], expected three finite numbers"),
        ({"key": 10}, lambda t, key: t.whole(key, 1, 9), "[input] key is 10, expected a whole number from 1 to 9"),
        ({"key": "c"}, lambda t, key: t.choice(key, ("a", "b")), "[input] key is 'c', expected a or b"),
        ({}, lambda t, key: t.required_choice(key, ("a", "b")), "[input] key is missing; expected a or b"),
        ({}, lambda t, key: t.require(key, t.text(key)), "[input] key is missing; every detector needs it"),
        ({}, lambda t, key: t.table(key, ()), "[input] key is missing; expected a table [key]"),
        (
            {"key": 1},
            lambda t, key: t.refuse_without_effect([key], "on a uint8 input"),
            "[input] key has no effect on a uint8 input; remove it",
        ),
    ],
)
def test_what_is_refused_is_named_with_what_is_allowed(values, take, message):
    with pytest.raises(DetectorError, match=f"^{re.escape(f'mine.toml: {message}')}"):
        take(table(**values), "key")
