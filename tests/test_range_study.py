"""Which way of choosing a range is best, over sources and without those that a fold leaves out."""

import numpy as np
import pytest

from calib.activations import TensorStatistics
from calib.range_study import TensorStudy, View, describe_all
from calib.ranges import CalibrationPicture, KeptRange
from lfm_deploy.quantisation import Recipe

SOURCES = ["a"] * 10 + ["b"] * 10 + ["c"] * 10
PICTURES = [
    CalibrationPicture(path=f"{source}{number}.png", sha256="0" * 64, label=1, source=source, fold="abc".index(source))
    for number, source in enumerate(SOURCES)
]


class Errors:
    """Errors of ways by their upper ends; which pictures were asked for is kept."""

    def __init__(self, of_source):
        self.of_source, self.asked = of_source, []

    def measure(self, _name, configs, pictures):
        self.asked.append((len(configs), len(pictures)))
        highs = [config.ranges["conv2.input"][1] for config in configs]
        return np.array([[self.of_source[high][SOURCES[index]] for index in pictures] for high in highs])


def view(highest, resting=0.0):
    statistics = TensorStatistics(1)
    statistics.add(np.full((1, 1, 2, 2), highest, np.float32))
    return View(statistics, np.array([resting], np.float32))


def keep(part):
    return lambda seen: seen.keep(Recipe.CPU, 0.0, part * float(seen.statistics.histogram.highest))


@pytest.fixture
def study():
    return TensorStudy("conv2.input", [Recipe.CPU], view(8.0), [view(4.0), view(8.0), view(2.0)], PICTURES)


def test_a_way_is_as_good_as_on_its_worst_source_and_a_fold_does_not_ask_its_own(study):
    # On average the first is better; on its worst source the second; without source b the first.
    bench = Errors({8.0: {"a": 0.1, "b": 0.5, "c": 0.1}, 4.0: {"a": 0.3, "b": 0.3, "c": 0.3}})
    study.attempt({Recipe.CPU: {"whole": keep(1.0), "half": keep(0.5)}}, bench)
    assert study.errors(Recipe.CPU) == {"whole": 0.5, "half": 0.3}
    assert study.best(Recipe.CPU) == "half"
    assert study.keep(Recipe.CPU).high == 4
    assert [study.best(Recipe.CPU, fold) for fold in range(3)] == ["half", "whole", "half"]
    assert [study.keep(Recipe.CPU, fold).high for fold in range(3)] == [2, 8, 1]  # in numbers of the other pictures
    assert bench.asked == [(2, 6), (2, 24)]


def test_what_is_far_from_the_best_on_a_few_pictures_of_each_source_is_given_up(study):
    bench = Errors({8.0: dict.fromkeys("abc", 1.0), 4.0: dict.fromkeys("abc", 0.1), 2.0: dict.fromkeys("abc", 0.19)})
    study.attempt({Recipe.CPU: {"whole": keep(1.0), "half": keep(0.5), "quarter": keep(0.25)}}, bench)
    assert bench.asked == [(3, 6), (2, 24)]
    assert study.errors(Recipe.CPU) == {"whole": 1.0, "half": 0.1, "quarter": 0.19}
    assert study.result().choice == {Recipe.CPU: "half"}


def test_gains_of_the_cpu_put_what_channels_rest_at_on_a_step_and_those_of_tensorrt_are_powers_of_two():
    seen = view(3.0, resting=0.7)
    cpu, other = (seen.keep(recipe, 0.0, 8.0).gains[0] for recipe in (Recipe.CPU, Recipe.TENSORRT))
    assert other == 2
    assert 0.7 * cpu * 255 / 8 == pytest.approx(np.floor(0.7 * 2 * 255 / 8))


def test_settings_have_gains_and_parts_only_where_there_are_any():
    plain = KeptRange(low=0.0, high=9.0, gains=(1.0, 1.0))
    split = KeptRange(low=0.0, high=9.0, gains=(1.0, 2.5), parts=(1, 2))
    config = describe_all({"a": {Recipe.CPU: plain}, "b": {Recipe.CPU: split}, "c": {}}, Recipe.CPU)
    assert config.ranges == {"a": (0.0, 9.0), "b": (0.0, 9.0)}
    assert {name: gains.tolist() for name, gains in config.gains.items()} == {"b": [1.0, 2.5]}
    assert {name: parts.tolist() for name, parts in config.parts.items()} == {"b": [1, 2]}
    assert config.channel_ranges is None
