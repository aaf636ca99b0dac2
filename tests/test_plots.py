import io
import re
import xml.etree.ElementTree as ET  # the name that everyone uses

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve

from lfm_deploy.report.plots.curves import plot_curves, precision_recall, thin_curve
from lfm_deploy.report.plots.envelope import plot_envelope
from lfm_deploy.report.plots.histograms import plot_histogram
from lfm_deploy.report.plots.quantised import plot_activations, plot_sensitivity
from lfm_deploy.report.plots.scatter import plot_scatter
from lfm_deploy.report.plots.speed import plot_batches, plot_speeds

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg):
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314  # our own


def tensor(kept, chosen="99.9 %"):
    counts = list(range(127, -1, -1))
    return {"histogram": counts, "histogram_low": 0.0, "histogram_high": 8.0, "kept": kept, "chosen": chosen}


def sensitivity(precision, only, without):
    return {"precision": precision, "only": {"flips": only}, "without": {"flips": without}}


def condition(name, value, high=None):
    found = None if value is None else {"value": value, "low": value, "high": high or value}
    return {"name": name} | dict.fromkeys(("acc", "ap", "acc_fake", "fpr"), found)


def estimate(value):
    return None if value is None else {"value": value, "low": value - 1, "high": None if value > 90 else value + 1}


def timed(name, *fps):
    speeds = [{"batch": 8**index, "fps": value, "latency_ms": 1e3 / value} for index, value in enumerate(fps)]
    return {"name": name, "speeds": speeds}


RNG = np.random.default_rng(0)
LABELS = [0, 1, 1] * 3
PLOTS = {
    "activations": lambda title: plot_activations({"a": tensor([0, 3]), "b": tensor(None)}, title=title),
    "sensitivity": lambda title: plot_sensitivity({"conv1": sensitivity("int8", 0.1, None)}, 0.7, title=title),
    "scatter": lambda title: plot_scatter(np.arange(9), np.arange(9), LABELS, 4.0, name="<int8>", title=title),
    "curves": lambda title: plot_curves([("<int8>", np.arange(9), LABELS)], title=title),
    "histogram": lambda title: plot_histogram(np.arange(9), LABELS, 4.0, title=title, scope="x"),
    "envelope": lambda title: plot_envelope([condition("jpeg <90>", 80.0), condition("none", None)], title=title),
    "speeds": lambda title: plot_speeds([timed("<int8>", 10, 20)], "latency_ms", title=title),
}


@pytest.fixture(params=PLOTS)
def plot(request):
    return PLOTS[request.param]


def test_it_is_one_svg_element_in_the_colour_of_the_page(plot):
    svg = plot("a <title> & more")
    root = ET.fromstring(svg)  # noqa: S314
    assert root.tag == f"{SVG}svg"
    assert "currentColor" in svg
    assert "#123454" not in svg
    assert not {"metadata", "style"} & {element.tag.removeprefix(SVG) for element in root.iter()}  # of the whole page


def test_it_says_what_it_shows(plot):
    root = ET.fromstring(plot("a <title> & more"))  # noqa: S314
    title, description = root.attrib["aria-labelledby"].split()
    assert root.attrib["role"] == "img"
    assert [(part.tag.removeprefix(SVG), part.attrib["id"]) for part in root[:2]] == [
        ("title", title),
        ("desc", description),
    ]
    assert root[0].text.startswith("a <title> & more")
    assert root[1].text


def test_the_same_values_give_the_same_text_and_two_titles_share_no_identifier(plot):
    one, again, other = plot("one"), plot("one"), plot("other")
    assert one == again
    first, second = (set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, other))
    assert first
    assert not first & second
    assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', one)) <= first


def test_text_that_looks_like_an_attribute_stays_as_it_is():
    name = 'id="x" url(#y) 1.23456'
    assert f"logit, {name}" in texts(plot_scatter([1.0], [1.0], [1], 0.0, name=name, title="t"))


@pytest.mark.parametrize("levels", [7, 10**6])
def test_curves_agree_with_sklearn(levels):
    labels = RNG.integers(0, 2, 400)
    logits = RNG.integers(0, levels, 400) + 2 * labels  # with 7 levels most logits tie
    precision, recall, _ = precision_recall_curve(labels, logits)
    found = precision_recall(logits, labels)
    # From low thresholds to high there, the other way round here; the point at recall 0 is a convention of each.
    assert found[0, 1:] == pytest.approx(recall[:-1][::-1], abs=1e-12)
    assert found[1, 1:] == pytest.approx(precision[:-1][::-1], abs=1e-12)


def test_a_thinned_curve_is_short_and_within_a_pixel_of_the_whole():
    labels = RNG.integers(0, 2, 50_000)
    curve = precision_recall(RNG.normal(size=50_000) + labels, labels)
    thin = thin_curve(curve)
    assert thin.shape[1] <= 1600
    assert thin[:, [0, -1]].tolist() == curve[:, [0, -1]].tolist()
    between = np.interp(curve[0], thin[0], thin[1])
    # Where precision falls at one recall, interpolation meets some point of the fall; elsewhere they are a pixel apart.
    assert np.quantile(np.abs(between - curve[1]), 0.999) < 1 / 200


def test_a_jump_keeps_both_its_ends():
    curve = np.array([[0, 0.5, 0.5, 1.0], [1, 1, 0.2, 0.2]])
    assert thin_curve(curve).tolist() == curve.tolist()


def test_histograms_count_every_picture_and_leave_out_what_is_no_number():
    svg = plot_histogram([-5, -1, 2, 9000, np.nan], [0, 0, 1, 1, 1], 0.0, title="x", scope="s")
    assert {"real (2)", "fake (2)"} <= set(texts(svg))


def test_a_histogram_of_equal_logits_is_drawn():
    assert "real (3)" in texts(plot_histogram([1.0] * 3, [0] * 3, 1.0, title="x", scope="s"))


def test_ranges_and_what_has_none_are_named():
    svg = plot_activations({"a.input": tensor([0, 3.25]), "b.input": tensor(None)}, title="t")
    assert "a.input: 99.9 %, 0 to 3.25" in texts(svg)
    assert "b.input: stays in floating point" in texts(svg)


def test_the_budget_and_every_layer_stand_in_the_sensitivity_plot():
    layers = {"conv1": sensitivity("int8", 0.1, 0.2), "conv2": sensitivity("fp16", 0.9, 0.1)}
    assert {"conv1 (int8)", "conv2 (fp16)", "budget 0.7 %"} <= set(texts(plot_sensitivity(layers, 0.7, title="t")))


def test_flipped_pictures_are_counted_apart():
    svg = plot_scatter([-2, -1, 1, 2], [-2, 1, 1, -3], [0, 0, 1, 1], 0.0, name="x", title="t")
    assert {"real (1)", "fake (1)", "flipped (2)", "logit, x"} <= set(texts(svg))


def test_many_points_are_an_image_and_flips_stay_crosses():
    x = RNG.normal(size=20_000)
    y = x.copy()
    y[:5] = -x[:5]
    svg = plot_scatter(x, y, RNG.integers(0, 2, 20_000), 0.0, name="x", title="t")
    assert len(svg) < 200_000
    assert "data:image/png;base64," in svg
    assert "flipped (5)" in texts(svg)


def test_the_envelope_names_every_condition_and_draws_none_for_no_figure():
    svg = plot_envelope([condition("as it is", 94.0, 96.0), condition("one class", None)], title="t")
    assert {"as it is", "one class", "fakes found"} <= set(texts(svg))
    assert "the least accuracy is after as it is" in svg


def test_speeds_show_every_engine_at_its_batches():
    assert {"pytorch", "ort", "1", "8"} <= set(
        texts(plot_speeds([timed("pytorch", 10, 20), timed("ort", 30)], "fps", title="t"))
    )


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
