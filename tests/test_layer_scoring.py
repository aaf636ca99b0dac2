from pathlib import Path

import numpy as np
import onnx
import pytest

import calib.layer_scoring
from calib.calibration import load_pictures
from calib.graph_preparation import prepare_graph
from calib.layer_scoring import LayerScorer
from calib.pictures import PictureStore
from calib.ranges import CHOOSE, JUDGE, read_ranges
from calib.search_findings import read_findings
from lfm_deploy.artifacts import Precision, read_graph_info
from lfm_deploy.quantisation import Recipe


@pytest.fixture(scope="module")
def scored(calibrated):
    """A scorer for the CPU, the graph that it takes, and what was measured."""
    ranges, info = read_ranges(calibrated.ranges), read_graph_info(calibrated.graph(Precision.FP32))
    reference = onnx.load(calibrated.graph(Precision.FP32))
    with PictureStore() as store:
        load_pictures(ranges, Path(ranges.images), info.config, store)
        scorer = LayerScorer(reference, store, ranges, Recipe.CPU)
        prepared = prepare_graph(reference, reference, ranges, store, scorer.parts[CHOOSE], Recipe.CPU)
        yield scorer, prepared, reference, ranges


def test_pictures_that_judge_chose_nothing_and_are_seen_in_a_mirror_too(scored):
    scorer, _, reference, ranges = scored
    assert not set(scorer.parts[CHOOSE]) & set(scorer.parts[JUDGE])
    assert sorted(scorer.parts[CHOOSE] + scorer.parts[JUDGE]) == list(range(len(ranges.pictures)))
    chose, judged = scorer.logits(reference, CHOOSE), scorer.logits(reference, JUDGE)
    assert (len(chose), len(judged)) == (1, 2)
    assert (judged[0] != judged[1]).all()


def test_the_reference_changes_nothing_and_int8_something(scored):
    scorer, prepared, reference, _ = scored
    same = scorer.estimate(reference, JUDGE)
    assert (same.flips, same.acc, same.seen_flips, same.mean_error) == (0, 0, 0, 0)
    assert scorer.estimate_layers(prepared, ["conv2"], JUDGE).mean_error > 0


def test_a_choice_is_measured_once_in_whatever_order_its_layers_come(scored, monkeypatch):
    scorer, prepared, _, _ = scored
    first = scorer.estimate_layers(prepared, ["conv2", "conv3"], CHOOSE)
    monkeypatch.setattr(calib.layer_scoring, "score_graph", pytest.fail)
    assert scorer.estimate_layers(prepared, ["conv3", "conv2"], CHOOSE) == first


def test_pairs_for_plots_are_of_the_pictures_that_judge(calibrated):
    judges = [picture for picture in read_ranges(calibrated.ranges).pictures if picture.part == JUDGE]
    for findings in read_findings(calibrated).values():
        pairs = findings["logits"]
        assert pairs["labels"] == [picture.label for picture in judges]
        assert 0 < np.abs(np.subtract(pairs["int8"], pairs["reference"])).mean() < np.std(pairs["reference"])
