import copy
import io

import numpy as np
import pytest
from PIL import Image

from lfm_deploy.exploration.examples import Example, Kind
from lfm_deploy.report.feature_images import PANELS, draw_panels
from lfm_deploy.report.feature_plots import plot_embedding, plot_examples
from lfm_deploy.report.feature_texts import describe_method, describe_result, shorten

BLUE, RED = (0x2B, 0x7B, 0xBA), (0xD9, 0x54, 0x2B)


def point(index, label, verdict, name):
    right = None if label is None else label == ("real", "fake").index(verdict)
    return {
        "path": f"{name}/$\\frac{index}$ \u4e2d.png",
        "set": name,
        "label": label,
        "logit": 1.5,
        "verdict": verdict,
        "right": right,
        "x": float(index),
        "y": float(index % 3),
    }


def report(points):
    sets = list(dict.fromkeys(point["set"] for point in points))

    def count(among):
        labels = [point["label"] for point in among]
        rights = [point["right"] for point in among]
        return {
            "real": labels.count(0),
            "fake": labels.count(1),
            "unlabelled": labels.count(None),
            "right": rights.count(True),
            "wrong": rights.count(False),
            "judged": len(among),
        }

    return {
        "points": points,
        "counts": {"available": 50, "skipped": 0} | count(points),
        "sets": [{"set": name} | count([point for point in points if point["set"] == name]) for name in sets],
        "silhouette": 0.25,
        "seed": 0,
        "checkpoint": {"file": "x.pth", "sha256": "ab" * 32},
        "embedding": {
            "vectors": "TKP vectors",
            "dimensions": 16,
            "preparation": "every value standardised",
            "perplexity": 3.0,
            "iterations": 1000,
        },
    }


def pixels(png):
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def share(array, colour):
    return (np.abs(array - colour).max(axis=2) < 8).mean()


POINTS = [point(index, index % 2, ("real", "fake")[index % 2], "first") for index in range(10)]


def test_the_map_is_drawn_on_white_in_the_colours_of_the_classes():
    array = pixels(plot_embedding(report(POINTS)))
    assert min(array.shape[:2]) > 1000  # readable on a slide
    assert share(array, (255, 255, 255)) > 0.8
    real = pixels(plot_embedding(report([point(index, 0, "real", "first") for index in range(10)])))
    # Marks are drawn with an alpha; the legend's are not, and a class that is not there is not in it.
    assert share(array, RED) > 0
    assert share(real, BLUE) > 0
    assert share(real, RED) == 0


def test_wrong_decisions_are_ringed_and_test_sets_have_panels():
    wrong = [point(index, index % 2, ("fake", "real")[index % 2], "first") for index in range(10)]
    one, five = (pixels(plot_embedding(report([*wrong[:count], *POINTS[count:]]))) for count in (1, 5))
    ink = (0x1C, 0x25, 0x30)
    # A ring has about 200 pixels, some of them soft; the texts differ by a few digits.
    assert share(five, ink) - share(one, ink) > 300 / one[..., 0].size
    several = pixels(plot_embedding(report([*POINTS[:5], *(point(9, None, "fake", f"set {name}") for name in "abcd")])))
    assert several.shape[1] / several.shape[0] == pytest.approx(16 / 9, abs=0.01)


def test_points_on_one_spot_do_no_harm():
    plot_embedding(report([point(0, 0, "real", "first")] * 10))


def example(label, verdict, height=64, width=64):
    rng = np.random.default_rng(0)
    spread = np.zeros((height, width))
    spread[:8, :8] = 1.0
    return Example(
        index=0,
        kind=Kind(label, verdict),
        picture=rng.integers(0, 256, (height, width, 3), np.uint8),
        residual=np.full((height, width), 16, np.float32),
        selected=spread * 5,
        spread=spread,
    )


def rows(examples):
    return [
        point(0, e.kind.label, ("real", "fake")[e.kind.verdict], "first") | {"kind": e.kind.title} for e in examples
    ]


@pytest.mark.parametrize("kinds", [[(0, 0)], [(0, 1), (1, 1), (1, 0)], [(None, 1), (None, 0)]])
def test_examples_of_all_kinds_stand_beside_each_other(kinds):
    examples = [example(*kind) for kind in kinds]
    array = pixels(plot_examples(report(POINTS) | {"examples": rows(examples)}, examples))
    sides = len({kind[1] if kind[0] is None else kind[0] for kind in kinds})
    assert array.shape[1] > 1000 * sides


def test_panels_make_residuals_visible_as_they_say():
    picture, residual, selected, evidence = (np.asarray(image).astype(int) for image in draw_panels(example(0, 0)))
    assert (picture == example(0, 0).picture).all()
    assert (residual == 128).all()  # the square root of 16/64, in bytes
    assert selected[0, 0].sum() > 600  # inferno's bright end
    assert selected[40, 40].sum() < 10
    assert evidence[0, 0, 0] > evidence[0, 0, 2]  # red for fake
    assert "white at 64" in PANELS[1].legend


def test_large_pictures_are_drawn_smaller():
    assert [image.size for image in draw_panels(example(0, 0, 600, 1200))] == [(512, 256)] * 4


def test_words_say_what_was_counted_and_what_there_is_not():
    values = report(POINTS)
    assert describe_result(values) == (
        "TKP vectors of 10 pictures, by t-SNE",
        "16 values a picture; 10 of 10 judged right (100.0 %); "
        "silhouette score of real against fake 0.25, from -1 to 1",
    )
    assert describe_method(values).startswith("A balanced sample of 50 pictures. Every value standardised; t-SNE")
    alone = copy.deepcopy(report([point(index, None, "fake", "first") for index in range(10)])) | {"silhouette": None}
    assert "judged right" not in describe_result(alone)[1]
    assert "no silhouette score" in describe_result(alone)[1]


@pytest.mark.parametrize(
    ("text", "shown"), [("short.png", "short.png"), ("a" * 9 + "z" * 9, "aaaaa…zzzz"), ("a\nb\x1b.png", "a?b?.png")]
)
def test_names_are_shortened_in_their_middle_and_stay_on_one_line(text, shown):
    assert shorten(text, 10) == shown
