"""``precision.json``: what the search for INT8 layers found, read without loading the search itself."""

import json
from typing import cast

from calib.findings_schema import DescribedFindings, Findings, TensorValues
from calib.ranges import Ranges, read_ranges
from lfm_deploy.artifacts import Precision, read_graph_info_if_whole
from lfm_deploy.quantisation import Quantisation, Recipe
from lfm_deploy.storage.atomic import sha256_of_file
from lfm_deploy.workdir import Workdir

FINDINGS_FORMAT = "lfm-deploy precision 1"


def read_findings(workdir: Workdir) -> dict[Recipe, Findings]:
    """What ``precision.json`` says, by recipe; empty where there is none that this version reads."""
    try:
        values = json.loads(workdir.precisions.read_text(encoding="utf-8"), parse_constant=_refuse)
        if values["format"] != FINDINGS_FORMAT:
            return {}
        return {Recipe(name): cast(Findings, dict(findings)) for name, findings in values["recipes"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def describe_quantisation(workdir: Workdir) -> dict[str, DescribedFindings]:
    """How the INT8 graphs of a workdir came about, by recipe, for reports.

    Returns:
        What the search found, and ``tensors``: each one's histogram, the candidate that was chosen, and the range that
        it keeps (None where its layer stays in floating point). ``tensors`` is empty where ``ranges.json`` is not the
        one that the graph was made with.
    """
    described: dict[str, DescribedFindings] = {}
    for recipe, findings in read_findings(workdir).items():
        info = read_graph_info_if_whole(workdir.graph(Precision.INT8, recipe))
        if info is None or info.quantisation is None:
            continue
        same = workdir.ranges.is_file() and sha256_of_file(workdir.ranges) == info.quantisation.ranges_sha256
        tensors = _describe_tensors(read_ranges(workdir.ranges), info.quantisation) if same else {}
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


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
