"""Bad files of results: those of parts, in lines and as Parquet, and Parquet files that are unfinished or replaced."""

import csv
import hashlib
import io
import json
import os
from pathlib import Path
from random import Random
from typing import Any

from fuzzing.damage import damage
from fuzzing.misvalues import spoil_json, spoil_values, to_json
from fuzzing.rows import near
from fuzzing.seeds import Seeds
from fuzzing.trial import Answer, Result, Trial

_SEAL = b"lfm_deploy_sha256\x18\x40"


def make_part(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """The file of a part in lines: damaged, or with a first line that cannot be under a check sum that holds."""
    form = rng.choice(["csv", "jsonl"])
    path = _judge_whole(seeds, folder, form)
    whole = path.read_bytes()
    head, _, rows = whole.partition(b"\n")
    choice = rng.random()
    if choice < 0.4:
        content, what = damage(rng, whole)
    elif choice < 0.5:
        spoilt, what = damage(rng, rows)
        content, what = head + b"\n" + spoilt, f"rows: {what}"
    elif choice < 0.7:
        spoilt, what = spoil_json(rng, json.loads(head), indent=None)
        content = spoilt + b"\n" + rows
    else:
        spoilt, what = _spoil_head(rng, head)
        content, what = spoilt + b"\n" + rows, f"sealed, {what}"
    return _try_part(rng, seeds, folder, form, path, content, what)


def make_parquet(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """The file of a part as Parquet, damaged, also where the check sum was made to hold; or a file to be replaced."""
    path = _judge_whole(seeds, folder, "parquet")
    content, what = damage(rng, path.read_bytes())
    choice = rng.random()
    if choice < 0.2:
        return _try_overwriting(seeds, folder, content, what)
    if choice < 0.4 and (place := content.rfind(_SEAL) + len(_SEAL)) >= len(_SEAL):
        blank = content[:place] + b"0" * 64 + content[place + 64 :]
        content = content[:place] + hashlib.sha256(blank).hexdigest().encode() + content[place + 64 :]
        what = f"sealed, {what}"
    return _try_part(rng, seeds, folder, "parquet", path, content, what)


def make_unfinished(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """A Parquet file to be gone on with, whose rows or ``progress.json`` are damaged."""
    from fuzzing.run_kinds import find_progress
    from fuzzing.running import run_inside

    place = _write_pictures(seeds, folder)
    workdir = ("--workdir", f"{seeds.deploy}")
    lines = run_inside(["predict", "--json", *workdir, f"{place}"]).out.encode().splitlines(keepends=True)
    covered = b"".join(lines[:2])
    values = find_progress(seeds, folder, covered, "parquet")
    rows = folder / "o.parquet.rows.jsonl"
    rows.write_bytes(covered + rng.choice([b"", lines[2][:5], lines[2]]))
    content = json.dumps(values).encode()
    if rng.random() < 0.5:
        spoilt, what = damage(rng, covered)
        rows.write_bytes(spoilt)
        what = f"rows: {what}"
        if rng.random() < 0.5:  # as whoever mends a file by hand leaves it
            sums = {"bytes": len(spoilt), "content_sha256": hashlib.sha256(spoilt).hexdigest()}
            content, what = json.dumps(values | sums).encode(), f"fitting {what}"
    else:
        content, what = spoil_json(rng, values)
    rows.with_name(f"{rows.name}.progress.json").write_bytes(content)
    output = folder / "o.parquet"
    return Trial(
        arguments=["predict", *workdir, "--output", f"{output}", f"{place}"],
        what=f"unfinished: {what}",
        names=("o.parquet",),
        judge=lambda _: (Result.RIGHT, "") if what.startswith("fitting") else _judge_parquet(output, place, seeds),
        may_change=(rows.name, f"{rows.name}.progress.json"),
    )


def _judge_whole(seeds: Seeds, folder: Path, form: str) -> Path:
    """The file of a part, as the product writes it."""
    from fuzzing.running import run_inside

    _write_pictures(seeds, folder)
    run_inside(_judging(seeds, form))
    return next((folder / "o").iterdir())


def _judging(seeds: Seeds, form: str) -> list[str]:
    return ["predict", "p", "--output-dir", "o", "--format", form, "--workdir", f"{seeds.deploy}"]


def _write_pictures(seeds: Seeds, folder: Path) -> Path:
    place = folder / "p"
    place.mkdir()
    for index, tile in enumerate(seeds.tiles):
        (place / f"{index}.png").write_bytes(tile)
    return place


def _spoil_head(rng: Random, head: bytes) -> tuple[bytes, str]:
    from lfm_deploy.storage.sealed_values import seal_values

    values = json.loads(head)
    del values["content_sha256"]
    spoilt, what = spoil_values(rng, values)
    text = to_json(spoilt, None)
    try:
        return json.dumps(seal_values(json.loads(text))).encode(), what
    except (ValueError, TypeError, RecursionError, UnicodeError):
        return text.encode("utf-8", "surrogatepass"), what


def _try_part(rng: Random, seeds: Seeds, folder: Path, form: str, path: Path, content: bytes, what: str) -> Trial:
    """Collect a bad part, or go on behind it, which has to judge it again."""
    path.write_bytes(content)
    goes_on = rng.random() < 0.5
    arguments = ["collect", "o", "p", "--output", f"all.{'jsonl' if form == 'jsonl' else 'csv'}"]
    name = arguments[-1]

    def judge(answer: Answer) -> tuple[Result, str]:
        from fuzzing.running import run_inside

        if goes_on:
            answer = run_inside(arguments)
            if answer.code != 0:
                return Result.WRONG, f"leaves results that collect does not take: {answer.err[-300:]}"
        content = (folder / name).read_bytes()
        try:
            found = _take_rows(content, form)
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            return Result.WRONG, f"{len(content)} bytes that are no rows: {error}"
        right = _rows_of("p", seeds)
        return (Result.RIGHT, "") if _are_same(found, right) else (Result.WRONG, f"rows {str(found)[:300]}")

    return Trial(
        arguments=_judging(seeds, form) if goes_on else arguments,
        what=f"{form} part: {what}",
        names=("o:", "o/", path.name),
        judge=judge,
        may_change=(path.name,) if goes_on else (),
    )


def _try_overwriting(seeds: Seeds, folder: Path, content: bytes, what: str) -> Trial:
    output = folder / "o.parquet"
    output.write_bytes(content)
    arguments = ["predict", "p", "--output", f"{output}", "--overwrite", "--workdir", f"{seeds.deploy}"]
    return Trial(
        arguments=arguments,
        what=f"to be replaced: {what}",
        names=("o.parquet",),
        judge=lambda _: _judge_parquet(output, Path("p"), seeds),
        may_change=("o.parquet",),
    )


def _judge_parquet(output: Path, place: Path, seeds: Seeds) -> tuple[Result, str]:
    import pyarrow.parquet as pq

    rows = pq.read_table(output).to_pylist()
    found = [(row["path"], row["logit"]) for row in rows]
    if not _are_same(found, _rows_of(str(place), seeds)):
        return Result.WRONG, f"rows {str(found)[:300]}"
    left = [path.name for path in output.parent.iterdir() if path.name.startswith(f"{output.name}.")]
    return (Result.LEFTOVER, f"leaves {left[0]}") if left else (Result.RIGHT, "")


def _rows_of(place: str, seeds: Seeds) -> list[tuple[str, float]]:
    return [(os.path.join(place, f"{index}.png"), seeds.known_logit(tile)) for index, tile in enumerate(seeds.tiles)]  # noqa: PTH118  # as predict names them


def _take_rows(content: bytes, form: str) -> list[tuple[str, Any]]:
    if form == "jsonl":
        rows: list[dict[str, Any]] = [json.loads(line) for line in content.splitlines()]
    else:
        rows = list(csv.DictReader(io.StringIO(content.decode())))
    return [(row["path"], row["logit"]) for row in rows]


def _are_same(found: list[tuple[str, Any]], right: list[tuple[str, float]]) -> bool:
    try:
        return [path for path, _ in found] == [path for path, _ in right] and all(
            near(float(first), second) for (_, first), (_, second) in zip(found, right, strict=True)
        )
    except (TypeError, ValueError):
        return False
