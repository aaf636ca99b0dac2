"""lfm-deploy: take LFM from a checkpoint to engines that are proved to make the same decisions.

The verbs of the command line are functions here. Each is loaded when it is first used, so that importing this
package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from lfm_deploy.version import __version__

if TYPE_CHECKING:
    from calib.calibration import calibrate_into
    from calib.int8_graph import quantise_into
    from engines.builder import BuildConfig, build_engine
    from engines.engine import Engine
    from engines.library import load_library
    from engines.loading import load_engine
    from export.exporter import export_onnx
    from export.graph import ExportConfig
    from lfm_deploy.artifacts import InputForm, Precision, read_graph_info
    from lfm_deploy.benchmark.benchmark import BenchSettings, measure_speed, run_benchmark
    from lfm_deploy.config import ModelConfig
    from lfm_deploy.contract import Contract
    from lfm_deploy.deployment.deployment import export_into
    from lfm_deploy.engine_info import read_engine_info
    from lfm_deploy.errors import DeployError
    from lfm_deploy.exploration.exploration import Exploration, explore
    from lfm_deploy.exploration.specimens import draw_sample, find_specimens
    from lfm_deploy.network.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
    from lfm_deploy.network.evidence import Evidence, draw_evidence, evidence_contributions, evidence_map
    from lfm_deploy.pictures.images import read_batches, read_image
    from lfm_deploy.pictures.pixel_limit import limit_pixels
    from lfm_deploy.prediction.collection import Collection, collect
    from lfm_deploy.prediction.prediction import predict
    from lfm_deploy.prediction.rows import Prediction
    from lfm_deploy.quantisation import Budget, Recipe
    from lfm_deploy.suites import load_suites
    from lfm_deploy.thresholds.measurement import threshold
    from lfm_deploy.verification.verification import verify
    from lfm_deploy.verification.verification_result import Verification
    from lfm_deploy.verification.verify_options import VerifyOptions
    from lfm_deploy.workdir import Workdir

_SOURCES = {
    "engines.builder": ("BuildConfig", "build_engine"),
    "engines.engine": ("Engine",),
    "engines.library": ("load_library",),
    "engines.loading": ("load_engine",),
    "export.exporter": ("export_onnx",),
    "export.graph": ("ExportConfig",),
    "lfm_deploy.artifacts": ("InputForm", "Precision", "read_graph_info"),
    "lfm_deploy.engine_info": ("read_engine_info",),
    "lfm_deploy.benchmark.benchmark": ("BenchSettings", "measure_speed", "run_benchmark"),
    "calib.calibration": ("calibrate_into",),
    "lfm_deploy.network.checkpoint": ("Checkpoint", "read_checkpoint", "write_checkpoint"),
    "lfm_deploy.config": ("ModelConfig",),
    "lfm_deploy.contract": ("Contract",),
    "lfm_deploy.deployment.deployment": ("export_into",),
    "lfm_deploy.errors": ("DeployError",),
    "lfm_deploy.network.evidence": ("Evidence", "draw_evidence", "evidence_contributions", "evidence_map"),
    "lfm_deploy.exploration.exploration": ("Exploration", "explore"),
    "lfm_deploy.pictures.images": ("read_batches", "read_image"),
    "lfm_deploy.pictures.pixel_limit": ("limit_pixels",),
    "lfm_deploy.prediction.collection": ("Collection", "collect"),
    "lfm_deploy.prediction.prediction": ("predict",),
    "lfm_deploy.quantisation": ("Budget", "Recipe"),
    "calib.int8_graph": ("quantise_into",),
    "lfm_deploy.prediction.rows": ("Prediction",),
    "lfm_deploy.exploration.specimens": ("draw_sample", "find_specimens"),
    "lfm_deploy.suites": ("load_suites",),
    "lfm_deploy.thresholds.measurement": ("threshold",),
    "lfm_deploy.verification.verify_options": ("VerifyOptions",),
    "lfm_deploy.verification.verification_result": ("Verification",),
    "lfm_deploy.verification.verification": ("verify",),
    "lfm_deploy.workdir": ("Workdir",),
}
_WHERE = {name: module for module, names in _SOURCES.items() for name in names}

__all__ = [
    "BenchSettings",
    "Budget",
    "BuildConfig",
    "Checkpoint",
    "Collection",
    "Contract",
    "DeployError",
    "Engine",
    "Evidence",
    "Exploration",
    "ExportConfig",
    "InputForm",
    "ModelConfig",
    "Precision",
    "Prediction",
    "Recipe",
    "Verification",
    "VerifyOptions",
    "Workdir",
    "__version__",
    "build_engine",
    "calibrate_into",
    "collect",
    "draw_evidence",
    "draw_sample",
    "evidence_contributions",
    "evidence_map",
    "explore",
    "export_into",
    "export_onnx",
    "find_specimens",
    "limit_pixels",
    "load_engine",
    "load_library",
    "load_suites",
    "measure_speed",
    "predict",
    "quantise_into",
    "read_batches",
    "read_checkpoint",
    "read_engine_info",
    "read_graph_info",
    "read_image",
    "run_benchmark",
    "threshold",
    "verify",
    "write_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
