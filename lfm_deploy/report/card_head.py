"""The head of a model card, in YAML, as Hugging Face reads it: tags, and ``model-index`` with every measured metric."""

from typing import Any

import yaml

from lfm_deploy.metrics.estimate import EstimateValues
from lfm_deploy.report.card_sources import CardSources
from lfm_deploy.report.engine_schema import EngineValues, MetricsValues
from lfm_deploy.report.findings import engines_that_ran

_TASK = {"type": "image-classification", "name": "Detection of generated images"}
# Names of metrics as Hugging Face knows them, or in plain words where it knows none.
_METRICS = (
    ("acc", "accuracy", "Accuracy"),
    ("ap", "average_precision", "Average precision"),
    ("auc", "roc_auc", "Area under the ROC curve"),
    ("acc_real", "specificity", "Real pictures called real"),
    ("acc_fake", "recall", "Fakes called fake"),
)


def make_head(sources: CardSources, name: str, license_id: str | None) -> str:
    """The block between two lines of three dashes.

    Args:
        sources: files of the workdir.
        name: name of the model.
        license_id: licence of the weights, as Hugging Face writes it; None where nobody said.
    """
    values: dict[str, Any] = {} if license_id is None else {"license": license_id}
    values |= {
        "library_name": "lfm-deploy",
        "pipeline_tag": "image-classification",
        "tags": ["generated-image-detection", "onnx", "tensorrt"],
        "model-index": [
            {
                "name": name,
                "results": [
                    _result(engine, suite)
                    for engine in engines_that_ran(sources.report)
                    if engine["kind"] != "detector"
                    for suite in engine["suites"]
                ],
            }
        ],
    }
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{text}---"


def _result(engine: EngineValues, suite: Any) -> dict[str, Any]:
    metrics: MetricsValues = suite["mean"]
    found: list[dict[str, Any]] = []
    for key, kind, title in _METRICS:
        estimate: EstimateValues | None = metrics[key]  # type: ignore[literal-required]  # five of its keys
        if estimate is not None:
            interval = {"low": _round(estimate["low"]), "high": _round(estimate["high"])}
            found.append({"type": kind, "name": title, "value": _round(estimate["value"]), "args": interval})
    against = suite["against"]
    if against is not None:
        found.append({"type": "flips", "name": "Decisions unlike the checkpoint's", "value": against["flips"]})
    return {
        "task": dict(_TASK),
        "dataset": {"name": suite["suite"], "type": suite["suite"], "args": {"engine": engine["name"]}},
        "metrics": found,
    }


def _round(value: float) -> float:
    """Two digits behind the point, of per cent; more would be noise."""
    return round(value, 2)
