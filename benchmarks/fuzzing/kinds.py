"""Every kind of bad input, with its share."""

from importlib.util import find_spec

from fuzzing import (
    checkpoint_kinds,
    golden_kinds,
    graph_kinds,
    list_kinds,
    part_kinds,
    picture_kinds,
    run_kinds,
    shard_kinds,
    workdir_kinds,
)
from fuzzing.seeds import Seeds
from fuzzing.trial import Kind

KINDS = (
    Kind("picture", picture_kinds.make_picture, 16, True),
    Kind("folder", picture_kinds.make_folder, 7, True),
    Kind("tar", shard_kinds.make_tar, 11, True),
    Kind("zip", shard_kinds.make_zip, 7, True),
    Kind("list", list_kinds.make_list, 7, True),
    Kind("labels", list_kinds.make_labels, 5, True),
    Kind("suite", list_kinds.make_suite, 4, True),
    Kind("output", run_kinds.make_output, 2, True),
    Kind("graph", graph_kinds.make_graph, 8, True),
    Kind("metadata", graph_kinds.make_metadata, 6, True),
    Kind("structure", graph_kinds.make_structure, 3, True),
    Kind("plan", graph_kinds.make_plan, 2, True),
    Kind("sidecar", graph_kinds.make_sidecar, 7, True),
    Kind("checkpoint", checkpoint_kinds.make_damaged, 8, True),
    Kind("checkpoint values", checkpoint_kinds.make_values, 5, True),
    Kind("wrapped checkpoint", checkpoint_kinds.make_wrapped, 3, False),
    Kind("safetensors", checkpoint_kinds.make_safetensors, 2, False),
    Kind("cpu.json", workdir_kinds.make_cpu_choice, 5, True),
    Kind("journal", workdir_kinds.make_journal, 4, True),
    Kind("progress.json", run_kinds.make_progress, 4, True),
    Kind("golden.zip", golden_kinds.make_golden, 4, True),
    Kind("part", part_kinds.make_part, 4, True),
    Kind("parquet part", part_kinds.make_parquet, 4, True),
    Kind("unfinished parquet", part_kinds.make_unfinished, 3, True),
    Kind("ranges.json", workdir_kinds.make_ranges, 4, False),
    Kind("report.json", workdir_kinds.make_report, 3, False),
    Kind("precision.json", workdir_kinds.make_precisions, 0.25, False),
    Kind("scores.sqlite", workdir_kinds.make_cache, 0.5, False),
    Kind("state.pth", run_kinds.make_state, 0.8, False),
    Kind("recipe", run_kinds.make_recipe, 1.0, False),
    Kind("detector", run_kinds.make_detector, 1.2, False),
)
_NEEDS = {
    "ranges.json": ("deploy/ranges.json",),
    "report.json": ("deploy/report.json",),
    "precision.json": ("deploy/precision.json", "deploy/report.json"),
    "scores.sqlite": ("deploy/scores.sqlite",),
    "state.pth": ("finished",),
    "detector": ("detector.toml",),
}


def find_kinds(seeds: Seeds, names: tuple[str, ...], *, quick: bool) -> list[Kind]:
    """The kinds that the seeds allow.

    Args:
        seeds: seeds to make them from.
        names: names to keep; empty keeps all.
        quick: whether to keep only what takes milliseconds.
    """
    kept = [kind for kind in KINDS if (not names or kind.name in names) and (kind.quick or not quick)]
    kept = [kind for kind in kept if "parquet" not in kind.name or find_spec("pyarrow") is not None]
    kept = [kind for kind in kept if all(seeds.has(need) for need in _NEEDS.get(kind.name, ()))]
    return [kind for kind in kept if seeds.engine is not None or kind.name not in ("plan", "sidecar")]


def share_out(kinds: list[Kind], inputs: int) -> list[tuple[str, int]]:
    """How many inputs each kind gets, as pairs of its name and a number of the input, in turns.

    Args:
        kinds: kinds to share between.
        inputs: number of inputs in all.
    """
    whole = sum(kind.share for kind in kinds)
    counts = {kind.name: max(1, round(inputs * kind.share / whole)) for kind in kinds}
    largest = max(kinds, key=lambda kind: kind.share).name
    counts[largest] += inputs - sum(counts.values())
    return [(kind.name, index) for kind in kinds for index in range(counts[kind.name])]
