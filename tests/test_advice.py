from pathlib import Path

import pytest

from lfm_deploy.artifacts import Precision
from lfm_deploy.benchmark import Speed
from lfm_deploy.report.advice import advise
from lfm_deploy.statistics.gate import judge_exactly
from lfm_deploy.verification import EngineResult, Verification


def row(name, precision, fps, *, place="onnxruntime on cpu", passed=True, not_run=None):
    gate = judge_exactly("s", "flips", 0 if passed else 2, 1)
    speeds = tuple(
        Speed(batch=batch, fps=value, latency_ms=1, spread=0, runs=3, threads=2) for batch, value in fps.items()
    )
    return EngineResult(
        name=name,
        path=Path(name),
        place=place,
        sha256="",
        precision=precision,
        gates=(gate,),
        speeds=speeds,
        not_run=not_run,
    )


REFERENCE = row("pytorch fp32", Precision.FP32, {1: 50, 32: 50}, place="pytorch on cpu")
FP16 = row("ort fp16", Precision.FP16, {1: 100, 32: 110})


def advice(*rows):
    return advise(Verification(engines=[REFERENCE, *rows]))


def test_int8_that_is_faster_and_sound_is_shipped():
    (line,) = advice(FP16, row("ort int8", Precision.INT8, {1: 150, 32: 242}))
    assert line == (
        "onnxruntime on cpu: ort int8 is 2.20x as fast as FP16 at batch 32 and holds its budget: ship INT8 here"
    )


@pytest.mark.parametrize("fps", [110, 40])
def test_int8_that_is_not_faster_is_not(fps):
    (line,) = advice(FP16, row("ort int8", Precision.INT8, {1: 999, 32: fps}))
    assert line.endswith(f"INT8 is not faster than FP16 here ({fps / 110:.2f}x at batch 32): ship FP16")


def test_int8_that_broke_a_gate_is_not_however_fast():
    (line,) = advice(FP16, row("ort int8", Precision.INT8, {1: 999, 32: 999}, passed=False))
    assert line.endswith("INT8 broke a gate: ship FP16")


def test_of_two_the_sound_and_faster_one_counts():
    slow, fast = (row(name, Precision.INT8, {32: fps}) for name, fps in (("slow", 50), ("fast", 220)))
    broken = row("broken", Precision.INT8, {32: 999}, passed=False)
    (line,) = advice(FP16, slow, fast, broken)
    assert "fast is 2.00x" in line


def test_without_figures_nothing_is_said_of_speed():
    (line,) = advice(FP16, row("ort int8", Precision.INT8, {}))
    assert line.endswith("the speed of INT8 was not measured; measure it before shipping INT8")


def test_places_are_kept_apart_and_what_was_not_run_says_nothing():
    elsewhere = row("rtx int8", Precision.INT8, {32: 9999}, place="tensorrt-rtx on sm86", not_run="no CUDA device")
    assert advice(FP16, elsewhere) == []
    on_gpu = row("rtx int8", Precision.INT8, {32: 9999}, place="tensorrt-rtx on sm86")
    assert advice(FP16, on_gpu) == []
