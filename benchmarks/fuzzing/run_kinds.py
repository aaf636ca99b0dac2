"""Bad files of runs: results to continue, states of training, recipes, descriptions of foreign detectors, outputs."""

import csv
import io
import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

from fuzzing.damage import damage
from fuzzing.misvalues import spoil_json, spoil_values, to_toml
from fuzzing.rows import near
from fuzzing.seed_making import DETECTOR
from fuzzing.seeds import RECIPE, Seeds
from fuzzing.trial import Answer, Result, Trial
from fuzzing.workdir_kinds import judge_report


def make_progress(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """A run of ``predict --output`` to be continued, whose ``progress.json`` or rows are damaged."""
    from fuzzing.running import run_inside

    place = folder / "p"
    place.mkdir()
    for index, tile in enumerate(seeds.tiles):
        (place / f"{index}.png").write_bytes(tile)
    output = folder / "o.csv"
    arguments = ["predict", "--workdir", f"{seeds.deploy}", "--output", f"{output}", f"{place}"]
    # As a kill leaves it behind two pictures.
    run_inside(arguments)
    whole = output.read_bytes()
    lines = whole.splitlines(keepends=True)
    covered = b"".join(lines[:3])
    values = find_progress(seeds, folder, covered, "csv")
    rest = rng.choice([b"", lines[3][:5], lines[3]])
    output.write_bytes(covered + rest)
    progress = output.with_name("o.csv.progress.json")
    choice = rng.random()
    if choice < 0.2:
        spoilt, what = damage(rng, covered)
        output.write_bytes(spoilt)
        progress.write_text(json.dumps(values))
        what = f"rows: {what}"
    elif choice < 0.4:
        key = rng.choice(["bytes", "pictures"])
        values[key] = rng.choice([values[key] + 1, 2**31, 10**12, 2**63, 0, 1, 3, 5])
        progress.write_text(json.dumps(values))
        what = f"{key} is {values[key]}"
    else:
        content, what = spoil_json(rng, values)
        progress.write_bytes(content)
    return Trial(
        arguments=arguments,
        what=f"progress.json: {what}",
        names=("o.csv",),
        judge=lambda _: _judge_output(output, place, seeds),
        may_change=("o.csv", "o.csv.progress.json"),
    )


def find_progress(seeds: Seeds, folder: Path, covered: bytes, form: str) -> dict[str, Any]:
    """What a run notes behind its first two pictures: written by the product itself.

    Args:
        seeds: whole files.
        folder: folder of the trial, with the pictures in ``p``.
        covered: rows of these pictures, with their heading.
        form: format of the file.
    """
    import hashlib
    import os

    from lfm_deploy.prediction.judges import describe_run, open_judge
    from lfm_deploy.workdir import Workdir

    judge = open_judge(Workdir(seeds.deploy))
    settings = describe_run(judge) | {"format": form, "evidence": False}
    judge.engine.close()
    names = b"".join(os.fsencode(folder / "p" / f"{index}.png") + b"\0" for index in range(2))
    return {
        "format": "lfm-deploy progress 1",
        "settings": json.loads(json.dumps(settings)),
        "pictures": 2,
        "bytes": len(covered),
        "list_sha256": hashlib.sha256(names).hexdigest(),
        "content_sha256": hashlib.sha256(covered).hexdigest(),
    }


def _judge_output(output: Path, place: Path, seeds: Seeds) -> tuple[Result, str]:
    content = output.read_bytes()
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode())))
        found = [(row["path"], float(row["logit"])) for row in rows]
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        return Result.WRONG, f"{len(content)} bytes that are no rows: {error}"
    right = [(f"{place / f'{index}.png'}", seeds.known_logit(tile)) for index, tile in enumerate(seeds.tiles)]
    if [path for path, _ in found] != [path for path, _ in right]:
        return Result.WRONG, f"rows of {[Path(path).name for path, _ in found]}"
    if not all(near(first, second) for (_, first), (_, second) in zip(found, right, strict=True)):
        return Result.WRONG, f"logits {[logit for _, logit in found]}"
    if output.with_name("o.csv.progress.json").exists():
        return Result.LEFTOVER, "leaves o.csv.progress.json"
    return Result.RIGHT, ""


def make_state(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """A training run to be continued whose ``state.pth`` is damaged, or says what cannot be."""
    import torch

    run = folder / "run"
    shutil.copytree(seeds.folder / "stopped", run)
    path = run / "state.pth"
    if rng.random() < 0.5:
        content, what = damage(rng, path.read_bytes())
        path.write_bytes(content)
    else:
        values = torch.load(path, weights_only=True)
        spoilt, what = spoil_values(rng, {"run": values["run"], "format": values["format"]})
        torch.save(values | spoilt if isinstance(spoilt, dict) else spoilt, path)

    def judge(_: Answer) -> tuple[Result, str]:
        first, second = (
            torch.load(folder / "last.pth", weights_only=True)["state"] for folder in (run, seeds.folder / "finished")
        )
        same = all(torch.equal(first[key], second[key]) for key in second)
        return (Result.RIGHT, "") if same else (Result.WRONG, "other weights than the run that was not damaged")

    return Trial(
        arguments=["train", "--resume", f"{run}", "--device", "cpu", "--workers", "0"],
        what=f"state.pth: {what}",
        names=("state.pth", "run"),
        judge=judge,
        may_change=tuple(path.name for path in run.rglob("*")),
        heavy=True,
    )


def make_recipe(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """A recipe, damaged or with values that cannot be."""
    path = folder / "r.toml"
    whole = RECIPE | {"epochs": 1, "learning_rate": 1e-4, "flip": 0.5, "rbld_p": [0.1, 0.3], "seed": 0}
    if rng.random() < 0.25:
        content, what = damage(rng, to_toml(whole).encode())
    elif rng.random() < 0.2:
        content, what = (to_toml(whole)).encode(rng.choice(["utf-16", "utf-8-sig"])), "another encoding"
    else:
        spoilt, what = spoil_values(rng, whole)
        content = to_toml(spoilt if isinstance(spoilt, dict) else {"a": spoilt}).encode("utf-8", "surrogatepass")
    path.write_bytes(content)
    return Trial(
        arguments=[
            "train",
            "--recipe",
            f"{path}",
            "--output",
            f"{folder / 'run'}",
            "--device",
            "cpu",
            "--workers",
            "0",
        ],
        what=f"recipe: {what}",
        names=("r.toml", "recipe r"),
        judge=lambda _: (Result.RIGHT, ""),
        heavy=True,
    )


def make_detector(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """The description of a foreign detector, damaged or with values that cannot be."""
    path = folder / "d.toml"
    shutil.copy(seeds.folder / "foreign.onnx", folder)
    if rng.random() < 0.2:
        content, what = damage(rng, to_toml(DETECTOR).encode())
    elif rng.random() < 0.15:
        network, what = damage(rng, (folder / "foreign.onnx").read_bytes())
        (folder / "foreign.onnx").write_bytes(network)
        content, what = to_toml(DETECTOR).encode(), f"its network: {what}"
    else:
        spoilt, what = spoil_values(rng, DETECTOR)
        content = to_toml(spoilt if isinstance(spoilt, dict) else {"a": spoilt}).encode("utf-8", "surrogatepass")
    path.write_bytes(content)
    place = seeds.link_deploy(folder)
    return Trial(
        arguments=[
            *("verify", "--suite", f"{seeds.folder / 'suite'}", "--no-speed", "--allow-undecided", "--json"),
            *("--workdir", f"{place}", "--detector", f"{path}"),
        ],
        what=f"detector: {what}",
        names=("d.toml", "foreign.onnx"),
        judge=lambda answer: _judge_detector(answer, seeds, what),
        codes=(0, 1),
        may_change=("scores.sqlite", ".lock", "report.json", "report.html", "report.md", "report.xml", "scores.csv"),
        heavy=True,
    )


def _judge_detector(answer: Answer, seeds: Seeds, what: str) -> tuple[Result, str]:
    # A network with other weights, another free text or threshold are another detector, and rightly taken as such.
    if what.startswith("its network") or not answer.out or "its" in what:
        return Result.RIGHT, ""
    report = json.loads(answer.out)
    own = seeds.right("report")
    return judge_report(
        Answer(
            answer.code,
            json.dumps(report | {"engines": report["engines"][: len(own["engines"])], "verdict": own["verdict"]}),
            answer.err,
        ),
        own,
    )


def make_output(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """An ``--output`` that is an input, or no place to write to."""
    place = folder / "p"
    place.mkdir()
    for index, tile in enumerate(seeds.tiles[:2]):
        (place / f"{index}.png").write_bytes(tile)
    (folder / "l.txt").write_text("\n".join(f"{place / f'{index}.png'}" for index in range(2)))
    (folder / "link.png").symlink_to(place / "0.png")
    output = rng.choice(
        [
            f"{place / '0.png'}",
            f"{place}",
            f"{folder / 'l.txt'}",
            f"{folder / 'link.png'}",
            f"{place}/../p/1.png",
            "/dev/full",
            "/dev/null",
            f"{folder / 'l.txt' / 'x'}",
            f"{folder / ('n' * 250)}",
            f"{folder / ('n' * 240)}.csv",
            f"{folder / 'a'}\udcff.csv",
            "/proc/x.csv",
        ]
    )
    given = rng.choice([[f"{place}"], [f"@{folder / 'l.txt'}"], [f"{place / '0.png'}", f"{place / '1.png'}"]])
    options = rng.choice(
        [[], ["--overwrite"], ["--evidence", f"{rng.choice([place, folder / 'l.txt', folder / 'e'])}"]]
    )
    return Trial(
        arguments=["predict", "--workdir", f"{seeds.deploy}", "--output", output, *options, *given],
        what=f"--output {Path(output).name[:12]!r} {options[:1]}",
        names=(Path(output).name, "p", "l.txt", "proc"),
        judge=lambda _: (Result.RIGHT, ""),
        may_change=() if given[0].startswith("@") else ("l.txt",),
    )
