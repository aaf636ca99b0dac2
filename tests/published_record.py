"""What the published checkpoint answered on all pictures of ``shared/wild``, as ``make figures`` measured and kept it.

Tests score a sample of the pictures anew, hold it against these answers, and take the answers to all others from here,
so that what the pages say of 965 pictures is computed from 965 logits in every run, and most of them are not scored
again. The graphs in INT8 are made from the ranges and layers that were kept.
"""

import ast
import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from documentation import ROOT

from calib.calibration import load_pictures
from calib.graph_preparation import make_final_graph, prepare_graphs
from calib.pictures import PictureStore
from calib.ranges import read_ranges
from export.graph import library_versions
from export.precision import Int8Config, PreparedGraph, prepare_int8
from lfm_deploy.artifacts import METADATA_KEY, Precision
from lfm_deploy.deployment.lineup import find_candidates
from lfm_deploy.network.origin import read_origin
from lfm_deploy.pictures.fingerprints import fingerprint_files
from lfm_deploy.quantisation import Budget, Quantisation, Recipe
from lfm_deploy.scoring.score_cache import ScoreCache
from lfm_deploy.scoring.scorers import published_reading
from lfm_deploy.scoring.suite_scores import make_scorer
from lfm_deploy.storage.atomic import sha256_of_file
from lfm_deploy.storage.graph_file import seal_graph
from lfm_deploy.verification.conditions import (
    blur_by,
    crop_to,
    encode_jpeg,
    encode_webp,
    scale_by,
    take_screenshot,
)
from lfm_deploy.workdir import Workdir

FOLDER = ROOT / "tests" / "published"
ANSWERS, RANGES, PRECISIONS = FOLDER / "answers.csv", FOLDER / "ranges.json", FOLDER / "precision.json"
MADE_WITH = FOLDER / "made_with.json"

FP32 = "onnxruntime fp32"
ALIGNED = f"{FP32}, fakes stored as real pictures"
# What happens to pictures, by the names of the page's rows, each of which is a column of the answers of FP32, too.
CONDITIONS = {
    "JPEG, quality 98": encode_jpeg(98),
    "JPEG, quality 90": encode_jpeg(90),
    "WebP, quality 90": encode_webp(90),
    "scaled by 0.5": scale_by(0.5),
    "scaled by 1.5": scale_by(1.5),
    "middle 256x256 pixels, not resized (951 pictures)": crop_to(256),
    "blurred, sigma 1 pixel": blur_by(1),
    "screenshot": take_screenshot(),
}
# What INT8 and the figures of its search come from, and what chooses layers by their time.
SOURCES = (
    "calib/*.py",
    "export/*.py",
    "lfm_deploy/metrics/*.py",
    "lfm_deploy/quantisation.py",
    *(f"engines/{name}" for name in ("cards.csv", "cards.py", "graph_forms.py", "kernel_list.py", "plans.py")),
)
MIN_MAX, BY_TIME = "int8 tensorrt, every layer, min/max", "int8 tensorrt, layers by their time on sm86"
EVERY, NEAREST = 24, 12
# Of each condition, of fakes stored otherwise, and of two more graphs half of the sample will do: the code is the same.
PARTLY_EVERY = 2


def read_answers() -> dict[str, dict[str, float]]:
    """Logits by column and by the picture's path below ``shared/wild``."""
    with ANSWERS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [name for name in rows[0] if name != "path"]
    return {name: {row["path"]: float(row[name]) for row in rows if row[name]} for name in columns}


def choose_sample(column: str = FP32) -> set[str]:
    """The pictures that are scored anew: every 24th of all, and those whose decisions are the first to flip."""
    logits = read_answers()[FP32]
    chosen = {*sorted(logits)[::EVERY], *sorted(logits, key=lambda path: abs(logits[path]))[:NEAREST]}
    return set(sorted(chosen)[::PARTLY_EVERY]) if column in (ALIGNED, MIN_MAX, BY_TIME, *CONDITIONS) else chosen


def name_picture(path: str) -> str:
    """A picture of ``wild`` as the answers call it: its test set, class and file."""
    return "/".join(Path(path).parts[-3:])


def read_layers(findings: Mapping[str, Any]) -> dict[str, str]:
    """The precision of each layer of a search's findings."""
    return {name: layer["precision"] for name, layer in findings["layers"].items()}


def hash_sources() -> str:
    """SHA-256 over the code that INT8 comes from, without its comments and docstrings."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in SOURCES for path in ROOT.glob(pattern)):
        text = path.read_text(encoding="utf-8")
        digest.update(f"{path.name}\n{_strip(text) if path.suffix == '.py' else text}\n".encode())
    return digest.hexdigest()


def _strip(code: str) -> str:
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def prepare_as_kept(workdir: Workdir, pictures: Path, recipe: Recipe) -> PreparedGraph:
    """What every INT8 graph of a recipe is made from: a workdir's export, its FP16 graph, and the ranges kept there.

    Args:
        workdir: folder with them.
        pictures: folder of the calibration pictures.
        recipe: machine that the graph is for.
    """
    _, info = read_origin(workdir)
    ranges = read_ranges(workdir.ranges)
    reference = onnx.load(workdir.graph(Precision.FP32))
    base = reference if recipe is Recipe.CPU else onnx.load(workdir.graph(Precision.FP16))
    with PictureStore() as store:
        load_pictures(ranges, pictures, info.config, store)
        (prepared,) = prepare_graphs(reference, base, ranges, store, recipe, kept=[ranges.kept])
    return prepared


def make_int8_graph(
    workdir: Workdir, recipe: Recipe, prepared: PreparedGraph, layers: Mapping[str, str], share: float
) -> bytes:
    """An INT8 graph of given layers, as ``build --int8`` writes it, without a search.

    Args:
        workdir: folder that it is for.
        recipe: machine that the graph is for.
        prepared: what it is made from.
        layers: precision of each layer.
        share: share of the multiply-adds that is in INT8.
    """
    _, info = read_origin(workdir)
    model = make_final_graph(prepared, [name for name, precision in layers.items() if precision == "int8"])
    made = Quantisation(
        recipe=recipe,
        layers={name: "int8" if precision == "int8" else recipe.base for name, precision in layers.items()},
        int8_share=share,
        within_budget=True,
        ranges_sha256=sha256_of_file(workdir.ranges),
        budget=Budget(),
        layers_asked="search",
    )
    stamped = replace(info, precision=Precision.INT8, versions=library_versions(), quantisation=made)
    onnx.helper.set_model_props(model, {METADATA_KEY: stamped.to_json()})
    return seal_graph(model)


def prepare_plainly(half: onnx.ModelProto, workdir: Workdir) -> PreparedGraph:
    """An FP16 graph for INT8 by the defaults of tools: min/max ranges, weights rounded to the nearest."""
    ranges = {
        # In every INT8 graph the first scale is one grey level.
        name: tensor.candidates[Recipe.TENSORRT].get("min/max", tensor.chosen(Recipe.TENSORRT))
        for name, tensor in read_ranges(workdir.ranges).tensors.items()
        if Recipe.TENSORRT in tensor.candidates
    }
    return prepare_int8(half, Int8Config(recipe=Recipe.TENSORRT, ranges=ranges))


def keep_answers(workdir: Workdir, wild: Path) -> None:
    """Put the answers of a workdir's engines into its cache of scores, but for those of the sample."""
    with ScoreCache(workdir.score_cache, _fail) as cache:
        for candidate in find_candidates(workdir, "cpu"):
            key = make_scorer(candidate).key(published_reading(256, batch=32))
            assert key is not None
            cache.add(key, take_known(candidate.name, wild))


def take_known(column: str, wild: Path) -> dict[str, float | str]:
    """The logits of a column by the digest of the picture's file, but for those of the sample."""
    answers = read_answers()
    digests = hash_pictures(wild, answers[FP32])
    anew = {digests[path] for path in choose_sample(column)}
    return {digests[path]: logit for path, logit in answers[column].items() if digests[path] not in anew}


def hash_pictures(wild: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of pictures' files, by their paths below the folder."""
    names = list(names)
    prints = fingerprint_files([wild / name for name in names])
    return {name: found.sha256 for name, found in zip(names, prints, strict=True) if found is not None}


class KeptAnswers(ScoreCache):
    """A cache in memory that knows some answers, and says what was scored anew."""

    def __init__(self, known: Callable[[str], Mapping[str, float | str]] = lambda _: {}) -> None:
        """Open it.

        Args:
            known: function from the key of a scorer and its reading to answers by the digest of the picture's file.
        """
        self._known = known
        self.added: dict[str, dict[str, float | str]] = {}

    def find(self, scorer: str, pictures: Iterable[str]) -> dict[str, float | str]:
        """What is known of pictures."""
        known = dict(self._known(scorer)) | self.added.get(scorer, {})
        return {picture: known[picture] for picture in pictures if picture in known}

    def add(self, scorer: str, found: Mapping[str, float | str]) -> None:
        """Keep what was scored."""
        self.added.setdefault(scorer, {}).update(found)


def read_made_with() -> dict[str, Any]:
    """The versions and the code that the answers are of."""
    values: dict[str, Any] = json.loads(MADE_WITH.read_text())
    return values


def _fail(line: str) -> None:
    raise AssertionError(line)
