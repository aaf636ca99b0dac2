"""Bad golden pictures: ``golden.zip`` with damage, odd entries, or values that cannot be under a right check sum."""

import io
import json
import zipfile
from pathlib import Path
from random import Random
from typing import Any

from fuzzing.damage import damage
from fuzzing.misvalues import spoil_json, spoil_values, to_json
from fuzzing.seeds import Seeds, rewrite
from fuzzing.trial import Answer, Result, Trial

_INDEX = "golden.json"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def make_golden(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """``golden.zip``, when a model repository is written with it."""
    whole = (seeds.deploy / "golden.zip").read_bytes()
    content, what, sealed = _spoil(rng, whole)
    place = seeds.link_deploy(folder, only=("lfm.onnx", "lfm.pth"))
    rewrite(place / "golden.zip", content)
    copy = folder / "out" / "lfm_jpeg" / "1" / "golden.zip"

    def judge(_: Answer) -> tuple[Result, str]:
        # What somebody has sealed is what it says; whether an engine gives these logits is seen when it serves.
        if sealed or _read(copy.read_bytes()) == _read(whole):
            return Result.RIGHT, ""
        return Result.WRONG, "takes golden pictures that are others"

    return Trial(
        arguments=["triton", f"{folder / 'out'}", "--json", "--workdir", f"{place}"],
        what=f"golden.zip: {what}",
        names=("golden.zip",),
        judge=judge,
    )


def _spoil(rng: Random, whole: bytes) -> tuple[bytes, str, bool]:
    """Other bytes, what was done, and whether the check sum in them holds."""
    index, files = _read(whole)
    choice = rng.random()
    if choice < 0.35:
        return *damage(rng, whole), False
    method = rng.choice(_METHODS)
    if choice < 0.5:
        packed, what = damage(rng, _pack(json.dumps(index).encode(), files, method))
        return packed, f"method {method}: {what}", False
    if choice < 0.6:
        content, what = spoil_json(rng, index)
        return _pack(content, files, method), what, False
    if choice < 0.7:
        return *_spoil_entries(rng, index, files), False
    del index["content_sha256"]
    if choice < 0.8:
        name = rng.choice(sorted(files))
        files[name], what = damage(rng, files[name])
        next(entry for entry in index["pictures"] if entry["file"] == name)["sha256"] = _digest(files[name])
        return _pack(_seal(index), files, method), f"sealed, {name}: {what}", True
    spoilt, what = spoil_values(rng, index)
    return _pack(_seal(spoilt), files, method), f"sealed, {what}", True


def _spoil_entries(rng: Random, index: Any, files: dict[str, bytes]) -> tuple[bytes, str]:
    """An archive whose entries are odd."""
    first = sorted(files)[0]
    what = rng.choice(["no index", "an entry is missing", "two indices", "a bomb", "an empty archive", "another index"])
    if what == "an empty archive":
        return b"PK\x05\x06" + bytes(18), what
    if what == "an entry is missing":
        del files[first]
    if what == "a bomb":
        files[first] = bytes(1 << 28)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        if what != "no index":
            archive.writestr(_INDEX, {"another index": b"[]"}.get(what, json.dumps(index).encode()))
    if what == "two indices":
        return buffer.getvalue().replace(first.encode(), _INDEX.ljust(len(first), ".").encode()[: len(first)]), what
    return buffer.getvalue(), what


def _seal(values: Any) -> bytes:
    """JSON of values under a check sum that holds, where they can have one."""
    from lfm_deploy.storage.sealed_values import seal_values

    try:
        plain = json.loads(to_json(values))
        return json.dumps(seal_values(plain)).encode()
    except (ValueError, TypeError, RecursionError, UnicodeError):
        return to_json(values).encode("utf-8", "surrogatepass")


def _pack(index: bytes, files: dict[str, bytes], method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in (files | {_INDEX: index}).items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


def _read(content: bytes) -> tuple[Any, dict[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        index = json.loads(archive.read(_INDEX))
        return index, {entry["file"]: archive.read(entry["file"]) for entry in index["pictures"]}


def _digest(content: bytes) -> str:
    from lfm_deploy.storage.atomic import sha256_of_bytes

    return sha256_of_bytes(content)
