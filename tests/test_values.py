import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

import pytest
from msgspec import Meta

from lfm_deploy.errors import ArtifactError, ConfigError
from lfm_deploy.storage.values import MOST_TOML_BYTES, Count, NotNegative, Reader, Sha256, Share


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    count: Count
    side: Annotated[int, Meta(ge=2, multiple_of=2)] | Literal["native"] = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    digest: Sha256 = "0" * 64
    share: Share = 0.5
    seconds: NotNegative = 0.0
    colour: Colour = Colour.RED
    pair: tuple[int, int] = (1, 2)
    parts: dict[str, Part]

    def __post_init__(self):
        if self.pair[0] > self.pair[1]:
            raise ConfigError(f"pair {self.pair} does not ascend")


READER = Reader(where="x.json", remedy="make it again")
GOOD = {
    "digest": "a" * 64,
    "share": 1,
    "seconds": 0.25,
    "colour": "blue",
    "pair": [1, 2],
    "parts": {"a": {"count": 0, "side": "native"}},
}


def refused(call, *arguments, **options):
    with pytest.raises(ArtifactError) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert message.startswith("x.json: ")
    assert message.endswith("; make it again")
    assert "\n" not in message
    return message.removeprefix("x.json: ").removesuffix("; make it again")


def test_what_was_written_is_read():
    read = READER.convert(READER.parse_json(json.dumps(GOOD)), Whole)
    assert (read.colour, read.pair, read.share) == (Colour.BLUE, (1, 2), 1.0)
    assert read.parts == {"a": Part(count=0, side="native")}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "damaged, not JSON (Expecting value"),
        ("{", "damaged, not JSON ("),
        ("[" * 100_000, "line 1 nests deeper than 32 levels"),
        ('{"a":' * 100_000, "line 1 nests deeper than 32 levels"),
        ("[1, NaN]", "damaged, not JSON (NaN is no number)"),
        ('{"a": -Infinity}', "damaged, not JSON (-Infinity is no number)"),
        ('{"a": [1e999]}', "a[0] is inf, expected a finite number"),
        (f"[{'9' * 5000}]", "damaged, not JSON (an integer of thousands of digits)"),
        ('{"a": {"b": 9223372036854775808}}', "a.b is an integer of more than 64 bits"),
        (r'{"a": "\ud800"}', "a is no text (half a character)"),
        (r'{"\udfff": 1}', "its content has the key"),
        ('{"a": 1, "b": 2, "a": 1}', "damaged, not JSON (the key 'a' comes twice)"),
        (f"[{'[],' * 2_500_000}0]", "its content holds too much, or too deep"),
    ],
)
def test_texts_that_no_file_has(text, complaint):
    assert refused(READER.parse_json, text).startswith(complaint)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a =", "not TOML (Invalid value"),
        ("a = 1\na = 2", "not TOML (Cannot overwrite a value"),
        (f"a = {'[' * 100_000}", "line 1 nests deeper than 32 levels"),
        # 60 KB of this take tomllib 3 GiB.
        (f"b = 1\n{'.'.join('a' * 30_000)} = 1", "line 2 has a key of more than 16 parts"),
        (f"[{'.'.join('a' * 30_000)}]", "line 1 has a key of more than 16 parts"),
        ("a = [1, nan]", "a[1] is nan, expected a finite number"),
        ("a.b = -inf", "a.b is -inf, expected a finite number"),
        (f"a = {'9' * 5000}", "not TOML (an integer of thousands of digits)"),
        (f"a = 0x{'f' * 5000}", "a is an integer of more than 64 bits"),
        ("a = 1979-05-27", "a is a date, expected a number, text, list or table"),
    ],
)
def test_toml_that_no_file_has(text, complaint):
    assert refused(READER.parse_toml, text).startswith(complaint)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"digest": "A" * 64}, f"digest is '{'A' * 64}', expected 64 hexadecimal digits"),
        ({"digest": "a" * 64 + "\n"}, rf"digest is '{'a' * 64}\n', expected 64 hexadecimal digits"),
        ({"digest": None}, "digest is None, expected a text"),
        ({"share": 1.5}, "share is 1.5, expected a number <= 1.0"),
        ({"share": True}, "share is True, expected a number"),
        ({"seconds": -1}, "seconds is -1, expected a number >= 0.0"),
        ({"colour": "green"}, "colour is 'green', expected red or blue"),
        ({"pair": [1]}, "pair is [1], expected a list of length 2"),
        ({"pair": [1, 2.0]}, "pair[1] is 2.0, expected a whole number"),
        ({"pair": [3, 2]}, "pair (3, 2) does not ascend"),
        ({"parts": {"a": {"count": "0", "side": 2}}}, "parts[...].count: expected a whole number, got a text"),
        ({"parts": {"a": {"count": 0, "side": "big"}}}, "parts[...].side: expected native"),
        ({"parts": {"a": {"count": 0, "side": 3}}}, "parts[...].side: expected a whole number that's a multiple of 2"),
        ({"parts": {"a": {"side": 2}}}, "parts[...] has no count"),
        ({"parts": {"a": {"count": 1}}}, "parts.a has no side"),
        ({"parts": {"a": {"count": 1, "side": 2, "x": 1}}}, "parts.a has the unknown key 'x'; known are count, side"),
        ({"parts": 5}, "parts is 5, expected a table"),
        ({"surprise": 1}, "unknown key 'surprise'; known are colour, digest, pair, parts, seconds, share"),
    ],
)
def test_values_that_cannot_be(change, complaint):
    assert refused(READER.convert, GOOD | change, Whole) == complaint


@pytest.mark.parametrize("values", [None, 5, [], "x", {}])
def test_something_else_altogether(values):
    refused(READER.convert, values, Whole)


def test_keys_may_be_missing_or_unknown_only_where_that_is_said():
    few = {"parts": {}}
    assert READER.convert(few, Whole, defaults=True).share == 0.5
    assert refused(READER.convert, few, Whole) == "its content has no digest"
    assert READER.convert(GOOD | {"surprise": 1}, Whole, others=True).pair == (1, 2)


def test_values_of_a_pickle_may_hold_themselves():
    round_and_round = []
    round_and_round.append(round_and_round)
    assert "holds too much, or too deep" in refused(READER.check_plain, round_and_round)
    doubled = []
    for _ in range(30):
        doubled = [doubled, doubled]
    assert "holds too much, or too deep" in refused(READER.check_plain, {"a": doubled})
    assert refused(READER.check_plain, {"a": {1: 2}}) == "a has the key 1, which is no text"
    assert refused(READER.check_plain, {"a": {(10**5000,): 2}}) == "a has the key a tuple, which is no text"
    assert refused(READER.check_plain, [object()]).startswith("[0] is a object, expected")


def test_formats():
    values = {"format": "f 2", "a": 1}
    assert READER.take_format(values, "f 3", "f 2") == "f 2"
    assert values == {"a": 1}
    for other in ({"format": "f 1"}, {"format": ["f 3"]}, {}, [], None):
        assert "this version of lfm-deploy reads 'f 3'" in refused(READER.take_format, other, "f 3", "f 2")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_files_in_the_encodings_of_editors(tmp_path, encoding):
    path = tmp_path / "x.json"
    path.write_text('{"a": "é"}', encoding=encoding)
    assert READER.read_json(path) == {"a": "é"}


def test_files_that_cannot_be_read(tmp_path):
    path = tmp_path / "x.toml"
    assert "cannot be read (No such file" in refused(READER.read_text, path)
    assert "cannot be read (Is a directory" in refused(READER.read_text, tmp_path)
    assert "null" in refused(READER.read_text, tmp_path / "a\0b")
    path.write_bytes(b"a = '\xff'")
    assert refused(READER.read_text, path) == "not text in UTF-8 (invalid start byte at byte 5)"
    path.write_bytes(b"#" * (MOST_TOML_BYTES + 1))
    assert "larger than 64 KiB" in refused(READER.read_text, path, MOST_TOML_BYTES)
    path.write_bytes(b"#" * MOST_TOML_BYTES)
    assert len(READER.read_text(path, MOST_TOML_BYTES)) == MOST_TOML_BYTES
