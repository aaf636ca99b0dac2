"""Parts of the invented report that no score says anything of."""

import math
from typing import Any

import numpy as np

CONDITIONS = (
    ("as it is", "the pictures as they lie on the disk", 0.0),
    ("jpeg 98", "one round trip through JPEG at quality 98", 0.06),
    ("jpeg 90", "one round trip through JPEG at quality 90", 0.22),
    ("jpeg 75", "one round trip through JPEG at quality 75", 0.34),
    ("webp 90", "one round trip through WebP at quality 90", 0.3),
    ("resize 0.5", "half the width and height, bilinear", 0.41),
    ("resize 1.5", "one and a half times the width and height", 0.12),
    ("crop 256", "the middle 256 x 256 pixels instead of a resize", 0.02),
    ("blur 1", "Gaussian blur, sigma 1 pixel", 0.45),
    ("screenshot", "shown at 150 %, captured, saved as JPEG at 85", 0.38),
)


def estimate(value: float | None, wide: float = 0.0) -> dict[str, float] | None:
    """A figure with an interval of a half width, both kept inside 0 to 100 where the figure is."""
    if value is None:
        return None
    inside = 0 <= value <= 100
    low, high = value - wide, value + wide
    return {"value": value, "low": max(low, 0.0) if inside else low, "high": min(high, 100.0) if inside else high}


def published(sets: tuple[str, ...]) -> dict[str, Any]:
    columns = [*sets, "mean"]
    rng = np.random.default_rng(1)
    rows = []
    for method in ("CNNDetection", "Frank", "Ojha", "NPR", "SAFE", "LFM"):
        drawn = {column: round(float(value), 1) for column, value in zip(columns, rng.uniform(60, 99, 9), strict=True)}
        acc: dict[str, float | None] = {**drawn}
        ap: dict[str, float | None] = {column: round(min(value + 2, 100), 1) for column, value in drawn.items()}
        notes = []
        if method == "Frank":
            acc["ldm"] = ap["ldm"] = None
            notes = ["ldm: the figure is not legible in the source"]
        if method == "SAFE":
            acc, ap = {"mean": acc["mean"]}, {"mean": ap["mean"]}
        rows.append({"method": method, "acc": acc, "ap": ap, "notes": notes})
    return {"tables": ["III", "VIII"], "sets": columns, "rows": rows}


def envelope(pictures: int) -> dict[str, Any]:
    conditions = []
    for name, what, harm in CONDITIONS:
        real, fake = 94 - 8 * harm, 93 - 150 * harm
        conditions.append({
            "name": name, "what": what, "acc": estimate((real + fake) / 2, 2.1), "acc_real": estimate(real, 2.6),
            "acc_fake": estimate(fake, 3.0), "ap": estimate(96 - 70 * harm, 1.5), "fpr": estimate(100 - real, 2.6),
            "pictures": pictures, "skipped": 3 if name == "crop 256" else 0, "sets": [],
            "reasons": [{"reason": "smaller than 256x256 pixels", "pictures": 3}] if name == "crop 256" else [],
        })  # fmt: skip
    encoders = {"pillow": "12.0.0", "libjpeg-turbo": "3.1.0", "libjpeg": None, "libwebp": "1.6.0"}
    return {
        "engine": "onnxruntime fp32", "suite": "mine", "encoders": encoders, "cached": 0, "conditions": conditions,
    }  # fmt: skip


def quantisation(recipe: str) -> dict[str, Any]:
    layers, tensors = {}, {}
    for index, name in enumerate(("conv1", "conv2", "conv3", "conv4", "projection")):
        precision = "int8" if index != 1 or recipe == "cpu" else "fp16"
        only = _flip_estimate(0.1 + 0.2 * (index == 1), mean_error=0.2)
        layers[name] = {
            "precision": precision,
            "why": "carries its share" if precision == "int8" else "alone it spends the budget",
            "multiply_adds": 10**7 * (index + 1),
            "only": only,
            "without": _flip_estimate(0.3, mean_error=0.4),
            "snr_db": 38.0 + index,
        }
        counts = [int(5000 * math.exp(-bin / 12)) for bin in range(128)]
        int8 = precision == "int8"
        tensors[f"{name}.input"] = {
            "histogram": counts,
            "histogram_low": 0.0,
            "histogram_high": 8.0 + index,
            "chosen": "99.99 %" if int8 else None,
            "kept": [0.0, 3.5] if int8 else None,
        }
    del layers["conv1"]["snr_db"]
    return {
        "recipe": recipe, "budget": {"acc": 0.2, "ap": 0.15, "flips": 0.7}, "layers_asked": "search",
        "within_budget": recipe == "cpu", "int8_share": 0.67 if recipe == "tensorrt" else 1.0, "layers": layers,
        "base": _flip_estimate(0.01),
        "at_best": [{"card": "RTX A6000", "gpu": "sm86", "fp16_fps": 28437, "int8_fps": 30025}]
        if recipe == "tensorrt"
        else [],
        "trials": [
            {
                "layers": [name for name, layer in layers.items() if layer["precision"] == "int8"],
                "int8_share": 0.67, "chosen_by": _flip_estimate(0.2), "judged_by": _flip_estimate(0.2),
                "broken": [],
            }
        ],
        "logits": {"reference": [-3.5, 8.25], "int8": [-3.25, 8.0], "labels": [0, 1]}, "tensors": tensors,
    }  # fmt: skip


def engine_quantisation(recipe: str, within_budget: bool) -> dict[str, Any]:
    described = quantisation(recipe)
    return {
        "recipe": recipe,
        "layers": {layer: found["precision"] for layer, found in described["layers"].items()},
        "int8_share": 0.67,
        "ranges_sha256": "cd" * 32,
        "budget": described["budget"],
        "layers_asked": described["layers_asked"],
        "within_budget": within_budget,
    }


def _flip_estimate(flips: float, mean_error: float = 0.3) -> dict[str, Any]:
    return {
        "pictures": 64, "sources": 4, "flips": flips, "flips_low": 0.0, "flips_high": flips + 0.1,
        "worst": flips + 0.05, "worst_source": "0_real", "acc": -0.012, "ap": None, "seen_flips": 0,
        "mean_error": mean_error,
    }  # fmt: skip


def speeds(name: str) -> list[dict[str, Any]]:
    base = 30 + 15 * (name != "pytorch fp32") + 40 * name.endswith("cpu")
    return [
        {
            "batch": batch, "fps": base * gain, "latency_ms": 1e3 * batch / (base * gain), "spread": 0.03, "runs": 12,
            "threads": 2, "times_pytorch": None if name == "pytorch fp32" else base / 30,
            "measured_at": "2026-11-25T01:59:00Z",
        }
        for batch, gain in ((1, 1.0), (8, 1.1), (32, 1.15))
    ]  # fmt: skip
