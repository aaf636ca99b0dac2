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
    assert line == "cpu: ort int8 is 2.20x as fast as FP16 at batch 32 and holds its gates: ship INT8 here"


@pytest.mark.parametrize("fps", [110, 40])
def test_int8_that_is_not_faster_is_not(fps):
    (line,) = advice(FP16, row("ort int8", "int8", {1: 999, 32: fps}))
    assert line == "cpu: ort fp16 is the fastest at batch 32 and holds its gates: ship FP16 here"


def test_int8_that_broke_a_gate_is_not_however_fast():
    (line,) = advice(FP16, row("ort int8", "int8", {1: 999, 32: 999}, outcome="fails"))
    assert line == "cpu: INT8 broke a gate; ship FP16"
    (line,) = advice(
        row("ort fp32", "fp32", {32: 60}), FP16, row("ort int8", "int8", {1: 999, 32: 999}, outcome="fails")
    )
    assert line.startswith("cpu: INT8 broke a gate; ort fp16 is 1.83x as fast as FP32")
    (line,) = advice(row("a", "fp16", {1: 9}, outcome="fails"), row("b", "int8", {1: 9}, outcome="fails"))
    assert line == "cpu: FP16 and INT8 broke a gate; ship none of them"


def test_of_what_is_undecided_nothing_is_promised():
    undecided = row("ort int8", "int8", {1: 150, 32: 220}, outcome="undecided")
    (line,) = advice(FP16, undecided)
    assert line == (
        "cpu: ort fp16 is the fastest at batch 32 and holds its gates: ship FP16 here; ort int8 is 2.00x as fast as "
        "that, but these pictures are too few to judge it"
    )
    (line,) = advice(FP16, undecided, row("sound", "int8", {32: 121}))
    assert "sound is 1.10x as fast as FP16" in line  # what holds comes before what may be faster
    (line,) = advice(row("ort fp16", "fp16", {32: 110}, outcome="undecided"), undecided)
    assert line.endswith("2.00x as fast as FP16 at batch 32, but these pictures are too few to say that it holds its "
                         "gates: judge it on more")  # fmt: skip


def test_all_precisions_and_runtimes_of_a_device_are_held_against_each_other():
    fp32 = row("ort fp32", "fp32", {1: 98, 32: 98})
    bf16 = row("openvino bf16", "bf16", {1: 300, 32: 430}, place="openvino on cpu")
    int8 = row("ort int8", "int8", {1: 290, 32: 295})
    (line,) = advice(fp32, bf16, int8)
    assert line == "cpu: openvino bf16 is 4.39x as fast as FP32 at batch 32 and holds its gates: ship BF16 here"
    (line,) = advice(fp32, bf16, int8, row("openvino int8", "int8", {1: 400, 32: 520}, place="openvino on cpu"))
    assert line.endswith("ship INT8 here")


def test_of_two_the_sound_and_faster_one_counts():
    slow, fast = (row(name, "int8", {32: fps}) for name, fps in (("slow", 50), ("fast", 220)))
    broken = row("broken", "int8", {32: 999}, outcome="fails")
    (line,) = advice(FP16, slow, fast, broken)
    assert "fast is 2.00x" in line


@pytest.mark.parametrize("fps", [{}, {8: 500}])
def test_without_figures_side_by_side_nothing_is_said_of_speed(fps):
    (line,) = advice(FP16, row("ort int8", "int8", fps))
    assert line == "cpu: FP16 and INT8 were not timed at one batch size; measure them before you choose"


def test_devices_are_kept_apart_and_what_was_not_run_or_is_foreign_says_nothing():
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
