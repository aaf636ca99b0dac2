"""``precision.json``: what the search for INT8 layers found, read without loading the search itself."""

import json
from collections.abc import Callable, Mapping
from typing import TypedDict

from calib.findings_schema import DescribedFindings, Findings, TensorValues
from calib.ranges import Ranges, read_ranges
from lfm_deploy.artifacts import Precision, read_graph_info_if_whole
from lfm_deploy.errors import ArtifactError
from lfm_deploy.quantisation import Quantisation, Recipe
from lfm_deploy.storage.atomic import sha256_of_file
from lfm_deploy.storage.sealed_values import seal_values, take_seal
from lfm_deploy.storage.values import Reader
from lfm_deploy.workdir import Workdir

_FORMAT = "lfm-deploy precision 4"


class _Content(TypedDict):
    recipes: dict[Recipe, Findings]


def write_findings(recipes: Mapping[Recipe, Findings]) -> str:
    """The text of ``precision.json``.

    Args:
        recipes: findings of the search, by recipe.
    """
    values = seal_values({"format": _FORMAT, "recipes": dict(recipes)})
    return json.dumps(values, indent=1, allow_nan=False) + "\n"


def read_findings(workdir: Workdir, on_warning: Callable[[str], None] = lambda _: None) -> dict[Recipe, Findings]:
    """What ``precision.json`` says, by recipe; empty where there is none, or none that can be trusted.

    Nothing is lost with it but words and plots of a report: the search makes it again.

    Args:
        workdir: workdir of the file.
        on_warning: function that is given a line where the file is damaged.
    """
    path = workdir.precisions
    if not path.is_file():
        return {}
    reader = Reader(where=str(path), remedy="it is left out; 'lfm-deploy build --int8' makes it again")
    try:
        values = reader.read_json(path)
        if isinstance(values, dict) and values.get("format") == _FORMAT:
            take_seal(values, reader)
        reader.take_format(values, _FORMAT)
        recipes = reader.convert(values, _Content)["recipes"]
        for recipe, findings in recipes.items():
            _check(reader, recipe, findings)
    except ArtifactError as error:
        on_warning(str(error))
        return {}
    return recipes


def _check(reader: Reader, recipe: Recipe, findings: Findings) -> None:
    """Refuse findings whose parts do not go together."""
    if findings["recipe"] != recipe:
        reader.refuse(f"recipes.{recipe} is of {findings['recipe']!r}")
    pairs = findings["logits"]
    if pairs is not None and not len(pairs["reference"]) == len(pairs["int8"]) == len(pairs["labels"]):
        reader.refuse(f"recipes.{recipe}.logits are of different numbers of pictures")


def describe_quantisation(
    workdir: Workdir, on_warning: Callable[[str], None] = lambda _: None
) -> dict[str, DescribedFindings]:
    """How the INT8 graphs of a workdir came about, by recipe, for reports.

    Args:
        workdir: workdir of the graphs.
        on_warning: function that is given a line where something is damaged, and left out.

    Returns:
        What the search found, and ``tensors``: each one's histogram, the candidate that was chosen, and the range that
        it keeps (None where its layer stays in floating point). ``tensors`` is empty where ``ranges.json`` is not the
        one that the graph was made with.
    """
    described: dict[str, DescribedFindings] = {}
    for recipe, findings in read_findings(workdir, on_warning).items():
        info = read_graph_info_if_whole(workdir.graph(Precision.INT8, recipe))
        if info is None or info.quantisation is None:
            continue
        layers = {name: layer["precision"] for name, layer in findings["layers"].items()}
        if layers != info.quantisation.layers:
            on_warning(f"{workdir.precisions}: not of this {recipe} graph; it is left out")
            continue
        same = workdir.ranges.is_file() and sha256_of_file(workdir.ranges) == info.quantisation.ranges_sha256
        try:
            tensors = _describe_tensors(read_ranges(workdir.ranges), info.quantisation) if same else {}
        except ArtifactError as error:
            on_warning(f"{error}; its histograms are left out")
            tensors = {}
        described[str(recipe)] = {**findings, "tensors": tensors}
    return described


def _describe_tensors(ranges: Ranges, quantisation: Quantisation) -> dict[str, TensorValues]:
    recipe = quantisation.recipe
    tensors: dict[str, TensorValues] = {}
    for name, tensor in ranges.tensors.items():
        layer = name.partition(".")[0]  # of the projection's output, the projection
        in_int8 = recipe in tensor.choice and quantisation.layers[layer] == "int8"
        tensors[name] = {
            "histogram": list(tensor.histogram),
            "histogram_low": tensor.histogram_low,
            "histogram_high": tensor.histogram_high,
            "chosen": tensor.choice[recipe] if in_int8 else None,
            "kept": list(tensor.chosen(recipe)) if in_int8 else None,
        }
    return tensors
