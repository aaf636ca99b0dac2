import pytest

from lfm_deploy.report.advice import advise


def row(name, precision, fps, *, place="onnxruntime on cpu", outcome="holds", not_run=None, kind="engine"):
    return {
        "name": name,
        "kind": kind,
        "place": place,
        "precision": precision,
        "not_run": not_run,
        "kernels": None,
        "gates": [{"suite": "s", "outcome": "holds"}, {"suite": "s", "outcome": outcome}],
        "speeds": [{"batch": batch, "fps": value} for batch, value in fps.items()],
    }


REFERENCE = row("pytorch fp32", "fp32", {1: 50, 32: 50}, place="pytorch on cpu", kind="reference")
FP16 = row("ort fp16", "fp16", {1: 100, 32: 110})


def advice(*rows):
    return advise([REFERENCE, *rows])


def test_int8_that_is_faster_and_sound_is_shipped():
    (line,) = advice(FP16, row("ort int8", "int8", {1: 150, 32: 242}))
    assert line == (
        "onnxruntime on cpu: ort int8 is 2.20x as fast as FP16 at batch 32 and holds its budget: ship INT8 here"
    )


@pytest.mark.parametrize("fps", [110, 40])
def test_int8_that_is_not_faster_is_not(fps):
    (line,) = advice(FP16, row("ort int8", "int8", {1: 999, 32: fps}))
    assert line.endswith(f"INT8 is not faster than FP16 here ({fps / 110:.2f}x at batch 32): ship FP16")


def test_int8_that_broke_a_gate_is_not_however_fast():
    (line,) = advice(FP16, row("ort int8", "int8", {1: 999, 32: 999}, outcome="fails"))
    assert line.endswith("INT8 broke a gate: ship FP16")


def test_of_int8_that_is_undecided_nothing_is_promised():
    undecided = row("ort int8", "int8", {1: 150, 32: 220}, outcome="undecided")
    (line,) = advice(FP16, undecided)
    assert line.endswith(
        "ort int8 is 2.00x as fast as FP16 at batch 32, but these pictures are too few to say that it holds its "
        "budget: judge it on more"
    )
    (line,) = advice(FP16, undecided, row("sound", "int8", {32: 121}))
    assert "sound is 1.10x" in line  # what holds comes before what may be faster


def test_of_two_the_sound_and_faster_one_counts():
    slow, fast = (row(name, "int8", {32: fps}) for name, fps in (("slow", 50), ("fast", 220)))
    broken = row("broken", "int8", {32: 999}, outcome="fails")
    (line,) = advice(FP16, slow, fast, broken)
    assert "fast is 2.00x" in line


@pytest.mark.parametrize("fps", [{}, {8: 500}])
def test_without_figures_side_by_side_nothing_is_said_of_speed(fps):
    (line,) = advice(FP16, row("ort int8", "int8", fps))
    assert line.endswith("INT8 and FP16 were not timed at one batch size; measure both before shipping INT8")


def test_places_are_kept_apart_and_what_was_not_run_or_is_foreign_says_nothing():
    elsewhere = row("rtx int8", "int8", {32: 9999}, place="tensorrt-rtx on sm86", not_run="no CUDA device")
    assert advice(FP16, elsewhere) == []
    on_gpu = row("rtx int8", "int8", {32: 9999}, place="tensorrt-rtx on sm86")
    assert advice(FP16, on_gpu) == []
    assert advice(FP16, row("foreign", "int8", {32: 9999}, kind="detector")) == []


def test_where_nothing_was_run_the_kernels_advise():
    def listed(name, precision, fps, **given):
        table = {"gpu": "sm86", "cards": [{"card": "RTX A6000", "fps": fps, "source": ""}]}
        return row(name, precision, {}, place="tensorrt-rtx on sm86", **given) | {"kernels": table}

    fp16 = listed("rtx fp16", "fp16", 28437, not_run="no CUDA device")
    int8 = listed("rtx int8", "int8", 30025, not_run="no CUDA device")
    (line,) = advice(fp16, int8)
    assert line.endswith("at best, not measured: ship INT8 to RTX A6000 (1.06 x FP16)")
    assert advice(fp16, int8 | {"not_run": None}) == []  # what was measured counts instead
