import io
import xml.etree.ElementTree as ET  # the name that everyone uses

import numpy as np
import pytest

from lfm_deploy.report.plots import plot_activations, plot_batches, plot_scatter, plot_sensitivity

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


def engine(name, arithmetic, *fps, limit=None):
    points = [
        {
            "batch": 4**index,
            "fps": value,
            "p50_ms": 1e3 * 4**index / value,
            "p95_ms": 2e3 * 4**index / value,
            "roofline": None if limit is None else {"fps": limit},
        }
        for index, value in enumerate(fps)
    ]
    return {"name": name, "arithmetic": arithmetic, "points": points}


def test_batches_show_every_engine_that_ran_and_each_roofline_once():
    engines = [
        engine("pytorch", "fp32", 10, 20, 30, limit=120.0),
        engine("ort <fp16>", "fp32", 50, 90, 110, limit=120.0),
        engine("ort int8", "int8", 100, 200, 250, limit=300.0),
        engine("no limit", "fp32", 40),
        engine("absent", "fp16"),
    ]
    files = plot_batches(engines, "a processor & 2 threads")
    found = texts(files["svg"].decode())
    assert {"pytorch", "ort <fp16>", "ort int8", "no limit", "a processor & 2 threads", "1", "4", "16"} <= set(found)
    assert "absent" not in found
    assert [text for text in found if text.startswith(("FP32 ", "INT8 "))] == ["FP32 120", "INT8 300"]


def test_batches_are_drawn_in_colour_and_in_ink():
    from PIL import Image

    files = plot_batches([engine("pytorch", "fp32", 10, 20, limit=50.0)], "x")
    with Image.open(io.BytesIO(files["png"])) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert image.size[0] > 1000  # readable in print
    assert (pixels == 255).all(axis=1).mean() > 0.5  # paper
    assert (np.abs(pixels.astype(int) - [0x3B, 0x82, 0xC4]).max(axis=1) < 8).sum() > 500  # the curve's blue
