import onnx
import pytest

from calib.int8_graph import quantise_into
from calib.layer_choice import BudgetError
from calib.layer_times import (
    LEAST_GAIN,
    LayerTimes,
    NoGainError,
    RtxTarget,
    check_gain,
    explain_no_gain,
    gpus_that_gain,
    gpus_worth_building,
)
from engines.cards import Card
from engines.library import load_library
from lfm_deploy.artifacts import Precision, read_graph_info
from lfm_deploy.kernels import Kernel
from lfm_deploy.progress import ignore_progress
from lfm_deploy.quantisation import Budget, Recipe


def speed(card, gpu, fp16, int8):
    return {"card": card, "gpu": gpu, "fp16_fps": fp16, "int8_fps": int8}


MIXED = [speed("A", "sm86", 100, 101), speed("B", "sm86", 100, 110), speed("C", "sm89", 100, 90)]


@pytest.fixture(scope="module")
def library():
    return load_library("tensorrt-rtx")


@pytest.fixture
def card(monkeypatch):
    """The one card of each GPU: its products are its limit, and those of INT8 are as fast as a test decides."""

    def make(times_fp16):
        rates = {"fp32": 1e9, "cores": 1e15, "fp16": 1e9, "int8": 1e9 * times_fp16}
        one = Card(name="it", gpu="sm86", bytes_per_second=1e15, operations_per_second=rates, source="nowhere")
        for module in ("calib.layer_times", "calib.int8_graph"):
            monkeypatch.setattr(f"{module}.cards_of", lambda gpu: (one,))

    return make


def test_a_gpu_gains_where_one_of_its_cards_does():
    assert gpus_that_gain(MIXED) == ["sm86"]
    assert gpus_that_gain([speed("A", "sm86", 1000, round(1000 * LEAST_GAIN) - 1)]) == []


def test_engines_are_built_where_int8_gains_and_where_nothing_is_known(library):
    findings = {"at_best": MIXED, "layers_asked": "search"}
    target = RtxTarget(library, ("sm86", "sm89", "sm121"))
    assert gpus_worth_building(findings, target) == ("sm86", "sm121")
    assert gpus_worth_building(findings | {"layers_asked": "all"}, target) == target.gpus
    assert gpus_worth_building(findings, RtxTarget(library, target.gpus, force=True)) == target.gpus


def test_a_graph_that_gains_nowhere_is_refused_unless_forced(library):
    findings = {"at_best": MIXED[2:], "layers_asked": "search"}
    with pytest.raises(
        NoGainError, match=r"C \(sm89\): at best 90 pictures a second, FP16 100\); ship FP16, .*--force"
    ):
        check_gain(findings, RtxTarget(library, ("sm89",)))
    check_gain(findings, RtxTarget(library, ("sm89",), force=True))
    check_gain(findings | {"layers_asked": "conv3"}, RtxTarget(library, ("sm89",)))
    check_gain(findings | {"at_best": []}, RtxTarget(library, ("sm89",)))


def test_each_gpu_is_named_once_with_its_best_card():
    text = explain_no_gain([speed("A", "sm86", 100, 80), speed("B", "sm86", 100, 95), speed("C", "sm89", 100, 90)])
    assert "A (sm86)" not in text
    assert "B (sm86)" in text
    assert "C (sm89)" in text
    assert NoGainError(text).exit_code == 1


@pytest.fixture
def listed(library, monkeypatch, card):
    """Makes the times of GPUs by figures that stand where the kernels' do; and the builds that were asked for."""
    card(1)
    builds = []

    def open_times(products, *gpus, force=False):
        def list_kernels(self, model, gpus):
            builds.extend((model, gpu) for gpu in gpus)
            return {
                gpu: (
                    Kernel(
                        name=f"kernel of {gpu}",
                        kind="correlation",
                        picture_bytes=0,
                        run_bytes=0,
                        arithmetic="fp16",
                        multiply_adds=products[model][gpu] if isinstance(products[model], dict) else products[model],
                    ),
                )
                for gpu in gpus
            }

        monkeypatch.setattr(LayerTimes, "_list_kernels", list_kernels)
        times = LayerTimes(RtxTarget(library, gpus, force), None, ())
        builds.clear()
        return times

    return open_times, builds


def arrange(times, *choices):
    return times.arrange(choices, lambda layers: layers, ignore_progress)


def test_choices_are_arranged_by_the_time_of_their_engines(listed):
    open_times, _ = listed
    products = {(): 1000, ("a",): 900, ("b",): 1100, ("a", "b"): 800}
    choices = [("a",), ("b",), ("a", "b")]
    assert arrange(open_times(products, "sm86"), *choices) == [("a", "b"), ("a",)]
    assert arrange(open_times(products, "sm86", force=True), *choices) == [("a", "b"), ("a",), ("b",)]
    with pytest.raises(NoGainError, match="FP16 500,000"):
        arrange(open_times(products, "sm86"), ("b",))


def test_of_gpus_with_the_same_kernels_one_stands_for_all_but_not_in_what_is_told(listed):
    open_times, builds = listed
    products = {(): 1000, ("a",): 900, ("b",): 950, ("a", "b"): {"sm75": 700, "sm86": 800, "sm89": 800}}
    choices = [("a",), ("b",), ("a", "b")]
    times = open_times(products, "sm86", "sm75", "sm89")
    assert arrange(times, *choices) == [("a", "b"), ("a",), ("b",)]
    assert [gpu for model, gpu in builds if model == ("a",)] == ["sm86", "sm75"]
    # On one of them this choice is slower than what the other says of it.
    products = {(): 1000, ("a",): {"sm86": 1000, "sm89": 1250}, ("a", "b"): 1100}
    times = open_times(products, "sm86", "sm89")
    with pytest.raises(NoGainError, match=r"sm89\): at best 400,000 .*; it \(sm86\): at best 500,000 "):
        arrange(times, ("a",), ("a", "b"))
    assert builds.count((("a",), "sm86")) == 2


@pytest.mark.parametrize(("times_fp16", "faster"), [(100, True), (0.01, False)])
def test_the_card_decides_what_the_kernels_take(library, calibrated, small_graphs, card, times_fp16, faster):
    card(times_fp16)
    info = read_graph_info(calibrated.graph(Precision.FP32))
    times = LayerTimes(RtxTarget(library, ("sm86",)), info, small_graphs(size=64, precision=Precision.FP16))
    assert times.known
    (found,) = times.compare(onnx.load(calibrated.graph(Precision.INT8)))
    assert (found["int8_fps"] > found["fp16_fps"]) is faster


def test_where_nothing_gains_nothing_is_written(library, own_calibrated, calibration_folder, card, wide_budget):
    card(0.01)
    before = own_calibrated.graph(Precision.INT8).read_bytes()
    with pytest.raises(NoGainError, match="ship FP16"):
        quantise_into(own_calibrated, Recipe.TENSORRT, wide_budget, target=RtxTarget(library, ("sm86",)))
    assert own_calibrated.graph(Precision.INT8).read_bytes() == before
    forced = quantise_into(own_calibrated, Recipe.TENSORRT, wide_budget, target=RtxTarget(library, ("sm86",), True))
    assert [entry["card"] for entry in forced.findings["at_best"]] == ["it"]
    with pytest.raises(NoGainError):  # what --force made is not taken without it
        quantise_into(own_calibrated, Recipe.TENSORRT, wide_budget, target=RtxTarget(library, ("sm86",)))
    again = quantise_into(own_calibrated, Recipe.TENSORRT, wide_budget, target=RtxTarget(library, ("sm86",), True))
    assert again.reused


def test_a_budget_that_fp16_breaks_is_told_before_any_kernel_is_listed(library, own_calibrated, card):
    card(0.01)  # INT8 gains nothing, which would be told after that
    with pytest.raises(BudgetError, match="even the fp16 graph breaks the budget"):
        quantise_into(
            own_calibrated, Recipe.TENSORRT, Budget(acc=0, ap=0, flips=0), target=RtxTarget(library, ("sm86",))
        )
