"""Bad files beside the graphs of a workdir: choices, ranges, reports, caches, and journals of writes that broke off."""

import json
import sqlite3
from pathlib import Path
from random import Random
from typing import Any

from fuzzing.damage import damage
from fuzzing.misvalues import spoil_json
from fuzzing.rows import Wanted, judge_rows, near
from fuzzing.seeds import Seeds, rewrite
from fuzzing.trial import Answer, Result, Trial


def make_cpu_choice(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """A ``cpu.json`` for this machine that is damaged, or says what cannot be."""
    from engines.cpu_settings import describe_place
    from lfm_deploy.storage.atomic import sha256_of_file

    chosen = {"runtime": "onnxruntime", "streams": 1, "threads": 1, "piece": 8, "arithmetic": "as written"}
    entry: dict[str, Any] = {"sha256": sha256_of_file(seeds.deploy / "lfm.onnx"), "chosen": chosen}
    values: dict[str, Any] = {"format": "lfm-deploy cpu 1", "machine": describe_place(), "graphs": {"lfm.onnx": entry}}
    if rng.random() < 0.3:
        key = rng.choice(["streams", "threads", "piece"])
        chosen[key] = rng.choice([0, -1, 4097, 100_000, 2**31, 2**63])
        content, what = json.dumps(values).encode(), f"{key} is {chosen[key]}"
    elif rng.random() < 0.2:
        key = rng.choice(["runtime", "arithmetic"])
        chosen[key] = rng.choice(["no such word", "bf16", "openvino", ""])
        content, what = json.dumps(values).encode(), f"{key} is {chosen[key]!r}"
    elif rng.random() < 0.6:
        spoilt, what = spoil_json(rng, {"graphs": values["graphs"], "format": values["format"]}, indent=None)
        content = spoilt[:-1] + b', "machine": ' + json.dumps(values["machine"]).encode() + b"}"
    else:
        content, what = spoil_json(rng, values)
    return _try_predict(seeds, folder, {"cpu.json": content}, f"cpu.json: {what}", tolerant="bf16" in what)


def make_journal(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """A journal that a process left which died while it wrote several files, damaged or with names of elsewhere."""
    renames: Any = {".lfm-tmp-lfm.onnx-abc": "lfm.onnx", ".lfm-tmp-x-abc": "x.json"}
    choice = rng.random()
    if choice < 0.4:
        content, what = spoil_json(rng, renames)
    elif choice < 0.6:
        content, what = damage(rng, json.dumps(renames).encode())
    else:
        source, target = rng.choice(
            [
                ("lfm.onnx", "moved.onnx"),
                ("../a.png", "b.png"),
                (".lfm-tmp-a", "../out.png"),
                (".lfm-tmp-a", "/lfm-fuzz/out.png"),
                (".lfm-tmp-a", ""),
                ("", ""),
                (".lfm-tmp-a", "x" * 300),
                ("lfm.pth", "lfm.onnx"),
                (".lfm-tmp-a\0", "b"),
            ]
        )
        content, what = json.dumps({source: target}).encode(), f"{source!r} to {target[:20]!r}"
    name = f".lfm-commit-{rng.choice(['journal-abc', 'lfm.onnx-x', ''])}"
    command = "predict" if rng.random() < 0.9 else "inspect"
    return _try_predict(seeds, folder, {name: content, ".lfm-tmp-a": b"a"}, f"journal: {what}", command=command)


def _try_predict(
    seeds: Seeds,
    folder: Path,
    files: dict[str, bytes],
    what: str,
    *,
    command: str = "predict",
    tolerant: bool = False,
) -> Trial:
    place = seeds.link_deploy(folder, only=() if command == "inspect" else ("lfm.onnx", "lfm.pth"))
    for name, content in files.items():
        rewrite(place / name, content)
    tile = folder / "a.png"
    tile.write_bytes(seeds.tiles[0])
    may_change = (".lock", *(name for name in files if name.startswith(".")))
    if command == "inspect":
        return Trial(
            arguments=["inspect", "--json", f"{place}"],
            what=what,
            names=(place.name, *files),
            judge=lambda answer: _judge_workdir(answer, seeds),
            may_change=may_change,
        )
    logit = seeds.known_logit(seeds.tiles[0])
    logits = tuple(logit + step for step in (-0.5, 0, 0.5)) if tolerant else (logit,)
    return Trial(
        arguments=["predict", "--json", "--workdir", f"{place}", f"{tile}"],
        what=what,
        names=(*files, place.name),
        judge=judge_rows([Wanted(f"{tile}", logits, whole=not tolerant)], seeds.threshold, others=lambda _: tolerant),
        may_change=may_change,
    )


def make_ranges(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """``ranges.json``, damaged or with values that cannot be."""
    return _try_workdir_file(rng, seeds, folder, "ranges.json")


def make_report(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """``report.json``, damaged or with values that cannot be."""
    return _try_workdir_file(rng, seeds, folder, "report.json")


def _try_workdir_file(rng: Random, seeds: Seeds, folder: Path, name: str) -> Trial:
    """What ``inspect`` says of a workdir with one bad file: that it is bad, or what it says of a whole one."""
    place = seeds.link_deploy(folder)
    whole = (seeds.deploy / name).read_bytes()
    content, what = damage(rng, whole) if rng.random() < 0.4 else spoil_json(rng, json.loads(whole))
    rewrite(place / name, content)
    # A report is a view of what was measured: its texts are not proved, what it judged is.
    return Trial(
        arguments=["inspect", "--json", f"{place}"],
        what=f"{name}: {what}",
        names=(name,),
        judge=lambda answer: _judge_file(answer, seeds, name, json_equal(whole, content)),
        codes=(0, 2),
    )


def json_equal(whole: bytes, content: bytes) -> bool:
    """Whether a damaged text still says the same."""
    try:
        return bool(json.loads(whole) == json.loads(content))
    except (ValueError, RecursionError):
        return False


def _judge_file(answer: Answer, seeds: Seeds, name: str, same: bool) -> tuple[Result, str]:
    try:
        found = {Path(one["file"]).name: one for one in json.loads(answer.out)["artifacts"]}
    except (ValueError, LookupError):
        if answer.code == 2 and answer.err.startswith("Error") and name in answer.err:
            return Result.REFUSED, ""
        return Result.MESSAGE, f"prints no JSON, and says {answer.err[-200:]!r}"
    right = {Path(one["file"]).name: one for one in seeds.right("workdir")["artifacts"]}
    for other, values in right.items():
        if other != name and found.get(other, {}).get("state") != values["state"]:
            return Result.WRONG, f"because of {name}, {other} is {found.get(other, {}).get('state')}"
    state = found.get(name, {}).get("state", "missing")
    if name == "ranges.json" and state == "current" and not same:
        return Result.WRONG, f"{name} is changed, and said to be current"
    return (Result.RIGHT if same else Result.REPORTED), ""


def _judge_workdir(answer: Answer, seeds: Seeds) -> tuple[Result, str]:
    found = {Path(one["file"]).name: one["state"] for one in json.loads(answer.out)["artifacts"]}
    for one in seeds.right("workdir")["artifacts"]:
        name = Path(one["file"]).name
        if found.get(name) != one["state"]:
            return Result.WRONG, f"{name} is {found.get(name)}, was {one['state']}"
    return Result.RIGHT, ""


def make_precisions(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """``precision.json``, damaged or with values that cannot be, when INT8 is built again."""
    place = seeds.link_deploy(folder)
    whole = json.loads((seeds.deploy / "precision.json").read_text())
    content, what = spoil_json(rng, whole)
    rewrite(place / "precision.json", content)
    return Trial(
        arguments=[
            *("verify", "--suite", f"{seeds.folder / 'suite'}", "--no-speed", "--allow-undecided", "--json"),
            *("--workdir", f"{place}"),
        ],
        what=f"precision.json: {what}",
        names=("precision.json",),
        judge=lambda answer: judge_report(answer, seeds.right("report")),
        codes=(0, 1),
        may_change=_VERIFIED,
        heavy=True,
    )


_VERIFIED = (".lock", "scores.sqlite", "report.json", "report.html", "report.md", "report.xml", "scores.csv")


def make_cache(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """``scores.sqlite`` with damage to its bytes, or with rows that no verification wrote."""
    place = seeds.link_deploy(folder)
    path = place / "scores.sqlite"
    if rng.random() < 0.5:
        content, what = damage(rng, path.read_bytes())
        rewrite(path, content)
    else:
        what = _spoil_rows(rng, path)
    return Trial(
        arguments=[
            *("verify", "--suite", f"{seeds.folder / 'suite'}", "--no-speed", "--allow-undecided", "--json"),
            *("--workdir", f"{place}"),
        ],
        what=f"scores.sqlite: {what}",
        names=("scores.sqlite",),
        judge=lambda answer: judge_report(answer, seeds.right("report")),
        codes=(0, 1),
        may_change=_VERIFIED,
        heavy=True,
    )


def _spoil_rows(rng: Random, path: Path) -> str:
    changes = {
        "a logit that is another": "UPDATE scores SET logit = logit + 5 WHERE rowid_ < 3",
        "logits that are texts": "UPDATE scores SET logit = 'text'",
        "logits that are NULL": "UPDATE scores SET logit = NULL",
        "logits that are bytes": "UPDATE scores SET logit = x'00ff'",
        "infinite logits": "UPDATE scores SET logit = 9e999",
        "logits of opposite sign": "UPDATE scores SET logit = -logit",
        "no table": "DROP TABLE scores",
        "another table": "DROP TABLE scores; CREATE TABLE scores (a)",
        "another format": "UPDATE about SET format = 'lfm-deploy scores 0'",
        "two formats": "INSERT INTO about SELECT format FROM about",
        "a format that is NULL": "UPDATE about SET format = NULL",
        "a view": "DROP TABLE speeds; CREATE VIEW speeds AS SELECT 1 AS scorer, 2 AS batch, 'x' AS speed",
        "a trigger": "CREATE TRIGGER t BEFORE INSERT ON scores BEGIN SELECT RAISE(ABORT, 'no'); END",
    }
    what = rng.choice(sorted(changes))
    connection = sqlite3.connect(path)
    connection.executescript(changes[what].replace(" WHERE rowid_ < 3", ""))
    connection.commit()
    connection.close()
    return what


def judge_report(answer: Answer, right: dict[str, Any]) -> tuple[Result, str]:
    """Whether a verification found for each engine what one on whole files finds."""
    try:
        report = json.loads(answer.out)
    except ValueError:
        last = answer.err.strip().rpartition("\n")[2]
        if answer.code == 1 and last.startswith("Error: ") and "scores.sqlite" in last:
            return Result.REFUSED, last
        return Result.MESSAGE, f"exit {answer.code}, and prints no JSON: {answer.err[-300:]!r}"
    if report["verdict"] != right["verdict"]:
        return Result.WRONG, f"verdict {str(report['verdict'])[:200]}"
    for engine, expected in zip(report["engines"], right["engines"], strict=True):
        if engine["file"] != expected["file"] or not _alike(_figures(engine), _figures(expected)):
            return Result.WRONG, f"{engine['file']}: {_first_difference(_figures(engine), _figures(expected))}"
    return (Result.REPORTED if "arning" in answer.err else Result.RIGHT), ""


def _figures(engine: dict[str, Any]) -> dict[str, Any]:
    dropped = ("speed", "sha256", "bytes", "seconds", "cached")
    return {key: value for key, value in engine.items() if not any(word in key for word in dropped)}


def _alike(first: Any, second: Any) -> bool:
    if isinstance(first, float) and isinstance(second, float):
        return near(first, second)
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_alike(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_alike, first, second))
    return bool(first == second)


def _first_difference(first: dict[str, Any], second: dict[str, Any]) -> str:
    key = next((key for key in second if not _alike(first.get(key), second[key])), "?")
    return f"{key} is {str(first.get(key))[:100]}, right is {str(second.get(key))[:100]}"
