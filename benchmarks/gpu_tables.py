"""What ``gpu.py`` found, as JSON and as tables in Markdown."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from gpu_decoding import DecodingResults, write_decoding
from numpy.typing import NDArray

BATCHES = (1, 8, 32, 64, 128, 256, 512)
FROM_HOST = 4096


@dataclass
class Results:
    """What was found, in the order in which it was.

    Attributes:
        facts: of the machine, and the ceilings.
        golden: largest distance to the authors' logits, by way.
        on_card: pictures a second with pixels on the card, by way and batch.
        from_host: the same with pixels in host memory, whole calls.
        judged: logits of the folder's pictures, by way; not in the JSON.
        kernels_ms: milliseconds of each kernel of the fused engine.
        decoding: files to verdicts.
        pycuda: what the trial of pycuda found; None where it was left out.
        took_s: seconds of each step.
        left_out: what was not run, and why.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    golden: dict[str, float] = field(default_factory=dict)
    on_card: dict[str, dict[int, float]] = field(default_factory=dict)
    from_host: dict[str, dict[int, float]] = field(default_factory=dict)
    judged: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    kernels_ms: dict[str, float] = field(default_factory=dict)
    decoding: DecodingResults = field(default_factory=DecodingResults)
    pycuda: dict[str, object] | None = None
    took_s: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def limits(self, multiply_adds: int, picture_bytes: int) -> dict[str, float]:
        """Pictures a second that the ceilings of this run allow: by arithmetic, and by copies from the host."""
        found = {}
        if rate := self.facts.get("best_matmul_tflops"):
            found["compute"] = rate * 1e12 / (2 * multiply_adds)
        if rate := self.facts.get("host_to_card_gb_s"):
            found["host"] = min(rate * 1e9 / picture_bytes, found.get("compute", float("inf")))
        return found

    def verify(self, reference: str) -> dict[str, dict[str, float]]:
        """How each way's logits of the folder's pictures differ from those of the reference."""
        expected = self.judged.get(reference)
        if expected is None:
            return {}
        found = {}
        for name, logits in self.judged.items():
            apart = np.abs(logits - expected)
            flips = int(((logits > 0) != (expected > 0)).sum())
            found[name] = {
                "pictures": len(expected),
                "flips": flips,
                "mean_error": float(apart.mean()),
                "max_error": float(apart.max()),
            }
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {name: value for name, value in vars(self).items() if name not in ("judged", "decoding")}
        return values | {"decoding": asdict(self.decoding)}


def write_markdown(results: Results, limits: dict[str, float], verified: dict[str, dict[str, float]]) -> str:
    """The tables."""
    facts = results.facts
    lines = [
        f"# {facts.get('card', 'a card')}, {facts.get('date', '')}",
        "",
        ", ".join(f"{name} {value}" for name, value in facts.items() if name not in ("card", "date")),
        "",
    ]
    if "compute" in limits:
        rate = facts["best_matmul_tflops"]
        lines += [f"Limit of this network at {rate} TFLOP/s: {limits['compute']:,.0f} pictures a second.", ""]
    lines += write_speeds(
        "pixels on the card, pictures/s", results.on_card, BATCHES, limits.get("compute"), results.golden
    )
    counts = (*BATCHES, FROM_HOST)
    lines += [
        "",
        *write_speeds("host to host, pictures/s", results.from_host, counts, limits.get("host"), results.golden),
    ]
    if results.kernels_ms:
        lines += ["", "| kernel, 256 pictures | ms |", "|---|---|"]
        lines += [f"| {name} | {ms:.3f} |" for name, ms in results.kernels_ms.items()]
    if verified:
        lines += [
            "",
            "| the folder's pictures | pictures | flips | mean abs Δlogit | largest |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {name} | {row['pictures']} | {row['flips']} | {row['mean_error']:.3g} | {row['max_error']:.3g} |"
            for name, row in verified.items()
        ]
    if results.pycuda is not None:
        lines += ["", "pycuda: " + ", ".join(f"{name} {value}" for name, value in results.pycuda.items())]
    if results.decoding.rates or results.decoding.left_out:
        lines += ["", *write_decoding(results.decoding)]
    lines += ["", "Left out:", "", *(f"- {name}: {why}" for name, why in results.left_out.items()), ""]
    return "\n".join(lines)


def write_speeds(
    title: str,
    rows: dict[str, dict[int, float]],
    counts: tuple[int, ...],
    limit: float | None,
    golden: dict[str, float],
) -> list[str]:
    """A table of pictures a second by batch, with the share of the limit."""
    head = f"| {title} | golden logits within | " + " | ".join(map(str, counts)) + " | of the limit |"
    lines = [head, "|---" * (len(counts) + 3) + "|"]
    for name, speeds in rows.items():
        cells = [f"{speeds[count]:,.0f}" if count in speeds else "" for count in counts]
        share = f"{max(speeds.values()) / limit:.0%}" if speeds and limit else ""
        within = f"{golden[name]:.3f}" if name in golden else ""
        lines.append(f"| {name} | {within} | " + " | ".join(cells) + f" | {share} |")
    return lines
