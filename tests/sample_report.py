"""A report as ``verify`` writes it, of invented engines and scores: what the tests of its views look at.

Decisions, accuracies and flips follow from the scores; intervals are the normal approximation, which is near enough for
views to be tried on.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
from sample_parts import engine_quantisation, envelope, estimate, published, quantisation, speeds

NASTY = "<script>alert(1)</script>|`x`\n.png"
SETS = {
    "DiffusionForensics": ("adm", "ddpm", "iddpm", "ldm", "pndm", "vqdiffusion", "sdv1_new", "sdv2"),
    "mine": ("portal <b>uploads</b>", "archive"),
}
NAMES = {
    "pytorch fp32": ("reference", "fp32", "pytorch on cpu", "lfm.pth", 0.0),
    "onnxruntime fp32": ("engine", "fp32", "onnxruntime on cpu", "lfm.onnx", 2e-6),
    "onnxruntime fp16": ("engine", "fp16", "onnxruntime on cpu", "lfm.fp16.onnx", 0.02),
    "onnxruntime int8 tensorrt": ("engine", "int8", "onnxruntime on cpu", "lfm.int8.onnx", 4.0),
    "onnxruntime int8 cpu": ("engine", "int8", "onnxruntime on cpu", "lfm.int8.cpu.onnx", 0.4),
    "NPR <foreign>": ("detector", "fp32", "onnxruntime on cpu", "npr.onnx", None),
    "tensorrt-rtx fp16 sm86": ("engine", "fp16", "tensorrt-rtx on sm86", "lfm.fp16.sm86.engine", None),
}
NOT_RUN = "tensorrt-rtx fp16 sm86"
KERNELS = {
    "gpu": "sm86",
    "batch": 256,
    "form": "rewritten",
    "picture_bytes": 8_400_000,
    "multiply_adds": 520_000_000,
    "kernels": [
        {
            "kernel": {
                "name": name,
                "kind": kind,
                "picture_bytes": nbytes,
                "run_bytes": 66_000,
                "arithmetic": arithmetic,
                "multiply_adds": products,
            },
            "microseconds": nbytes / 768e3,
        }
        for name, kind, nbytes, arithmetic, products in (
            ("__myl_CastSlicSub<Abs>|Etc_myl0_1", "kgen", 2_300_000, "cores", 38_000_000),
            ("conv2_myl0_2", "correlation", 6_100_000, "fp16", 482_000_000),
            ("conv2.pool_myl0_3", "maxpool", 0, None, 0),
        )
    ],
    "cards": [
        {"card": "RTX A6000", "fps": 91_000, "source": "a whitepaper"},
        {"card": "T <4>", "fps": 41_000, "source": "a datasheet"},
    ],
}


def make_sample(per_class: int = 30, seed: int = 0, folder: Path = Path("data")) -> tuple[dict[str, Any], list[Any]]:
    """A report and the rows of its scores; pictures are named below ``folder`` and need not exist.

    The INT8 engine for TensorRT fails, that for the CPU is undecided, an engine was not run, one detector is foreign.
    """
    pictures = _pictures(per_class, folder)
    scores = _scores(pictures, np.random.default_rng(seed))
    rows = [
        {
            **dict(zip(("suite", "set", "category", "path", "label"), picture, strict=True)),
            "engine": name,
            "logit": float(logit),
            "notes": "jpeg-q88; <odd>" if picture[4] else "",
        }
        for name, logits in scores.items()
        for picture, logit in zip(pictures, logits, strict=True)
    ]
    report = {
        "format": "lfm-deploy report 4",
        "made": {
            "at": "2026-11-25T02:00:00Z",
            "command": ["lfm-deploy", "verify", "--suite", "diffusion", "--data", "/data/my pictures", "--envelope"],
        },
        "verdict": {
            "outcome": "failed",
            "passed": False,
            "text": "FAILED on CPU: onnxruntime int8 tensorrt broke a gate; 1 undecided; 1 not run",
            "threshold": "decisions and gates are at the threshold 0, the published one",
            "not_run": [NOT_RUN],
        },
        "device": "cpu",
        "threshold": 0.0,
        "uncertain_above": None,
        "threshold_origin": None,
        "limits": None,
        "statistics": {"rounds": 2000, "seed": 0, "confidence": 95},
        "suites": [_suite(name, pictures, folder) for name in SETS],
        "engines": [_engine(name, pictures, scores) for name in NAMES],
        "envelope": envelope(len(pictures)),
        "aligned": envelope(len(pictures)) | {"conditions": envelope(len(pictures))["conditions"][:2]},
        "group": None,
        "advice": ["onnxruntime on cpu: INT8 broke a gate: ship FP16"],
        "quantisation": {"tensorrt": quantisation("tensorrt"), "cpu": quantisation("cpu")},
        "skipped": [
            {"path": str(folder / "mine" / f"broken[red]{index}.png"), "reason": "the file is empty"}
            for index in range(9)
        ],
        "environment": {
            "lfm-deploy": "0.1.0",
            "processor": "A processor <with> 2 cores",
            "threads": 2,
            "system": "Linux-6.1-x86_64",
            "python": "3.11.2",
            "libraries": {"torch": "2.9.0", "onnxruntime": "1.23.0", "numpy": "2.3.1", "pillow": "12.0.0"},
        },
    }
    return report, rows


def _pictures(per_class: int, folder: Path) -> list[tuple[str, str, str | None, str, int]]:
    """(suite, set, category, path, label); the last set has real pictures alone, and one file has a nasty name."""
    found: list[tuple[str, str, str | None, str, int]] = []
    for suite, sets in SETS.items():
        for name in sets:
            for label in (0, 1) if name != "archive" else (0,):
                for index in range(per_class):
                    category = ("faces", "rooms")[index % 2] if suite == "mine" and label < 2 else None
                    home = folder / suite / name.replace("/", "_") / (category or "") / ("0_real", "1_fake")[label]
                    found.append((suite, name, category, str(home / f"{index:04}.png"), label))
    suite, name, category, path, label = found[1]
    found[1] = (suite, name, category, f"{Path(path).parent}/{NASTY}", label)
    return found


def _scores(pictures: list[Any], rng: np.random.Generator) -> dict[str, Any]:
    labels = np.array([picture[4] for picture in pictures])
    reference = np.where(labels == 1, 14.0, -17.0) + rng.normal(0, 9, len(labels))
    reference[1] = 21.5  # the nasty name is the worst false positive
    found = {}
    for name, (kind, _, _, _, noise) in NAMES.items():
        if name == NOT_RUN:
            continue
        if kind == "detector":
            found[name] = np.where(labels == 1, 1.5, -1.5) + rng.normal(0, 1.6, len(labels))
        else:
            found[name] = reference + rng.normal(0, 1, len(labels)) * (noise or 0)
    found["onnxruntime fp32"] = np.where((found["onnxruntime fp32"] > 0) == (reference > 0), found["onnxruntime fp32"],
                                         reference)  # fmt: skip  # FP32 flips nothing
    return found


def _share(hits: Any) -> dict[str, float] | None:
    if not len(hits):
        return estimate(None)
    share = float(np.mean(hits))
    return estimate(100 * share, 196 * math.sqrt(max(share * (1 - share), 0.01) / len(hits)))


def _metrics(logits: Any, labels: Any) -> dict[str, Any]:
    right = (logits > 0) == (labels == 1)
    both = 0 < labels.sum() < len(labels)
    real, fake = _share(right[labels == 0]), _share(right[labels == 1])
    balanced = None if real is None or fake is None else (real["value"] + fake["value"]) / 2
    ranked = labels[np.argsort(-logits, kind="stable")]
    hits = np.cumsum(ranked)
    precision = hits / np.arange(1, len(ranked) + 1)
    ap = float(100 * (precision * ranked).sum() / ranked.sum()) if both else None
    spread = estimate(ap, 1.3)
    return {
        "acc": _share(right),
        "acc_real": real,
        "acc_fake": fake,
        "balanced_acc": estimate(balanced, 1.4),
        "ap": spread,
        "auc": estimate(None if ap is None else min(ap + 0.4, 100), 1.1),
        "ece": estimate(4.2, 1.0),
        "best_threshold": {"threshold": estimate(-0.8, 1.9), "balanced_acc": spread} if both else None,
        "at_fpr": [
            {"fpr": fpr, "threshold": estimate(9.0 / fpr, 2.0), "acc_fake": _share(logits[labels == 1] > 9.0 / fpr)}
            for fpr in ((0.1, 1.0, 5.0) if both else ())
        ],
    }


def _mean(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean over sets, of those that have it."""
    complete = [part for part in parts if part["ap"] is not None]
    found = {name: value for name, value in complete[0].items() if name not in ("set", "real", "fake", "categories")}
    for name in ("acc", "acc_real", "acc_fake", "balanced_acc", "ap", "auc", "ece"):
        values = [part[name]["value"] for part in complete]
        found[name] = estimate(float(np.mean(values)), 1.6)
    return found


def _of(pictures: list[Any], suite: str, name: str | None = None, category: str | None = None) -> Any:
    return np.array([
        index for index, picture in enumerate(pictures)
        if picture[0] == suite and name in (None, picture[1]) and category in (None, picture[2])
    ])  # fmt: skip


def _engine(name: str, pictures: list[Any], scores: dict[str, Any]) -> dict[str, Any]:
    kind, precision, place, file, _ = NAMES[name]
    ran = name != NOT_RUN
    int8 = precision == "int8"
    suites = [_engine_suite(name, suite, pictures, scores) for suite in SETS] if ran else []
    return {
        "name": name,
        "kind": kind,
        "file": file,
        "sha256": (file.encode().hex() * 8)[:64],
        "precision": precision,
        "place": place,
        "quantisation": engine_quantisation(name.rpartition(" ")[2], name != "onnxruntime int8 tensorrt")
        if int8
        else None,
        "not_run": None if ran else "no CUDA device",
        "cached": len(pictures) if name == "onnxruntime fp32" else 0,
        "memory": {"kind": "host", "mib": 412.5, "what": "resident set of a process that ran batch 32"}
        if ran
        else None,
        "kernels": None if ran else KERNELS,
        "suites": suites,
        "gates": [] if kind != "engine" or not ran else _gates(name, suites),
        "speeds": speeds(name) if ran else [],
        "pixels": [],
    }


def _engine_suite(name: str, suite: str, pictures: list[Any], scores: dict[str, Any]) -> dict[str, Any]:
    labels = np.array([picture[4] for picture in pictures])
    logits, sets = scores[name], []
    for part in SETS[suite]:
        chosen = _of(pictures, suite, part)
        names = sorted({pictures[index][2] for index in chosen} - {None})
        sets.append({
            "set": part,
            "real": int((labels[chosen] == 0).sum()),
            "fake": int((labels[chosen] == 1).sum()),
            **_metrics(logits[chosen], labels[chosen]),
            "categories": [_category(pictures, suite, part, one, logits, labels) for one in names],
        })  # fmt: skip
    chosen = _of(pictures, suite)
    against = None
    if NAMES[name][0] == "engine":
        against = _against([pictures[index] for index in chosen], scores["pytorch fp32"][chosen], logits[chosen])
    return {
        "suite": suite,
        "pictures": len(chosen),
        "mean": _mean(sets),
        "pooled": _metrics(logits[chosen], labels[chosen]),
        "ap_of_sigmoids": 95.0,
        "sets": sets,
        "against": against,
    }


def _category(pictures: list[Any], suite: str, part: str, name: str, logits: Any, labels: Any) -> dict[str, Any]:
    chosen = _of(pictures, suite, part, name)
    found = _metrics(logits[chosen], labels[chosen])
    real = int((labels[chosen] == 0).sum())
    return {
        "name": name,
        "real": real,
        "fake": len(chosen) - real,
        **{key: found[key] and found[key]["value"] for key in ("acc", "ap")},
    }


def _against(pictures: list[Any], reference: Any, logits: Any) -> dict[str, Any]:
    labels = np.array([picture[4] for picture in pictures])
    flipped = np.flatnonzero((reference > 0) != (logits > 0))
    better = int(((logits[flipped] > 0) == (labels[flipped] == 1)).sum())
    errors = np.abs(logits - reference)
    return {
        "flips": len(flipped),
        "flip_rate": _share(np.isin(np.arange(len(labels)), flipped)),
        "better": better,
        "worse": len(flipped) - better,
        "mcnemar_p": 1.0 if len(flipped) < 4 else 0.031,
        "delta_acc": estimate(100 * (2 * better - len(flipped)) / len(labels), 0.8),
        "delta_ap": estimate(-0.02 * len(flipped), 0.3),
        "logit_error": {
            "max": float(errors.max()), "mean": float(errors.mean()),
            **{f"p{share}": float(np.percentile(errors, share)) for share in (50, 95, 99)},
        },
        "flipped": [
            {
                "set": pictures[index][1],
                "path": pictures[index][3],
                "label": pictures[index][4],
                "reference": float(reference[index]),
                "logit": float(logits[index]),
                "margin": float(reference[index]),
            }
            for index in flipped
        ],
    }  # fmt: skip


def _gates(name: str, suites: list[dict[str, Any]]) -> list[dict[str, Any]]:
    gates = []
    for suite in suites:
        against = suite["against"]
        bad, unsure = name == "onnxruntime int8 tensorrt", name == "onnxruntime int8 cpu"
        for what, found, limit in (
            ("flipped decisions in %", against["flip_rate"], 0.7),
            ("|ΔACC| in points", against["delta_acc"], 0.2),
        ):
            if what.startswith("|"):
                found = {key: abs(figure) for key, figure in found.items()}
                found |= {"low": min(found["low"], found["high"]), "high": max(found["low"], found["high"])}
            outcome = "fails" if bad and found["low"] > limit else "undecided" if unsure or bad else "holds"
            need = 12_000 if outcome == "undecided" else None
            text = f"{what}: {found['value']:.3g} [{found['low']:.3g}, {found['high']:.3g}], allowed {limit:g}"
            if need:
                text += f": undecided, need ≥ {need} pictures like these (have {suite['pictures']})"
            gates.append({"suite": suite["suite"], "name": what, **found, "limit": limit, "outcome": outcome,
                          "need": need, "text": text})  # fmt: skip
        gates.append({
            "suite": suite["suite"], "name": "test sets with a logit that is no number", "value": 0.0, "low": None,
            "high": None, "limit": 0.0, "outcome": "holds", "need": None,
            "text": "test sets with a logit that is no number: 0, allowed 0",
        })  # fmt: skip
    return gates


def _suite(name: str, pictures: list[Any], folder: Path) -> dict[str, Any]:
    labels = {part: [p[4] for p in pictures if p[0] == name and p[1] == part] for part in SETS[name]}
    twice = {"sha256": "ab" * 32, "real": str(folder / "mine" / "0_real" / "same|one.png"),
             "fake": str(folder / "mine" / "1_fake" / "same.png")}  # fmt: skip
    return {
        "name": name,
        "size": 256 if name != "mine" else "native",
        "pictures": sum(len(part) for part in labels.values()),
        "sets": [{"name": part, "real": of.count(0), "fake": of.count(1)} for part, of in labels.items()],
        "published": published(SETS["DiffusionForensics"]) if name == "DiffusionForensics" else None,
        "in_both_classes": [twice] if name == "mine" else [],
        "outside": 7 if name == "mine" else None,
        "confounders": [
            {"set": "mine", "property": "format", "auc": 0.97, "text": "all 80 JPEG files are <real>"},
            {
                "set": "mine",
                "property": "size",
                "auc": 0.75,
                "text": "64x64: 2 % of the real pictures, 90 % of the fakes",
            },
        ]
        if name == "mine"
        else [],
    }
