import xml.etree.ElementTree as ET  # the name that everyone uses

import numpy as np
import pytest

from lfm_deploy.plots import plot_activations, plot_scatter, plot_sensitivity

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg):
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314  # our own


def tensor(kept, chosen="99.9 %"):
    counts = list(range(127, -1, -1))
    return {"histogram": counts, "histogram_low": 0.0, "histogram_high": 8.0, "kept": kept, "chosen": chosen}


def sensitivity(precision, only, without):
    return {"precision": precision, "only": {"flips": only}, "without": {"flips": without}}


@pytest.fixture(params=["activations", "sensitivity", "scatter"])
def plot(request):
    rng = np.random.default_rng(0)
    return {
        "activations": lambda: plot_activations({"a.input": tensor([0, 3]), "b.input": tensor(None)}),
        "sensitivity": lambda: plot_sensitivity({"conv1": sensitivity("int8", 0.1, None)}, 0.7),
        "scatter": lambda: plot_scatter(rng.normal(size=9), rng.normal(size=9), [0, 1, 1] * 3, 0.0, name="<int8>"),
    }[request.param]


def test_it_is_one_svg_element_in_the_colour_of_the_page(plot):
    svg = plot()
    assert svg.startswith('<svg role="img"')
    assert ET.fromstring(svg).tag == f"{SVG}svg"  # noqa: S314
    assert "currentColor" in svg
    assert "#123454" not in svg
    assert "<rdf" not in svg or "<dc:date>" not in svg


def test_the_same_values_give_the_same_text():
    layers = {"conv1": sensitivity("int8", 0.1, 0.2)}
    assert plot_sensitivity(layers, 0.7) == plot_sensitivity(layers, 0.7)


def test_ranges_and_what_has_none_are_named():
    svg = plot_activations({"a.input": tensor([0, 3.25]), "b.input": tensor(None)})
    assert "a.input: 99.9 %, 0 to 3.25" in texts(svg)
    assert "b.input: stays in floating point" in texts(svg)


def test_the_budget_and_every_layer_stand_in_the_sensitivity_plot():
    svg = plot_sensitivity({"conv1": sensitivity("int8", 0.1, 0.2), "conv2": sensitivity("fp16", 0.9, 0.1)}, 0.7)
    found = texts(svg)
    assert {"conv1 (int8)", "conv2 (fp16)", "budget 0.7 %"} <= set(found)


def test_flipped_pictures_are_counted_apart():
    svg = plot_scatter([-2, -1, 1, 2], [-2, 1, 1, -3], [0, 0, 1, 1], 0.0, name="x")
    assert {"real (1)", "fake (1)", "flipped (2)", "logit, x"} <= set(texts(svg))


def test_names_stay_text():
    assert "logit, <b>&" in texts(plot_scatter([1.0], [1.0], [1], 0.0, name="<b>&"))
