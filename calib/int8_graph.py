"""Making the INT8 graph of a workdir from its ranges: layers are searched, and the findings are written beside it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from calib.calibration import calibration_versions, load_pictures, require_raw_pixels
from calib.findings_schema import Findings
from calib.layer_choice import LayerChoice
from calib.layer_scoring import Known, known_estimates
from calib.layer_search import search_layers
from calib.layer_times import LayerTimes, RtxTarget, check_gain
from calib.pictures import PictureStore
from calib.ranges import Ranges, check_ranges, read_ranges
from calib.search_findings import read_findings, write_findings
from engines.cards import cards_of
from engines.ort import count_kernels
from export.graph import ExportConfig, is_made_as, library_versions, make_graph, origin_versions
from lfm_deploy.artifacts import METADATA_KEY, GraphInfo, Precision, read_graph_info, read_graph_info_if_whole
from lfm_deploy.config import check_quantisable
from lfm_deploy.errors import GateError
from lfm_deploy.network.checkpoint import Checkpoint
from lfm_deploy.network.origin import read_origin
from lfm_deploy.progress import Progress, ignore_progress
from lfm_deploy.quantisation import Budget, Quantisation, Recipe
from lfm_deploy.storage.atomic import sha256_of_file, write_together
from lfm_deploy.storage.graph_file import seal_graph
from lfm_deploy.workdir import Workdir


@dataclass(frozen=True, kw_only=True)
class QuantisedGraph:
    """An INT8 graph in a workdir.

    Attributes:
        path: path of the ONNX file.
        findings: findings of the search, as ``precision.json`` holds them.
        reused: whether it was there already, made from the same inputs.
    """

    path: Path
    findings: Findings
    reused: bool


def quantise_into(
    workdir: Workdir,
    recipe: Recipe,
    budget: Budget,
    *,
    layers_asked: str = "search",
    images: Path | None = None,
    target: RtxTarget | None = None,
    on_message: Callable[[str], None] = lambda _: None,
    on_progress: Progress = ignore_progress,
) -> QuantisedGraph:
    """Search INT8 layers and write the graph with ``precision.json``; both appear together or not at all.

    A graph that is there, made from the same checkpoint, ranges, budget and versions, is kept. Of one for another
    budget, or for other GPUs, what was measured is taken over.

    Args:
        workdir: a folder with an exported checkpoint and ranges.
        recipe: kind of machine that the graph is for: ``tensorrt`` or ``cpu``.
        budget: limit that the INT8 graph must keep to.
        layers_asked: ``"search"``, or ``"all"`` for every layer, whatever comes out; such a graph is marked.
        images: folder where the calibration pictures lie now; None for the folder that ``ranges.json`` names.
        target: library and GPUs to choose layers for by the time of their engines; None chooses by multiply-adds.
        on_message: function that is given each line of text for people.
        on_progress: function that is given the name of a step, how much of it is done, and of how much.

    Raises:
        ArtifactError: nothing was exported here, or the ranges are missing or stale, or a picture has changed.
        ConfigError: INT8 is not made for this network.
        BudgetError: nothing with INT8 holds the budget; nothing is written.
        NoGainError: INT8 is not faster than FP16 on any card of the target; nothing is written.
    """
    source, info = read_origin(workdir)
    reference_path = workdir.graph(Precision.FP32)
    require_raw_pixels(reference_path, info)
    check_quantisable(info.config, str(reference_path))
    if info.contract.size == "native":
        target = None  # what a kernel moves is up to each picture
    ranges = read_ranges(workdir.ranges)
    check_ranges(ranges, workdir.ranges, reference_path, info, calibration_versions())
    path = workdir.graph(Precision.INT8, recipe)
    wanted = replace(info, precision=Precision.INT8, versions=library_versions() | calibration_versions())
    made_of = {"ranges_sha256": sha256_of_file(workdir.ranges), "budget": budget, "layers_asked": layers_asked}
    with workdir.lock(on_message):
        before = read_findings(workdir, lambda line: on_message(f"Warning: {line}"))
        findings = before.get(recipe)
        if findings is not None and _is_for(findings, target) and _is_current(path, wanted, made_of):
            if target is not None:
                check_gain(findings, target)
            return QuantisedGraph(path=path, findings=findings, reused=True)
        known = {} if findings is None or not _is_of(path, wanted, made_of, findings) else known_estimates(findings)
        result = _search(
            workdir, source, info, ranges, images, recipe, budget, layers_asked, target, known, on_progress
        )
        stamped = replace(wanted, versions=wanted.versions | origin_versions(), quantisation=_describe(result, made_of))
        model = result.model
        if model is None:
            raise GateError(f"the search for {recipe} gave no graph")
        onnx.helper.set_model_props(model, {METADATA_KEY: stamped.to_json()})
        if recipe is Recipe.CPU:
            check_kernels(model, result)
        text = write_findings(before | {recipe: result.as_dict()})
        write_together({path: seal_graph(model), workdir.precisions: text.encode()})
    return QuantisedGraph(path=path, findings=result.as_dict(), reused=False)


def check_kernels(model: onnx.ModelProto, result: LayerChoice) -> None:
    """Check that ONNX Runtime runs every INT8 layer in integers: its optimised graph has no float one too many.

    Raises:
        GateError: ONNX Runtime lacks an integer kernel for a layer, so the graph would be slow without a word.
    """
    kernels = count_kernels(model)
    in_float = len(result.multiply_adds) - len(result.layers)
    pools = kernels["MaxPool"]
    complete = not in_float
    if kernels["QLinearConv"] != len(result.layers) or (complete and (kernels["Conv"] + kernels["FusedConv"] + pools)):
        raise GateError(
            f"ONNX Runtime runs {kernels['QLinearConv']} convolutions in integers, expected {len(result.layers)} "
            f"(its optimised graph has {dict(kernels)}); nothing was written. Report this with the output of "
            "'pip freeze'"
        )


def _search(
    workdir: Workdir,
    source: Checkpoint,
    info: GraphInfo,
    ranges: Ranges,
    images: Path | None,
    recipe: Recipe,
    budget: Budget,
    layers_asked: str,
    target: RtxTarget | None,
    known: Known,
    on_progress: Progress,
) -> LayerChoice:
    reference = onnx.load(workdir.graph(Precision.FP32))
    base = reference
    if recipe is Recipe.TENSORRT:
        base = _half_precision(workdir, source, info)
    times = None if target is None else LayerTimes(target, info, base)
    if times is not None and not times.known:
        times = None  # of native sizes, or of GPUs of which no card is known
    with PictureStore() as store:
        load_pictures(ranges, images or Path(ranges.images), info.config, store)
        return search_layers(
            reference,
            base,
            info.config,
            ranges,
            store,
            recipe,
            budget,
            layers_asked=layers_asked,
            times=times,
            known=known,
            on_progress=on_progress,
        )


def _half_precision(workdir: Workdir, source: Checkpoint, info: GraphInfo) -> onnx.ModelProto:
    """The FP16 graph of a workdir, or the same one made anew where it is missing or stale."""
    path = workdir.graph(Precision.FP16)
    found = read_graph_info_if_whole(path)
    if found is not None and is_made_as(found, replace(info, precision=Precision.FP16, versions=library_versions())):
        return onnx.load(path)
    config = ExportConfig(size=info.contract.size, input=info.input, evidence=info.evidence, precision=Precision.FP16)
    return make_graph(source, config)


def _is_for(findings: Findings, target: RtxTarget | None) -> bool:
    """Whether the layers were chosen for the GPUs that are asked for now."""
    gpus = set() if target is None else {gpu for gpu in target.gpus if cards_of(gpu)}
    return {speed["gpu"] for speed in findings["at_best"]} == gpus


def _is_current(path: Path, wanted: GraphInfo, made_of: dict[str, Any]) -> bool:
    found = read_graph_info_if_whole(path)
    if found is None or found.quantisation is None:
        return False
    same = all(getattr(found.quantisation, name) == value for name, value in made_of.items())
    return same and is_made_as(replace(found, quantisation=None), wanted)


def _is_of(path: Path, wanted: GraphInfo, made_of: dict[str, Any], findings: Findings) -> bool:
    """Whether findings are of the graph that is there, and that of the ranges and versions of now."""
    if not _is_current(path, wanted, {"ranges_sha256": made_of["ranges_sha256"]}):
        return False
    made = read_graph_info(path).quantisation
    return made is not None and made.layers == {name: layer["precision"] for name, layer in findings["layers"].items()}


def _describe(result: LayerChoice, made_of: dict[str, Any]) -> Quantisation:
    return Quantisation(
        recipe=result.recipe,
        layers={layer: "int8" if layer in result.layers else result.recipe.base for layer in result.multiply_adds},
        int8_share=result.int8_share,
        within_budget=result.within_budget,
        **made_of,
    )
