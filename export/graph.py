"""From a checkpoint to an ONNX graph: export, clean, stamp with contract and provenance, check."""

import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from export.blocks import can_reform, reform_first_stage
from export.inference import InferenceForm
from export.names import name_layers
from export.typed import check_types, drop_float_detours
from lfm_deploy.artifacts import METADATA_KEY, GraphInfo, InputForm, Precision
from lfm_deploy.config import ModelConfig, Pooling, check_explainable
from lfm_deploy.contract import Contract, SizePolicy
from lfm_deploy.errors import BuildError, ConfigError
from lfm_deploy.network.checkpoint import Checkpoint
from lfm_deploy.network.model import check_size
from lfm_deploy.pictures.self_test import describe_pillow
from lfm_deploy.version import __version__

# 19 is the first opset with float16 scales in Q/DQ; 20 is the newest that TensorRT 10.12 reads in full.
OPSET = 20
# The first in which convolutions and pooling are in bfloat16.
_BF16_OPSET = 22
_TRAINING_OPS = frozenset({"BatchNormalization", "Dropout", "RandomNormal", "RandomUniform", "Bernoulli"})
_LARGEST_BATCH = 65535
_LARGEST_SIDE = 8192
EVIDENCE_OUTPUTS = ("logit", "evidence_values", "evidence_positions")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """Which variant of the graph to make.

    Attributes:
        size: side of the square input in pixels, or ``"native"`` for dynamic even height and width.
        input: raw uint8 pixels, or normalised float32 ones.
        evidence: whether the graph also gives the pooled values and their positions.
        precision: arithmetic from NPR to the pooling; FP32, FP16 or BF16.
        decided: contract whose threshold the graph takes over; None is the threshold 0.
    """

    size: SizePolicy = 256
    input: InputForm = InputForm.UINT8
    evidence: bool = False
    precision: Precision = Precision.FP32
    decided: Contract | None = None

    def __post_init__(self) -> None:
        """INT8 needs ranges, which no checkpoint has."""
        if self.precision is Precision.INT8:
            raise ConfigError("INT8 is made from an FP16 or FP32 graph and ranges; run 'lfm-deploy build --int8'")
        if self.precision is Precision.BF16 and self.evidence:
            raise ConfigError("a BF16 graph has no evidence outputs; take those of the FP32 graph")


def make_graph(checkpoint: Checkpoint, config: ExportConfig) -> onnx.ModelProto:
    """The inference form of a checkpoint as a checked ONNX model with metadata.

    The same checkpoint, config and library versions give the same bytes.

    Raises:
        ShapeError: the size is odd or too small for the network.
        ConfigError: evidence was asked for of a network that has none.
        BuildError: the exported graph is not what it must be.
    """
    contract = replace(config.decided or Contract(), size=config.size)
    if config.size != "native":
        check_size(checkpoint.config, config.size, config.size)
    if config.evidence:
        check_explainable(checkpoint.config, "the checkpoint")
    form = InferenceForm(checkpoint.build_model(), config.input, config.precision, evidence=config.evidence).eval()
    model = _export(form, config, checkpoint.config)
    _drop_build_traces(model)
    drop_float_detours(model)
    name_layers(model, checkpoint.config)
    if config.precision is Precision.BF16 and can_reform(model):
        reform_first_stage(model)  # measured: a fifth of the time there; in float32 it gains nothing
    info = GraphInfo(
        contract=contract,
        config=checkpoint.config,
        precision=config.precision,
        input=config.input,
        evidence=config.evidence,
        checkpoint_sha256=checkpoint.sha256,
        versions=origin_versions(),
    )
    onnx.helper.set_model_props(model, {METADATA_KEY: info.to_json()})
    model.producer_name, model.producer_version = "lfm-deploy", __version__
    check_graph(model, config.precision, checkpoint.config)
    return model


def library_versions() -> dict[str, str]:
    """Versions of everything that shapes a graph."""
    return {"lfm-deploy": __version__} | {name: version(name) for name in ("torch", "onnx", "onnxscript")}


def origin_versions() -> dict[str, str]:
    """Versions that a graph records: what shapes it, and what decodes pictures where it was made."""
    return library_versions() | describe_pillow()


def is_made_as(found: GraphInfo, wanted: GraphInfo) -> bool:
    """Whether a graph was made as wanted; versions that are not asked for, like the decoder's, shape no graph.

    Args:
        found: description of the graph that is there.
        wanted: description with the versions that matter.
    """
    versions = {name: number for name, number in found.versions.items() if name in wanted.versions}
    return replace(found, versions=versions) == wanted


def check_graph(model: onnx.ModelProto, precision: Precision, config: ModelConfig) -> None:
    """Check an exported graph: valid, no training left in it, pooled as the architecture says, typed as asked.

    Raises:
        BuildError: the graph is not what it must be; the message says what is wrong.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BuildError(f"the exported graph is not valid ONNX: {error}") from None
    operators = Counter(node.op_type for node in model.graph.node)
    domains = {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    training = sorted(_TRAINING_OPS & set(operators))
    ranks = int(config.pooling is Pooling.TOPK)
    finite = all(np.isfinite(numpy_helper.to_array(tensor)).all() for tensor in model.graph.initializer)
    problems = [
        text
        for text, wrong in (
            (f"opset {opset}, which is below 19", opset < 19),
            (f"training operators {training}", bool(training)),
            (f"{operators['TopK']} TopK operators instead of {ranks}", operators["TopK"] != ranks),
            (f"operators of other domains {sorted(domains)}", bool(domains)),
            (f"weights that {precision} cannot hold", not finite),
        )
        if wrong
    ]
    if problems:
        raise BuildError(f"the exported graph has {'; '.join(problems)}")
    check_types(model, precision)


def _export(form: InferenceForm, config: ExportConfig, model: ModelConfig) -> onnx.ModelProto:
    dynamic: dict[int, object] = {0: torch.export.Dim("batch", min=1, max=_LARGEST_BATCH)}
    # Two pictures and unequal sides: the exporter takes a size of 1, and equal sizes, for constants.
    height, width = (128, 160) if config.size == "native" else (config.size, config.size)
    shape = (2, height, width, 3) if config.input is InputForm.UINT8 else (2, 3, height, width)
    if config.size == "native":
        smallest = model.min_square // 2
        dynamic |= {
            shape.index(height): 2 * torch.export.Dim("half_height", min=smallest, max=_LARGEST_SIDE // 2),
            shape.index(width): 2 * torch.export.Dim("half_width", min=smallest, max=_LARGEST_SIDE // 2),
        }
    example = torch.zeros(shape, dtype=torch.uint8 if config.input is InputForm.UINT8 else torch.float32)
    with _quiet_exporter():
        program = torch.onnx.export(
            form,
            (example,),
            dynamo=True,
            dynamic_shapes=(dynamic,),
            input_names=["image"],
            output_names=list(EVIDENCE_OUTPUTS if config.evidence else EVIDENCE_OUTPUTS[:1]),
            opset_version=_BF16_OPSET if config.precision is Precision.BF16 else OPSET,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise BuildError("torch.onnx.export gave no program")
    return program.model_proto


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence what the exporter says about itself: operators of torchvision, which is not used here."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Deprecations inside torch and onnxscript are not the caller's to mend.
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _drop_build_traces(model: onnx.ModelProto) -> None:
    """Remove source paths and stack traces, which would carry this machine's folders into the artifact."""
    del model.metadata_props[:]
    model.doc_string = ""
    graph = model.graph
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
