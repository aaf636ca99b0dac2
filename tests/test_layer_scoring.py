from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import calib.layer_scoring
from calib.calibration import load_pictures
from calib.graph_preparation import make_final_graph
from calib.layer_scoring import LayerScorer, prepare_folds
from calib.pictures import PictureStore
from calib.ranges import read_ranges
from calib.scoring import score_graph
from calib.search_findings import read_findings
from lfm_deploy.artifacts import Precision, read_graph_info
from lfm_deploy.progress import ignore_progress
from lfm_deploy.quantisation import Recipe


@pytest.fixture(scope="module")
def scored(calibrated):
    """A scorer for the CPU, the graphs that it takes, and what was measured."""
    ranges, info = read_ranges(calibrated.ranges), read_graph_info(calibrated.graph(Precision.FP32))
    reference = onnx.load(calibrated.graph(Precision.FP32))
    with PictureStore() as store:
        load_pictures(ranges, Path(ranges.images), info.config, store)
        scorer = LayerScorer(reference, store, ranges, Recipe.CPU)
        prepared = prepare_folds(reference, reference, ranges, store, Recipe.CPU, ignore_progress)
        yield scorer, prepared, reference, ranges, store


def test_the_reference_changes_nothing_and_int8_something(scored):
    scorer, prepared, reference, ranges, _ = scored
    same = scorer.estimate(reference)
    assert (same.flips, same.acc, same.seen_flips, same.mean_error) == (0, 0, 0, 0)
    assert (same.pictures, same.sources) == (len(ranges.pictures), len(ranges.sources))
    assert scorer.estimate_layers(prepared, ["conv2"], unseen=True).mean_error > 0


def test_each_picture_is_judged_by_the_graph_that_it_did_not_choose(scored):
    scorer, prepared, _, ranges, store = scored
    assert len(prepared.without) == len(ranges.folds)
    found = np.array(scorer.pairs(prepared, ["conv2"])["int8"])
    everything = range(len(store))
    by_graph = [score_graph(make_final_graph(graph, ["conv2"]), store, everything) for graph in prepared.without]
    assert not any(np.array_equal(by_graph[0], other) for other in by_graph[1:])
    for index, picture in enumerate(ranges.pictures):
        assert found[index] == pytest.approx(by_graph[picture.fold][index], abs=1e-3)


def test_a_choice_is_measured_once_in_whatever_order_its_layers_come(scored, monkeypatch):
    scorer, prepared, *_ = scored
    first = scorer.estimate_layers(prepared, ["conv2", "conv3"], unseen=False)
    monkeypatch.setattr(calib.layer_scoring, "score_graph", pytest.fail)
    assert scorer.estimate_layers(prepared, ["conv3", "conv2"], unseen=False) == first


def test_with_a_band_both_its_ends_are_judged_and_what_left_one_out_is_measured_anew(scored):
    scorer, prepared, reference, ranges, store = scored
    before = scorer.estimate_layers(prepared, ["conv2"], unseen=True)
    contract = replace(ranges.contract, uncertain_above=ranges.contract.threshold - 1)
    known = {(frozenset(["conv2"]), True): before}
    banded = LayerScorer(reference, store, replace(ranges, contract=contract), Recipe.CPU, known)
    found = banded.estimate_layers(prepared, ["conv2"], unseen=True)
    assert found.band is not None
    assert replace(found, band=None) == before
    taken = LayerScorer(reference, store, ranges, Recipe.CPU, known)
    assert taken.estimate_layers(prepared, ["conv2"], unseen=True) is before


def test_pairs_for_plots_are_of_all_pictures(calibrated):
    pictures = read_ranges(calibrated.ranges).pictures
    for findings in read_findings(calibrated).values():
        pairs = findings["logits"]
        assert pairs["labels"] == [picture.label for picture in pictures]
        assert 0 < np.abs(np.subtract(pairs["int8"], pairs["reference"])).mean() < np.std(pairs["reference"])
